"""Tidy CSVs: one row a run, a cell and metric, a pair."""

import csv
import io
from collections.abc import Iterable, Sequence

import pandas as pd

from effft.reports.data import ReportData
from effft.reports.pairwise import Pair
from effft.runs.compare import Outcome

ABOUT = (
    "run_id", "name", "backbone", "strategy", "variant", "condition", "per_label", "seed", "data_seed", "study",
    "git_commit",
)  # fmt: skip


def text_of(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """CSV with Unix line ends; a cell that a spreadsheet would run as a formula is quoted by an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows([_safe(value) for value in row] for row in rows)
    return out.getvalue()


def _safe(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t") else value


def runs_csv(material: ReportData) -> str:
    """A line a finished run with every metric, unrounded; runs with other knobs (`condition`) have no variant."""
    frame = pd.concat([material.frame, material.other_difficulty]) if len(material.other_difficulty) else material.frame
    columns = [*(c for c in ABOUT if c in frame), *sorted(str(c) for c in frame if str(c).startswith("metric:"))]
    heads = [str(c).removeprefix("metric:") for c in columns]
    filled = frame[columns].astype(object).where(frame[columns].notna(), "")
    return text_of(heads, filled.itertuples(index=False))


def outcomes_csv(outcomes: Sequence[Outcome]) -> str:
    """A line a run of a comparison, every metric unrounded; failed runs with their reason."""
    keys = sorted({key for o in outcomes if o.result for key in o.result.metrics})
    rows = [
        [o.config.strategy, o.config.per_label, o.config.seed, o.config.data_seed, o.failure]
        + [o.result.metrics.get(key, "") if o.result else "" for key in keys]
        for o in outcomes
    ]
    return text_of(("strategy", "per_label", "seed", "data_seed", "failure", *keys), rows)


def cells_csv(material: ReportData) -> str:
    """A line a cell and split: mean, sd, interval, distinct runs, majority, chance."""
    rows: list[list[object]] = []
    for cell in material.groups:
        place = [cell.backbone, cell.strategy, cell.variant, cell.per_label]
        for split in material.splits:
            stat, known = material.stat(cell, split), material.references([cell], split) or ("", "")
            if stat is not None:
                values = [stat.mean, stat.sd, stat.low, stat.high, stat.count]
                rows.append([*place, split, material.primary, *("" if v is None else v for v in values), *known])
        for name, stat in (("gap", material.gap(cell)), ("ood mean", material.ood_mean(cell))):
            if stat is not None:
                values = [stat.mean, stat.sd, stat.low, stat.high, stat.count]
                rows.append([*place, name, material.primary, *("" if v is None else v for v in values), "", ""])
    heads = (
        "backbone", "strategy", "variant", "per_label", "split", "metric", "mean", "sd", "low", "high", "distinct_runs",
        "majority", "chance",
    )  # fmt: skip
    return text_of(heads, rows)


def pairs_csv(pairs: Sequence[Pair]) -> str:
    """A line a pair of strategies and split."""
    heads = ("backbone", "per_label", "split", "one", "other", "difference", "pairs", "p", "p_holm")
    rows = [[p.backbone, p.per_label, p.split, p.one, p.other, p.difference, p.count, p.p, p.corrected] for p in pairs]
    return text_of(heads, rows)
