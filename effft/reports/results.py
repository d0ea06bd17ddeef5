"""The table of results, for the terminal, Markdown, HTML and JSON: of runs in memory and of runs read from MLflow."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import pandas as pd

from effft.config import Amount
from effft.evaluation.metric_keys import home_split, row_path
from effft.evaluation.metrics import FURTHER_METRICS
from effft.evaluation.statistics import chance_remark
from effft.reports.blocks import Table
from effft.reports.data import ReportData, metric_names, split_title
from effft.reports.groups import (
    GAP,
    HOME,
    MEMORY,
    OOD_MEAN,
    OTHER_SEEDS,
    QUERY_TIME,
    SHARE,
    WORST_SLICE,
    RunGroup,
    Statistic,
)
from effft.reports.page import markdown_blocks
from effft.runs.compare import Outcome

REFERENCES = ("majority", "chance")
COSTS = {
    "trainable_share": SHARE,
    "peak_memory_mb": MEMORY,
    "train_seconds": "resources/train_seconds",
    "evaluation_seconds": "resources/evaluation_seconds",
}
"""Name of a cost -> its metric, of which the table holds the median over runs."""

LABELS = "resources/labels_used"
"""Labels that shaped a model: it trained on them, they chose its epoch, or they are its demonstrations."""


@dataclass(frozen=True)
class ResultRow:
    """A strategy at one number of examples: its distinct runs, how many others failed, what is remarked."""

    group: RunGroup
    failed: int
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class ResultsTable:
    """Rows by number of examples per label, best in domain first.

    references: split -> what always answering the most frequent label, and guessing, score. warnings: sentences.
    """

    data: ReportData
    rows: tuple[ResultRow, ...]
    references: dict[str, tuple[float, float]]
    warnings: tuple[str, ...] = ()

    def block(self, intervals: bool = False, remarks: bool = True, narrow: bool = False, wide: bool = False) -> Table:
        """The table as text.

        narrow: without the columns that do not fit 80 characters, the remarks among them. wide: with those that the
        page can hide.
        """

        def score(row: ResultRow, split: str, intervals: bool = intervals) -> str:
            stat = row.group.score(split)
            return "-" if stat is None else str(stat if intervals else stat.plain)

        def median(row: ResultRow, key: str, form: str, times: int = 1) -> str:
            value = row.group.median(key)
            return "-" if math.isnan(value) else form.format(times * value)

        splits = (self.data.home, OOD_MEAN) if narrow and len(self.data.sets) > 1 else self.data.splits
        columns: dict[str, Callable[[ResultRow], str]] = {
            "strategy": lambda row: row.group.variant,
            "per label": lambda row: str(row.group.amount),
            "labels": partial(median, key=LABELS, form="{:.0f}"),
            "runs": lambda row: str(len(row.group.runs)),
            f"{split_title(self.data.home)} {self.data.primary}": partial(score, split=HOME),
            **{split_title(split): partial(score, split=split) for split in splits[1:]},
            "gap": partial(score, split=GAP, intervals=False),
            "worst slice": partial(score, split=WORST_SLICE, intervals=False),
            "validation": lambda row: (
                str(stat.plain) if (stat := row.group.stat(f"validation/{self.data.primary}")) else "-"
            ),
            "trained": partial(median, key="resources/trainable_parameters", form="{:,.0f}"),
            "trainable": partial(median, key=SHARE, form="{:.3g} %", times=100),
            "memory" if narrow else "peak memory": partial(median, key=MEMORY, form="{:,.0f} MB"),
            "training": partial(median, key=COSTS["train_seconds"], form="{:.1f} s"),
            "evaluation": partial(median, key=COSTS["evaluation_seconds"], form="{:.1f} s"),
            "per query": partial(median, key=QUERY_TIME, form="{:.3g} ms"),
            "operations": partial(median, key="resources/train_flops", form="{:.3g}"),
            "remarks": lambda row: "; ".join(row.remarks),
        }
        dropped = ["gap", "trainable", "evaluation"] * narrow + ["remarks"] * (narrow or not remarks)
        dropped += ["labels"] * (narrow or all(math.isnan(row.group.median(LABELS)) for row in self.rows))
        dropped += ["worst slice", "validation", "trained", "per query", "operations"] * (not wide)
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
        keys = [row.group.key for row in self.rows] + [""] * (len(rows) - len(self.rows))
        quiet = range(len(self.rows), len(rows))
        return Table(tuple(heads), rows, left=left, quiet=quiet, kind="results", keys=keys)

    def further(self) -> Table | None:
        """The metrics that only some tasks have, on every split; None for the others."""
        columns = {
            f"{split_title(split)} {name.replace('_', ' ')}": [row.group.stat(f"{split}/{name}") for row in self.rows]
            for name in FURTHER_METRICS
            for split in self.data.splits
            if name != self.data.primary
        }
        columns = {head: stats for head, stats in columns.items() if any(stats)}
        rows = [
            [row.group.variant, str(row.group.amount), *(str(stats[place] or "-") for stats in columns.values())]
            for place, row in enumerate(self.rows)
        ]
        return Table(("strategy", "per label", *columns), rows, left=(0,)) if columns else None

    def sentences(self) -> list[str]:
        """The remarks of every row, then the warnings: what stands below a table without a column of remarks."""
        remarked = [row for row in self.rows if row.remarks]
        remarks = [f"{row.group.variant} at {row.group.amount.phrase}: {'; '.join(row.remarks)}." for row in remarked]
        return [*remarks, *self.warnings]

    def markdown(self) -> str:
        """The table and its warnings as Markdown."""
        return markdown_blocks([self.block()]) + "".join(f"\n- {sentence}" for sentence in self.warnings) + "\n"

    def json(self) -> dict[str, Any]:
        """The table as a value for JSON: unrounded, null for what was not measured."""
        known = {
            name: {split: scores[place] for split, scores in self.references.items()}
            for place, name in enumerate(REFERENCES)
        }
        rows = [self._json_row(row) for row in self.rows]
        table = {"metric": self.data.primary, "rows": rows, **known, "warnings": self.warnings}
        return {name: _json_value(value) for name, value in table.items()}

    def frame(self) -> pd.DataFrame:
        """A row for each strategy: every split with `_sd`, `_low` and `_high`, gap, labels used, costs, remarks."""
        records = []
        for row in self.rows:
            group, amount = row.group, row.group.amount
            record: dict[str, object] = {"strategy": group.variant, "examples": amount.examples}
            record |= {"runs": len(group.runs), "failed": row.failed}
            for split in (*self.data.splits, GAP):
                if stat := group.score(split):
                    record |= {split: stat.mean} | {f"{split}_{n}": getattr(stat, n) for n in ("sd", "low", "high")}
            record |= {"labels_used": group.median(LABELS), **{name: group.median(key) for name, key in COSTS.items()}}
            records.append(record | {"remarks": "; ".join(row.remarks)})
        return pd.DataFrame.from_records(records)

    def _json_row(self, row: ResultRow) -> dict[str, object]:
        group = row.group
        return {
            "strategy": group.variant,
            "per_label": group.amount.per_label or None,
            "rows": None if group.amount.per_label else str(group.amount),
            "runs": len(group.runs),
            "failed": row.failed,
            self.data.home: group.score(HOME),
            "ood": {name: group.score(f"ood/{name}") for name in self.data.sets},
            "ood_mean": group.score(OOD_MEAN),
            "gap": group.score(GAP),
            "labels_used": group.median(LABELS),
            **{name: group.median(key) for name, key in COSTS.items()},
            "remarks": row.remarks,
        }

    def metrics(self) -> dict[str, float]:
        """Flat metrics for the parent run: 'lora-pbft/32/in_domain/mcc', with '_sd' where there are several runs."""
        flat: dict[str, float] = {}
        for row in self.rows:
            place = f"{row_path(row.group.variant)}/{row.group.amount.name}"
            for split in (*self.data.splits, GAP):
                key = f"{place}/{split}" if split == GAP else f"{place}/{split}/{self.data.primary}"
                if stat := row.group.score(split):
                    flat |= {key: stat.mean} | ({} if stat.sd is None else {f"{key}_sd": stat.sd})
            costs = {f"{place}/{name}": row.group.median(key) for name, key in COSTS.items()}
            flat |= {name: value for name, value in costs.items() if not math.isnan(value)}
            flat[f"{place}/failed"] = float(row.failed)
        return flat


def results_table(
    data: ReportData, backbone: str, failed: Mapping[tuple[str, Amount], int] | None = None
) -> ResultsTable:
    """The table of one backbone. failed: (strategy, examples) -> number of runs without a result."""
    lost = dict(failed or {})
    groups = data.groups_on(backbone)
    rows = []
    for group in (*groups, *(group for group in data.groups_in(data.controls) if group.backbone == backbone)):
        count = lost.pop((group.variant, group.amount), 0)
        rows.append(ResultRow(group, count, (*remarks(data, group), *([f"{count} FAILED"] if count else []))))
    for (name, amount), count in lost.items():
        rows.append(ResultRow(RunGroup(backbone, name, name, amount, data.frame.head(0)), count, ("FAILED",)))
    rows.sort(key=lambda row: row.group.amount)
    references = {split: known for split in data.splits if (known := data.references(groups, split)) is not None}
    warnings = tuple(sentence for group in groups if (sentence := identical_results(group)))
    return ResultsTable(data, tuple(rows), references, warnings)


def outcomes_table(outcomes: Sequence[Outcome]) -> ResultsTable:
    """The table of a comparison in memory; runs without a result are counted and named in the warnings."""
    models = ", ".join(dict.fromkeys(outcome.config.model for outcome in outcomes))
    records = [
        {"backbone": models, "strategy": o.config.strategy, "variant": o.row}
        | {"amount": Amount.of(vars(o.config)), "seed": o.config.seed, "data_seed": o.config.data_seed}
        | {column: getattr(o.config, column.partition(":")[2]) for column in OTHER_SEEDS}
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
    table = results_table(data, models, failed)
    sentences = tuple(f"FAILED {outcome.failure}" for outcome in outcomes if outcome.failure)
    return replace(table, warnings=sentences + table.warnings)


def remarks(data: ReportData, group: RunGroup) -> Iterator[str]:
    """'in domain at chance', 'ood/x below majority': which scores knowing nothing would reach too."""
    for split in data.splits:
        limits, known = data.limits(group, split), data.references([group], split)
        if limits and known and (remark := chance_remark(*limits, *known)):
            yield f"{split_title(split)} {remark}"
    if group.copies:
        yield f"{group.copies} identical result{'s' * (group.copies > 1)} counted once"


def identical_results(group: RunGroup) -> str:
    """A sentence on runs with other seeds that gave exactly the numbers of another run; '' where there are none."""
    if not group.copies:
        return ""
    return (
        f"{group.variant} at {group.amount.phrase} on {group.backbone}: "
        f"{'1 run has' if group.copies == 1 else f'{group.copies} runs have'} exactly the results "
        "of another run with other seeds; each result counts once. That is right where neither seed changes "
        "the training (the same examples are drawn, nothing is random); otherwise a seed did not reach the training."
    )


def _json_value(value: object) -> object:
    if isinstance(value, Statistic):
        return _json_value(asdict(value))
    if isinstance(value, dict):
        return {key: _json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_value(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
