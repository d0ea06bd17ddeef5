"""Tidy CSV files: a line for every run, for every group and split, for every pair of strategies."""

import csv
import io
from collections.abc import Iterable, Sequence

import pandas as pd

from effft.redaction import redact
from effft.reports.data import ReportData
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
    keys = sorted({key for o in outcomes if o.result for key in o.result.metrics})
    rows = [
        [o.row, o.config.per_label, o.config.seed, o.config.data_seed, o.failure]
        + [o.result.metrics.get(key, "") if o.result else "" for key in keys]
        for o in outcomes
    ]
    return csv_text(("strategy", "per_label", "seed", "data_seed", "failure", *keys), rows)


def runs_csv(data: ReportData) -> str:
    """A line for every finished run with every metric, unrounded; runs at another difficulty have no variant."""
    frame = pd.concat([data.frame, data.other_difficulty]) if len(data.other_difficulty) else data.frame
    columns = [*(c for c in COLUMNS if c in frame), *sorted(str(c) for c in frame if str(c).startswith("metric:"))]
    heads = [str(column).removeprefix("metric:") for column in columns]
    filled = frame[columns].astype(object).where(frame[columns].notna(), "")
    return csv_text(heads, filled.itertuples(index=False))


def results_csv(data: ReportData) -> str:
    """A line for every group and split, then its gap and OOD mean: mean, sd, interval, majority, chance."""
    rows: list[list[object]] = []
    for group in data.groups:
        stats = {split: data.stat(group, split) for split in data.splits}
        stats |= {"gap": data.gap(group), "ood mean": data.ood_mean(group)}
        for name, stat in stats.items():
            if stat is not None:
                references = (data.references([group], name) if name in data.splits else None) or ("", "")
                values = ["" if v is None else v for v in (stat.mean, stat.sd, stat.low, stat.high, stat.count)]
                place = [group.backbone, group.strategy, group.variant, group.per_label, name, data.primary]
                rows.append([*place, *values, *references])
    heads = (
        "backbone", "strategy", "variant", "per_label", "split", "metric", "mean", "sd", "low", "high", "distinct_runs",
        "majority", "chance",
    )  # fmt: skip
    return csv_text(heads, rows)


def pairs_csv(pairs: Sequence[Pair]) -> str:
    """A line for every pair of strategies and split."""
    heads = ("backbone", "per_label", "split", "one", "other", "difference", "pairs", "p", "p_holm")
    rows = [[p.backbone, p.per_label, p.split, p.one, p.other, p.difference, p.count, p.p, p.corrected] for p in pairs]
    return csv_text(heads, rows)
