"""The table of results, for the terminal, Markdown, HTML and JSON: of runs in memory and of runs read from MLflow."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from effft.evaluation.statistics import chance_remark
from effft.reports.blocks import Table
from effft.reports.data import ReportData
from effft.reports.groups import RunGroup, Statistic
from effft.reports.markdown import markdown_blocks
from effft.runs.compare import Outcome

if TYPE_CHECKING:
    from rich.console import Console

REFERENCES = ("majority", "chance")


@dataclass(frozen=True)
class ResultRow:
    """A strategy at one number of examples per label.

    runs: distinct runs with a result; failed: runs without one; gap: in domain minus the mean of the OOD sets. Costs
    are medians over runs, NaN where they were not measured.
    """

    strategy: str
    per_label: int
    runs: int = 0
    failed: int = 0
    in_domain: Statistic | None = None
    ood: dict[str, Statistic | None] = field(default_factory=dict)
    ood_mean: Statistic | None = None
    gap: Statistic | None = None
    trainable_share: float = math.nan
    peak_memory_bytes: float = math.nan
    train_seconds: float = math.nan
    evaluation_seconds: float = math.nan
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class ResultsTable:
    """Rows by number of examples per label, best in domain first.

    references: split -> what always answering the most frequent label, and guessing, score. warnings: sentences.
    """

    metric: str
    sets: tuple[str, ...]
    rows: tuple[ResultRow, ...]
    references: dict[str, tuple[float, float]]
    warnings: tuple[str, ...] = ()

    def block(self, intervals: bool = False, narrow: bool = False) -> Table:
        """The table as text. narrow: without the columns that do not fit 80 characters, the remarks among them."""
        splits = ("in_domain", *(f"ood/{name}" for name in self.sets))
        shown = ("in_domain", "OOD mean") if narrow and len(self.sets) > 1 else splits
        heads = [
            "strategy",
            "per label",
            "runs",
            *(split.replace("in_domain", f"in domain {self.metric}") for split in shown),
        ]
        heads += (
            ["memory", "training"]
            if narrow
            else ["gap", "trainable", "peak memory", "training", "evaluation", "remarks"]
        )
        rows = [self._texts(row, shown, intervals, narrow) for row in self.rows]
        for place, name in enumerate(REFERENCES if self.references else ()):
            known = [self.references.get(split) for split in shown]
            cells = [name, "", "", *("-" if scores is None else f"{scores[place]:.3f}" for scores in known)]
            rows.append(cells + [""] * (len(heads) - len(cells)))
        left = (0,) if narrow else (0, len(heads) - 1)
        return Table("results", tuple(heads), rows, "", left, tuple(range(len(self.rows), len(rows))))

    def _texts(self, row: ResultRow, shown: Sequence[str], intervals: bool, narrow: bool) -> list[str]:
        by_split = {"in_domain": row.in_domain, "OOD mean": row.ood_mean, **{f"ood/{k}": v for k, v in row.ood.items()}}
        cells = [row.strategy, str(row.per_label), str(row.runs)]
        cells += [_score(by_split.get(split), intervals) for split in shown]
        memory, seconds = _number(row.peak_memory_bytes / 1e6, "{:,.0f} MB"), _number(row.train_seconds, "{:.1f} s")
        if narrow:
            return [*cells, memory, seconds]
        share, evaluation = (
            _number(100 * row.trainable_share, "{:.3g} %"),
            _number(row.evaluation_seconds, "{:.1f} s"),
        )
        return [*cells, _score(row.gap, intervals=False), share, memory, seconds, evaluation, "; ".join(row.remarks)]

    def sentences(self) -> list[str]:
        """The remarks of every row, then the warnings: what stands below a table without a column of remarks."""
        remarks = [
            f"{row.strategy} at {row.per_label} per label: {'; '.join(row.remarks)}."
            for row in self.rows
            if row.remarks
        ]
        return [*remarks, *self.warnings]

    def print(self, console: "Console") -> None:
        """Print the table in all its columns where they fit, else in few; remarks and warnings below it."""
        from rich.measure import Measurement
        from rich.table import Table as RichTable
        from rich.text import Text as RichText

        unlimited = console.options.update(width=1000)
        for narrow in (False, True):
            block = self.block(narrow=narrow)
            count = len(block.heads) - (not narrow)  # the remarks stand below
            title = "mean ± sd over runs" if narrow else "mean ± sd over runs; gap = in domain - mean of OOD"
            padding = (0, 1 if narrow else 2, 0, 0)
            table = RichTable(title=title, title_justify="left", box=None, padding=padding)
            for place, head in enumerate(block.heads[:count]):
                words = "\n".join(head.rsplit(" ", 1))
                table.add_column(words, justify="left" if place in block.left else "right", no_wrap=place > 0)
            for number, row in enumerate(block.rows):
                table.add_row(*map(RichText, row[:count]), style="dim" if number in block.quiet else None)
            if narrow or Measurement.get(console, unlimited, table).maximum <= console.width:
                console.print(table)
                break
        for sentence in self.sentences():
            console.print(sentence, markup=False)

    def markdown(self) -> str:
        """The table and its warnings as Markdown."""
        return markdown_blocks([self.block()]) + "".join(f"\n- {sentence}" for sentence in self.warnings) + "\n"

    def json(self) -> object:
        """The table as a value for JSON: unrounded, null for what was not measured."""
        known = {
            name: {split: scores[place] for split, scores in self.references.items()}
            for place, name in enumerate(REFERENCES)
        }
        table = {"metric": self.metric, "rows": [asdict(row) for row in self.rows], **known, "warnings": self.warnings}
        return _without_nan(table)

    def metrics(self) -> dict[str, float]:
        """Flat metrics for the parent run: 'lora-pbft/32/in_domain/mcc', with '_sd' where there are several runs."""
        flat: dict[str, float] = {}
        for row in self.rows:
            place = f"{row.strategy.replace('+', '-')}/{row.per_label}"
            scores = {"in_domain": row.in_domain, **{f"ood/{name}": stat for name, stat in row.ood.items()}}
            named = {f"{place}/{split}/{self.metric}": stat for split, stat in scores.items()} | {
                f"{place}/gap": row.gap
            }
            for key, stat in named.items():
                if stat is not None:
                    flat |= {key: stat.mean} | ({} if stat.sd is None else {f"{key}_sd": stat.sd})
            costs = ("trainable_share", "peak_memory_bytes", "train_seconds", "evaluation_seconds")
            flat |= {f"{place}/{name}": value for name in costs if not math.isnan(value := getattr(row, name))}
            flat[f"{place}/failed"] = float(row.failed)
        return flat


def results_table(data: ReportData, backbone: str, failed: Mapping[tuple[str, int], int] | None = None) -> ResultsTable:
    """The table of one backbone. failed: (strategy, examples per label) -> number of runs without a result."""
    lost = dict(failed or {})
    groups = data.groups_on(backbone)
    rows = [_row(data, group, lost.pop((group.variant, group.per_label), 0)) for group in groups]
    rows += [ResultRow(name, count, failed=runs, remarks=("FAILED",)) for (name, count), runs in lost.items()]
    references = {split: known for split in data.splits if (known := data.references(groups, split)) is not None}
    warnings = tuple(sentence for group in groups if (sentence := identical_results(group)))
    return ResultsTable(
        data.primary, data.sets, tuple(sorted(rows, key=lambda row: row.per_label)), references, warnings
    )


def outcomes_table(outcomes: Sequence[Outcome]) -> ResultsTable:
    """The table of a comparison in memory; runs without a result are counted and named in the warnings."""
    failed: dict[tuple[str, int], int] = {}
    for outcome in outcomes:
        if outcome.result is None:
            place = outcome.row, outcome.config.per_label
            failed[place] = failed.get(place, 0) + 1
    data = outcomes_data(outcomes)
    table = results_table(data, outcomes[0].config.model if outcomes else "", failed)
    sentences = tuple(f"FAILED {outcome.failure}" for outcome in outcomes if outcome.failure)
    return ResultsTable(table.metric, table.sets, table.rows, table.references, sentences + table.warnings)


def outcomes_data(outcomes: Sequence[Outcome]) -> ReportData:
    """The runs of a comparison as the report sees runs read back from MLflow."""
    records = [
        {"backbone": o.config.model, "strategy": o.config.strategy, "variant": o.row}
        | {name: getattr(o.config, name) for name in ("task", "per_label", "seed", "data_seed")}
        | {f"metric:{key}": value for key, value in o.result.metrics.items()}
        for o in outcomes
        if o.result is not None
    ]
    columns = ["backbone", "strategy", "variant", "task", "per_label", "seed", "data_seed"]
    frame = pd.DataFrame.from_records(records) if records else pd.DataFrame(columns=columns)
    first = next((outcome.result for outcome in outcomes if outcome.result is not None), None)
    task = outcomes[0].config.task if outcomes else ""
    return ReportData(task, frame, frame.head(0), "", first.primary if first else "", first.ood if first else (), {})


def _row(data: ReportData, group: RunGroup, failed: int) -> ResultRow:
    share = group.values("resources/trainable_parameters") / group.values("resources/total_parameters")
    return ResultRow(
        strategy=group.variant,
        per_label=group.per_label,
        runs=len(group.runs),
        failed=failed,
        in_domain=data.stat(group, "in_domain"),
        ood={name: data.stat(group, f"ood/{name}") for name in data.sets},
        ood_mean=data.ood_mean(group),
        gap=data.gap(group),
        trainable_share=float(np.nanmedian(share)) if not np.isnan(share).all() else math.nan,
        peak_memory_bytes=group.median("resources/peak_memory_bytes"),
        train_seconds=group.median("resources/train_seconds"),
        evaluation_seconds=group.median("resources/evaluation_seconds"),
        remarks=(*remarks(data, group), *((f"{failed} FAILED",) if failed else ())),
    )


def remarks(data: ReportData, group: RunGroup) -> Iterator[str]:
    """'in domain at chance', 'ood/x below majority': which scores knowing nothing would reach too."""
    for split in data.splits:
        stat, known = data.stat(group, split), data.references([group], split)
        if stat is not None and known is not None:
            remark = chance_remark(stat.mean, *score_bounds(data, group, split, stat), *known)
            if remark:
                yield f"{split.replace('in_domain', 'in domain')} {remark}"
    if group.copies:
        yield f"{group.copies} identical results counted once"


def score_bounds(data: ReportData, group: RunGroup, split: str, stat: Statistic) -> tuple[float, float]:
    """The interval over runs; for a single run, its own interval over examples; else the score itself."""
    if stat.low is not None and stat.high is not None:
        return stat.low, stat.high
    key = f"{split}/{data.primary}"
    low, high = group.stat(f"{key}_low"), group.stat(f"{key}_high")
    return (low.mean if low else stat.mean), (high.mean if high else stat.mean)


def identical_results(group: RunGroup) -> str:
    """A sentence on runs with other seeds that gave exactly the numbers of another run; '' where there are none."""
    if not group.copies:
        return ""
    return (
        f"{group.variant} at {group.per_label} per label on {group.backbone}: {group.copies} runs have exactly the "
        "results of another run with other seeds; each result counts once. That is right where neither seed changes "
        "the training (the same examples are drawn, nothing is random); otherwise a seed did not reach the training."
    )


def _score(stat: Statistic | None, intervals: bool) -> str:
    if stat is None:
        return "-"
    return str(stat) if intervals else str(Statistic(stat.mean, stat.sd, None, None, stat.count))


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else form.format(value)


def _without_nan(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
