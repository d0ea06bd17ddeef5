"""Tidy CSV files: a line for every run, for every group and split, for every pair of strategies."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import astuple, fields

import pandas as pd

from effft.config import Amount
from effft.redaction import redact
from effft.reports.data import GAP, OOD_MEAN, ReportData
from effft.reports.pairwise import Pair
from effft.runs.compare import Outcome

COLUMNS = (
    "run_id", "name", "backbone", "strategy", "variant", "difficulty", "per_label", "seed", "data_seed", "study",
    "git_commit",
)  # fmt: skip


def csv_text(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """CSV with Unix line ends, without secrets; an apostrophe stands before what a spreadsheet would run."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows([_safe(value) for value in row] for row in rows)
    return out.getvalue()


def _safe(value: object) -> object:
    if not isinstance(value, str):
        return value
    return f"'{redact(value)}" if value[:1] in ("=", "+", "-", "@", "\t") else redact(value)


def outcomes_csv(outcomes: Sequence[Outcome]) -> str:
    """A line for every run of a comparison, every metric unrounded; failed runs with their reason."""
    metrics = [outcome.result.metrics if outcome.result else {} for outcome in outcomes]
    keys = sorted(set().union(*metrics))
    rows = [
        [
            o.row,
            Amount.of(vars(o.config)),
            o.config.seed,
            o.config.data_seed,
            o.failure,
            *(values.get(key, "") for key in keys),
        ]
        for o, values in zip(outcomes, metrics, strict=True)
    ]
    return csv_text(("strategy", "per_label", "seed", "data_seed", "failure", *keys), rows)


def runs_csv(data: ReportData) -> str:
    """A line for every finished run with every metric, unrounded; runs at another difficulty have no variant."""
    frame = pd.concat([data.frame, data.other_difficulty]) if len(data.other_difficulty) else data.frame
    columns = [*(c for c in COLUMNS if c in frame), *sorted(str(c) for c in frame if str(c).startswith("metric:"))]
    filled = frame[columns].astype(object).where(frame[columns].notna(), "")
    return csv_text([column.removeprefix("metric:") for column in columns], filled.itertuples(index=False))


def results_csv(data: ReportData) -> str:
    """A line for every group and split, then its gap and OOD mean: mean, sd, interval, majority, chance."""
    rows: list[list[object]] = []
    for group in data.groups:
        for name in (*data.splits, GAP, OOD_MEAN):
            if stat := data.stat(group, name):
                place = [group.backbone, group.strategy, group.variant, group.amount, name, data.primary]
                references = data.references([group], name) or ("", "")
                rows.append([*place, *("" if value is None else value for value in astuple(stat)), *references])
    heads = (
        "backbone", "strategy", "variant", "per_label", "split", "metric", "mean", "sd", "low", "high", "distinct_runs",
        "majority", "chance",
    )  # fmt: skip
    return csv_text(heads, rows)


def pairs_csv(pairs: Sequence[Pair]) -> str:
    """A line for every pair of strategies and split."""
    heads = [field.name.replace("amount", "per_label") for field in fields(Pair)]
    return csv_text(heads, ([getattr(pair, field.name) for field in fields(Pair)] for pair in pairs))
