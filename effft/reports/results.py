"""The table of results, for the terminal, Markdown, HTML and JSON: of runs in memory and of runs read from MLflow."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial

import numpy as np
import pandas as pd

from effft.config import Amount
from effft.evaluation.metric_keys import CROSS_VALIDATED, home_split
from effft.evaluation.statistics import chance_remark
from effft.reports.advice import MEMORY
from effft.reports.blocks import Table
from effft.reports.data import GAP, OOD_MEAN, ReportData, metric_names, split_title
from effft.reports.groups import DEMO_SEED, RunGroup, Statistic
from effft.reports.page import markdown_blocks
from effft.runs.compare import Outcome

REFERENCES = ("majority", "chance")
COSTS = ("trainable_share", "peak_memory_mb", "train_seconds", "evaluation_seconds")


@dataclass(frozen=True)
class ResultRow:
    """A strategy at one number of examples.

    runs: distinct runs with a result; failed: runs without one; in_domain: the cross-validated score where there is no
    test file; gap: in domain minus the mean of the OOD sets; labels_used: those that shaped a model (it trained on
    them, they chose its epoch, or they are its demonstrations). Costs are medians over runs, NaN where they were not
    measured.
    """

    strategy: str
    amount: Amount
    runs: int = 0
    failed: int = 0
    in_domain: Statistic | None = None
    ood: dict[str, Statistic | None] = field(default_factory=dict)
    ood_mean: Statistic | None = None
    gap: Statistic | None = None
    labels_used: float = math.nan
    trainable_share: float = math.nan
    peak_memory_mb: float = math.nan
    train_seconds: float = math.nan
    evaluation_seconds: float = math.nan
    remarks: tuple[str, ...] = ()

    def score(self, split: str) -> Statistic | None:
        """The score on a split, or OOD_MEAN, or GAP."""
        made = {"in_domain": self.in_domain, CROSS_VALIDATED: self.in_domain, OOD_MEAN: self.ood_mean, GAP: self.gap}
        return made[split] if split in made else self.ood.get(split.removeprefix("ood/"))


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
    home: str = "in_domain"

    @property
    def splits(self) -> tuple[str, ...]:
        """That in domain, then `ood/<name>`."""
        return (self.home, *(f"ood/{name}" for name in self.sets))

    def block(self, intervals: bool = False, remarks: bool = True, narrow: bool = False) -> Table:
        """The table as text. narrow: without the columns that do not fit 80 characters, the remarks among them."""

        def score(row: ResultRow, split: str, intervals: bool = intervals) -> str:
            stat = row.score(split)
            return "-" if stat is None else str(stat if intervals else replace(stat, low=None, high=None))

        splits = (self.home, OOD_MEAN) if narrow and len(self.sets) > 1 else self.splits
        columns: dict[str, Callable[[ResultRow], str]] = {
            "strategy": lambda row: row.strategy,
            "per label": lambda row: str(row.amount),
            "labels": lambda row: _number(row.labels_used, "{:.0f}"),
            "runs": lambda row: str(row.runs),
            f"{split_title(self.home)} {self.metric}": partial(score, split=self.home),
            **{split_title(split): partial(score, split=split) for split in splits[1:]},
            "gap": partial(score, split=GAP, intervals=False),
            "trainable": lambda row: _number(100 * row.trainable_share, "{:.3g} %"),
            "memory" if narrow else "peak memory": lambda row: _number(row.peak_memory_mb, "{:,.0f} MB"),
            "training": lambda row: _number(row.train_seconds, "{:.1f} s"),
            "evaluation": lambda row: _number(row.evaluation_seconds, "{:.1f} s"),
            "remarks": lambda row: "; ".join(row.remarks),
        }
        dropped = ["gap", "trainable", "evaluation"] * narrow + ["remarks"] * (narrow or not remarks)
        dropped += ["labels"] * (narrow or all(math.isnan(row.labels_used) for row in self.rows))
        heads = [head for head in columns if head not in dropped]
        rows = [[columns[head](row) for head in heads] for row in self.rows]
        for place, name in enumerate(REFERENCES if self.references else ()):
            known = [self.references.get(split) for split in splits]
            cells = [
                name,
                *[""] * (2 + ("labels" in heads)),
                *("-" if scores is None else f"{scores[place]:.3f}" for scores in known),
            ]
            rows.append(cells + [""] * (len(heads) - len(cells)))
        left = tuple(place for place, head in enumerate(heads) if head in ("strategy", "remarks"))
        return Table(tuple(heads), rows, left=left, quiet=range(len(self.rows), len(rows)))

    def sentences(self) -> list[str]:
        """The remarks of every row, then the warnings: what stands below a table without a column of remarks."""
        remarked = [row for row in self.rows if row.remarks]
        remarks = [f"{row.strategy} at {row.amount.phrase}: {'; '.join(row.remarks)}." for row in remarked]
        return [*remarks, *self.warnings]

    def markdown(self) -> str:
        """The table and its warnings as Markdown."""
        return markdown_blocks([self.block()]) + "".join(f"\n- {sentence}" for sentence in self.warnings) + "\n"

    def json(self) -> object:
        """The table as a value for JSON: unrounded, null for what was not measured."""
        known = {
            name: {split: scores[place] for split, scores in self.references.items()}
            for place, name in enumerate(REFERENCES)
        }
        rows = []
        for row in self.rows:
            values = asdict(row)
            per_label, _ = values.pop("amount")
            values[self.home] = values.pop("in_domain")
            rows.append(values | {"per_label": per_label or None, "rows": None if per_label else str(row.amount)})
        table = {"metric": self.metric, "rows": rows, **known, "warnings": self.warnings}
        return _without_nan(table)

    def metrics(self) -> dict[str, float]:
        """Flat metrics for the parent run: 'lora-pbft/32/in_domain/mcc', with '_sd' where there are several runs."""
        flat: dict[str, float] = {}
        for row in self.rows:
            place = f"{row.strategy.replace('+', '-')}/{row.amount.name}"
            for split in (*self.splits, GAP):
                key = f"{place}/{split}" if split == GAP else f"{place}/{split}/{self.metric}"
                if stat := row.score(split):
                    flat |= {key: stat.mean} | ({} if stat.sd is None else {f"{key}_sd": stat.sd})
            flat |= {f"{place}/{name}": value for name in COSTS if not math.isnan(value := getattr(row, name))}
            flat[f"{place}/failed"] = float(row.failed)
        return flat


def results_table(
    data: ReportData, backbone: str, failed: Mapping[tuple[str, Amount], int] | None = None
) -> ResultsTable:
    """The table of one backbone. failed: (strategy, examples) -> number of runs without a result."""
    lost = dict(failed or {})
    groups = data.groups_on(backbone)
    controls = [group for group in data.groups_in(data.controls) if group.backbone == backbone]
    rows = [_row(data, group, lost.pop((group.variant, group.amount), 0)) for group in (*groups, *controls)]
    rows += [ResultRow(name, count, failed=runs, remarks=("FAILED",)) for (name, count), runs in lost.items()]
    rows.sort(key=lambda row: row.amount)
    references = {split: known for split in data.splits if (known := data.references(groups, split)) is not None}
    warnings = tuple(sentence for group in groups if (sentence := identical_results(group)))
    return ResultsTable(data.primary, data.sets, tuple(rows), references, warnings, data.home)


def outcomes_table(outcomes: Sequence[Outcome]) -> ResultsTable:
    """The table of a comparison in memory; runs without a result are counted and named in the warnings."""
    records = [
        {"backbone": o.config.model, "strategy": o.config.strategy, "variant": o.row}
        | {"amount": Amount.of(vars(o.config)), "seed": o.config.seed, "data_seed": o.config.data_seed}
        | {DEMO_SEED: o.config.demo_seed}
        | {f"metric:{key}": value for key, value in o.result.metrics.items()}
        for o in outcomes
        if o.result is not None
    ]
    columns = None if records else ["backbone", "strategy", "variant", "amount", "seed", "data_seed"]
    frame = pd.DataFrame.from_records(records, columns=columns)
    primary, sets = next(((o.result.primary, o.result.ood) for o in outcomes if o.result is not None), ("", ()))
    home = home_split(metric_names(frame), primary)
    data = ReportData(outcomes[0].config.task, frame, frame.head(0), primary, sets, {}, frame.head(0), home)
    failed = Counter((outcome.row, Amount.of(vars(outcome.config))) for outcome in outcomes if outcome.result is None)
    table = results_table(data, outcomes[0].config.model, failed)
    sentences = tuple(f"FAILED {outcome.failure}" for outcome in outcomes if outcome.failure)
    return replace(table, warnings=sentences + table.warnings)


def _row(data: ReportData, group: RunGroup, failed: int) -> ResultRow:
    share = group.values("resources/trainable_parameters") / group.values("resources/total_parameters")
    return ResultRow(
        strategy=group.variant,
        amount=group.amount,
        runs=len(group.runs),
        failed=failed,
        in_domain=data.stat(group, data.home),
        ood={name: data.stat(group, f"ood/{name}") for name in data.sets},
        ood_mean=data.stat(group, OOD_MEAN),
        gap=data.stat(group, GAP),
        labels_used=group.median("resources/labels_used"),
        trainable_share=float(np.nanmedian(share)) if not np.isnan(share).all() else math.nan,
        peak_memory_mb=group.median(MEMORY),
        train_seconds=group.median("resources/train_seconds"),
        evaluation_seconds=group.median("resources/evaluation_seconds"),
        remarks=(*remarks(data, group), *((f"{failed} FAILED",) if failed else ())),
    )


def remarks(data: ReportData, group: RunGroup) -> Iterator[str]:
    """'in domain at chance', 'ood/x below majority': which scores knowing nothing would reach too.

    The interval is that over runs; for a single run, its own over examples; else the score itself.
    """
    for split in data.splits:
        stat, known = data.stat(group, split), data.references([group], split)
        if stat is not None and known is not None:
            ends = [group.stat(f"{split}/{data.primary}_{end}") for end in ("low", "high")]
            low, high = (end.mean if end else stat.mean for end in ends) if stat.low is None else stat.interval
            if remark := chance_remark(stat.mean, low, high, *known):
                yield f"{split_title(split)} {remark}"
    if group.copies:
        yield f"{group.copies} identical results counted once"


def identical_results(group: RunGroup) -> str:
    """A sentence on runs with other seeds that gave exactly the numbers of another run; '' where there are none."""
    if not group.copies:
        return ""
    return (
        f"{group.variant} at {group.amount.phrase} on {group.backbone}: {group.copies} runs have exactly the "
        "results of another run with other seeds; each result counts once. That is right where neither seed changes "
        "the training (the same examples are drawn, nothing is random); otherwise a seed did not reach the training."
    )


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else form.format(value)


def _without_nan(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
