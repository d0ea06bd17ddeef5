"""Tidy CSV files: a line for every run, for every group and split, for every pair of strategies."""

import re
from collections.abc import Sequence
from dataclasses import asdict, fields

import pandas as pd

from effft.config import Amount
from effft.evaluation.metric_keys import slices_with
from effft.redaction import redact
from effft.reports.data import ReportData, metric_names
from effft.reports.difficulty import difficulty_curves
from effft.reports.groups import GAP, OOD_MEAN, OTHER_SEEDS, SHARE
from effft.reports.measures import Measure, measures
from effft.reports.pairwise import Pair
from effft.runs.compare import Outcome

RUN_COLUMNS = (
    "run_id", "name", "backbone", "strategy", "variant", "difficulty", "per_label", "seed", "data_seed", *OTHER_SEEDS,
    "study", "git_commit",
)  # fmt: skip
FORMULA = ("=", "+", "-", "@", "\t")  # What begins with one is run by a spreadsheet.
RESULT_COLUMNS = (
    "backbone", "strategy", "variant", "per_label", "split", "metric", "mean", "sd", "low", "high", "distinct_runs",
    "majority", "chance",
)  # fmt: skip


def csv_text(frame: pd.DataFrame) -> str:
    """CSV with Unix line ends, without secrets; an apostrophe stands before what a spreadsheet would run."""
    return frame.map(_safe).to_csv(index=False, lineterminator="\n")


def plain_name(column: str) -> str:
    """A column's name in the files: without the kind of value that it is."""
    return re.sub("^(metric|given|param):", "", column)


def _safe(value: object) -> object:
    if not isinstance(value, str):
        return value
    value = redact(value).replace("\r\n", "\n").replace("\r", "\n")  # a CR would get no quotes and end the row
    return f"'{value}" if value[:1] in FORMULA else value


def without_guard(text: str) -> str:
    """A value of `csv_text` without the apostrophe that it has put before it."""
    return text[1:] if text[:1] == "'" and text[1:2] in FORMULA else text


def outcomes_csv(outcomes: Sequence[Outcome]) -> str:
    """A line for every run of a comparison, every metric unrounded; failed runs with their reason."""
    seeds = [plain_name(column) for column in OTHER_SEEDS]
    records = [
        {"strategy": o.row, "per_label": Amount.of(vars(o.config)), "seed": o.config.seed}
        | {"data_seed": o.config.data_seed, "failure": o.failure}
        | {name: str(value) for name in seeds if (value := getattr(o.config, name)) is not None}
        for o in outcomes
    ]
    metrics = pd.DataFrame.from_records([o.result.metrics if o.result else {} for o in outcomes])
    return csv_text(pd.DataFrame.from_records(records).join(metrics.sort_index(axis=1)))


def runs_csv(data: ReportData) -> str:
    """A line for every finished run with every metric, unrounded; runs at another difficulty have no variant."""
    frame = pd.concat([data.scored, data.other_difficulty]) if len(data.other_difficulty) else data.scored
    frame = (
        frame.assign(per_label=frame["amount"])
        .dropna(axis=1, how="all")
        .drop(columns="metric:score/home", errors="ignore")
    )
    columns = [*(c for c in RUN_COLUMNS if c in frame), *sorted(str(c) for c in frame if str(c).startswith("metric:"))]
    return csv_text(frame[columns].rename(columns=plain_name))


def results_csv(data: ReportData) -> str:
    """A line for every group and split, then its gap and OOD mean: mean, sd, interval, majority, chance."""
    records = []
    for group in data.groups:
        for split in (*data.splits, GAP, OOD_MEAN):
            if stat := group.score(split):
                majority, chance = data.references([group], split) or (None, None)
                names = {name: getattr(group, name) for name in ("backbone", "strategy", "variant")}
                place = {"per_label": group.amount, "split": split, "metric": data.primary}
                numbers = {"distinct_runs": stat.count, "majority": majority, "chance": chance}
                records.append(names | place | asdict(stat) | numbers)
    return csv_text(pd.DataFrame.from_records(records, columns=RESULT_COLUMNS))


def measures_csv(data: ReportData) -> str:
    """A line for every group and metric, slices too: mean, sd and interval; of a cost the median and the range."""
    slices = [
        Measure(key, key)
        for split in data.splits
        for metric in ("accuracy", "examples")
        for key in slices_with(metric_names(data.frame), split, metric)
    ]
    places = [("", data.groups)]
    places += [(f"{c.field}={value:g}", groups) for c in difficulty_curves(data) for value, groups in c.points]
    records = [
        {"backbone": group.backbone, "strategy": group.strategy, "variant": group.variant, "per_label": group.amount}
        | {"difficulty": place, "measure": measure.key}
        | {("value" if name == "mean" else name): value for name, value in asdict(stat).items()}
        for measure in (*measures(data), Measure(SHARE, "share"), *slices)
        for place, groups in places
        for group in groups
        if (stat := measure.of(group))
    ]
    return csv_text(pd.DataFrame.from_records(records))


def pairs_csv(pairs: Sequence[Pair]) -> str:
    """A line for every pair of strategies and split."""
    frame = pd.DataFrame(pairs, columns=[field.name for field in fields(Pair)])
    return csv_text(frame.rename(columns={"amount": "per_label"}))
