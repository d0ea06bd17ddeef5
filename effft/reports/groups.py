"""Which runs belong together: they differ in nothing but their two seeds. And what a mean over them is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from effft.config import DATA_FIELDS, DIFFICULTY_FIELDS, Amount, RunConfig
from effft.evaluation.metric_keys import slices_with
from effft.evaluation.metrics import METRICS, MULTI_LABEL_METRICS, RANGES
from effft.evaluation.metrics import WORST_SLICE as WORST_SLICE_METRIC
from effft.evaluation.statistics import Array, Numbers, crossed_weights, interval
from effft.strategies.parts import TRANSDUCTIVE
from effft.strategies.strategy import compose

NO_SETTING = {
    "seed", "data_seed", "per_label", "rows", "train_digest", "validation_digest", "task_digest", "model_digest",
    "steps", "device", "threads", "task", "model", "strategy", "log_model", "processes", "data_dir", "bootstrap",
    "metric", "cross_validation", "width", "shots", "teacher_shots", "demo_seed", "order_seed",
    *DATA_FIELDS, *DIFFICULTY_FIELDS,
}  # fmt: skip
"""Resolved values that do not make two runs different; demonstrations count as they were asked for (`GIVEN_SHOTS`)."""

GIVEN_SHOTS = ("given:shots", "given:teacher_shots")

SETTINGS = (*(f"param:{x}" for x in (*RunConfig.model_fields, "model_commit") if x not in NO_SETTING), *GIVEN_SHOTS)
"""Columns of what makes two runs different."""

OTHER_SEEDS = {"given:demo_seed": 0x1E3779B97F4A7C15, "param:order_seed": 0x42B2AE3D27D4EB4F}
"""Seeds that count with the run's own where they were asked for -> a factor that keeps their sums apart."""

DEFAULTS = {
    "param:class_weights": "none", "param:label_score": "auto", "param:calibration": "none", "param:chat": "off",
    "param:demonstrations": "balanced", "param:demo_order": "random", "param:cut": "end", "param:windows": "none",
    "param:head_start": "random", "param:head_solver": "gradient", "param:lora_init": "default",
    "param:rslora": "False", "param:dora": "False", "param:lora_plus": "1.0",
}  # fmt: skip
"""Columns of settings that runs of earlier versions did not log, with the value that they had."""

HOME, OOD_MEAN, GAP = "home", "ood mean", "gap"
"""Scores of a run beside those on each split: in domain (or cross-validated), mean over the OOD sets, difference."""

SHARE, MEMORY = "resources/trainable_share", "resources/peak_memory_mb"

WORST_SLICE, QUERY_TIME = "worst slice", "resources/query_milliseconds"
"""The least accuracy on a slice of one dimension; how long an answer takes."""

SHARES = {*METRICS, *MULTI_LABEL_METRICS, *RANGES, WORST_SLICE_METRIC, "calibration_error", "risk_coverage_area"}
DISTANCES = ("mean_absolute_error", "negative_log_likelihood", "brier")
"""Metrics that lie between 0 and 1 (or in `RANGES`), and those that cannot be below 0."""

TUNED = " tuned"
"""After the name of a strategy whose settings a study chose."""


@dataclass(frozen=True)
class Statistic:
    """A number over distinct runs. low, high: 95 % interval over seed x data_seed; None for a single run."""

    mean: float
    sd: float | None
    low: float | None
    high: float | None
    count: int

    @property
    def interval(self) -> tuple[float, float]:
        """Its ends; the mean itself where there is no interval."""
        return (self.mean, self.mean) if self.low is None or self.high is None else (self.low, self.high)

    @property
    def plain(self) -> "Statistic":
        """Without the interval."""
        return replace(self, low=None, high=None)

    def __str__(self) -> str:
        spread = "" if self.sd is None else f" ± {self.sd:.3f}"
        return f"{self.mean:.3f}{spread}" + ("" if self.low is None else f" [{self.low:.3f}, {self.high:.3f}]")


@dataclass(frozen=True)
class RunGroup:
    """One variant of a strategy at one number of examples, on one backbone.

    Args:
        runs: Its distinct runs.
        repeats: Runs left out because a later run has the same seeds and settings.
        copies: Runs left out because another run has exactly the same results.
        lowest: What the primary metric cannot be below; intervals end there, and at 1.
    """

    backbone: str
    variant: str
    strategy: str
    amount: Amount
    runs: pd.DataFrame
    repeats: int = 0
    copies: int = 0
    lowest: float = -1.0

    @property
    def key(self) -> str:
        """Its name among all groups of a report; the number of examples comes first."""
        return f"{self.amount.name}|{self.backbone}|{self.variant}"

    @property
    def trains(self) -> bool:
        """Whether the seed changes anything; it does where this version does not know the strategy."""
        try:
            return compose(self.strategy).trains
        except ValueError:
            return True

    @property
    def seeds(self) -> Numbers:
        """One number for a run's seed and the others that it was asked for; a seed that changes nothing counts 0."""
        seeds: Numbers = self.runs["seed"].fillna(0).to_numpy(dtype=np.int64) * int(self.trains)
        for column, factor in OTHER_SEEDS.items():
            seeds = seeds + (1 + self.asked(column)) * factor
        return seeds

    def asked(self, column: str) -> Numbers:
        """A seed that every run was asked for, -1 where it was not."""
        values = self.runs.get(column, pd.Series("", index=self.runs.index))
        seeds: Numbers = pd.to_numeric(values, errors="coerce").fillna(-1).to_numpy(dtype=np.int64)
        return seeds

    @property
    def draws(self) -> Numbers:
        """The `data_seed` of every run."""
        return self.runs["data_seed"].fillna(0).to_numpy(dtype=np.int64)

    @cached_property
    def weights(self) -> Array:
        """Bootstrap weights, drawn once for all numbers of the group."""
        return crossed_weights(self.seeds, self.draws)

    def values(self, key: str) -> Array:
        """A metric of every run, NaN where it is not logged."""
        return numbers(self.runs, key)

    def setting(self, name: str) -> str:
        """A resolved setting of the first run; '' where it is not logged."""
        column = f"param:{name}"
        return str(self.runs[column].iloc[0]) if column in self.runs else ""

    @property
    def settings(self) -> dict[str, str]:
        """All resolved settings of the first run that have a value."""
        columns = [column for column in map(str, self.runs.columns) if column.startswith("param:")]
        values = {column.removeprefix("param:"): str(self.runs[column].iloc[0]) for column in columns}
        return {name: value for name, value in values.items() if value not in ("", "None")}

    def median(self, key: str) -> float:
        """The median of a metric over runs; NaN where it was not measured."""
        values = self.values(key)
        return float(np.nanmedian(values)) if not np.isnan(values).all() else float("nan")

    def mean_of(self, split: str, metric: str) -> float | None:
        """The mean of a metric of a split; None when no run has it."""
        found = self.stat(f"{split}/{metric}")
        return None if found is None else found.mean

    def stat(self, key: str) -> Statistic | None:
        """The mean of a metric with its spread; None when no run has it."""
        values = self.values(key)
        known = ~np.isnan(values)
        kept = values[known]
        if not len(kept):
            return None
        bounds = interval(kept, self.seeds[known], self.draws[known], self.weights[:, known] if known.all() else None)
        least, most = self._range(key)
        mean = float(kept.mean())  # of ones, a bit above 1 at times
        low, high = (min(mean, max(bounds[0], least)), max(mean, min(bounds[1], most))) if bounds else (None, None)
        sd = float(kept.std(ddof=1)) if len(kept) > 1 else None
        return Statistic(mean, sd, low, high, len(kept))

    def _range(self, key: str) -> tuple[float, float]:
        """Where an interval ends, whatever Student's law says: nowhere for costs and differences."""
        metric = key.rpartition("/")[2]
        if key.startswith("score/"):
            return (-math.inf, math.inf) if metric == GAP else (self.lowest, 1)
        return RANGES.get(metric, (0, 1)) if metric in SHARES else (0 if metric in DISTANCES else -math.inf, math.inf)

    def score(self, split: str) -> Statistic | None:
        """The primary metric on a split, or HOME, OOD_MEAN, GAP; None when no run has it."""
        return self.stat(f"score/{split}")

    def fallen(self) -> list[tuple[int, int, float]]:
        """(seed, data_seed, score) of the runs far below the others: by 0.2 and by three times the spread.

        The spread is 1.4826 times the median distance from the median (Leys et al. 2013); of four runs and more.
        """
        values = self.values(f"score/{HOME}")
        middle = float(np.nanmedian(values)) if len(values) > 3 and not np.isnan(values).all() else float("nan")
        least = (
            middle - max(0.2, 3 * 1.4826 * float(np.nanmedian(np.abs(values - middle)))) if middle == middle else middle
        )
        seeds = self.runs["seed"].fillna(0).to_numpy(dtype=np.int64)
        return [(int(seeds[i]), int(self.draws[i]), float(values[i])) for i in np.flatnonzero(values < least)]

    def mean(self, split: str = HOME) -> float:
        """The mean of this score alone; minus infinity where there is none."""
        stat = self.score(split)
        return stat.mean if stat else float("-inf")


def numbers(frame: pd.DataFrame, key: str) -> Array:
    """A metric of every run, NaN where it is not logged."""
    column = f"metric:{key}"
    return frame[column].to_numpy(dtype=np.float64) if column in frame else np.full(len(frame), np.nan)


def with_scores(frame: pd.DataFrame, metric: str, splits: Sequence[str]) -> pd.DataFrame:
    """The frame with what follows from the metrics of a run: `score/<split>` and so on, shares, time per query."""
    scores = {split: numbers(frame, f"{split}/{metric}") for split in splits}
    home, *ood = scores.values()
    scores[HOME] = home
    scores[OOD_MEAN] = np.mean(ood, axis=0) if ood else np.full(len(frame), np.nan)
    scores[GAP] = home - scores[OOD_MEAN]
    keys = [column.removeprefix("metric:") for column in map(str, frame.columns) if column.startswith("metric:")]
    whole = [
        key for split in splits for key, parts in slices_with(keys, split, "accuracy").items() if not parts.slice[1:]
    ]
    scores[WORST_SLICE] = np.fmin.reduce([numbers(frame, key) for key in whole] or [np.full(len(frame), np.nan)])
    made = {f"metric:score/{split}": values for split, values in scores.items()}
    share = numbers(frame, "resources/trainable_parameters") / numbers(frame, "resources/total_parameters")
    examples = sum(np.nan_to_num(numbers(frame, f"{split}/examples")) for split in ("validation", *splits))
    speed = numbers(frame, "resources/queries_per_second")
    with np.errstate(divide="ignore", invalid="ignore"):
        seconds = np.where(np.isnan(speed), numbers(frame, "resources/evaluation_seconds") / examples, 1 / speed)
    times = np.where(np.isfinite(seconds), 1000 * seconds, np.nan)
    return frame.assign(**made, **{f"metric:{SHARE}": share, f"metric:{QUERY_TIME}": times})


def with_variants(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with `variant`: the strategy's name, and in brackets the settings that differ among its runs.

    What a study chose is called `tuned`, whatever its settings; the choices of two studies at one number of examples
    per label are told apart.
    """
    tuned = frame["tuned"] == "true"
    frame = frame.assign(variant=frame["strategy"].where(~tuned, frame["strategy"] + TUNED))
    settings = {column: column.partition(":")[2] for column in SETTINGS if column in frame.columns}
    groups = [group for _, group in frame[~tuned].groupby(["backbone", "strategy"], sort=False)]
    groups += [group for _, group in frame[tuned].groupby(["backbone", "strategy", "amount"], sort=False)]
    for group in groups:
        group = group.replace({column: {"": value} for column, value in DEFAULTS.items() if column in group})
        differing = [column for column in settings if group[column].nunique() > 1]
        for place, values in zip(group.index, group[differing].to_numpy(), strict=True) if differing else ():
            given = [f"{settings[c]}={value}" for c, value in zip(differing, values, strict=True) if value != ""]
            frame.loc[place, "variant"] += f" [{', '.join(given)}]" if given else ""
    if "param:calibration" in frame:
        frame.loc[frame["param:calibration"] == "batch", "variant"] += TRANSDUCTIVE
    return frame


def group_runs(frame: pd.DataFrame, keys: Sequence[str], lowest: float = -1.0) -> list[RunGroup]:
    """The groups in the order of their first runs. keys: the metrics that make two results the same or not."""
    columns, groups = [column for key in keys if (column := f"metric:{key}") in frame.columns], []
    for (backbone, amount, variant), rows in frame.groupby(["backbone", "amount", "variant"], sort=False):
        assert isinstance(amount, Amount)
        group = RunGroup(str(backbone), str(variant), str(rows["strategy"].iloc[0]), amount, rows, lowest=lowest)
        seeds = pd.DataFrame({"seed": group.seeds, "data_seed": rows["data_seed"]})
        latest = rows[~seeds.duplicated(keep="last")]
        distinct = latest.drop_duplicates(columns) if columns else latest
        copies = len(latest) - len(distinct) if group.trains else 0  # zero-shot is the same for every draw
        groups.append(replace(group, runs=distinct, repeats=len(rows) - len(latest), copies=copies))
    return groups


def difficulty_values(frame: pd.DataFrame, field: str) -> "pd.Series[str]":
    """One field of the task's difficulty in every run; '' where the task does not have it."""
    nowhere = pd.Series("", index=frame.index, dtype=str)
    return frame.get(f"param:{field}", nowhere).replace("None", "")


def difficulty_of(frame: pd.DataFrame, without: str = "") -> "pd.Series[str]":
    """The difficulty of every run in words, 'overlap_strength=0.5, lexicon_size=20', one field left out if asked."""
    names = [name for name in DIFFICULTY_FIELDS if name != without]
    rows = zip(*(difficulty_values(frame, name) for name in names), strict=True)
    words = [", ".join(f"{n}={value}" for n, value in zip(names, row, strict=True) if value) for row in rows]
    return pd.Series(words, index=frame.index, dtype=str)


def usual_difficulty(frame: pd.DataFrame) -> str:
    """The difficulty that the report is about: of the runs that set none by hand, else the most frequent one."""
    given = frame.filter(items=[f"given:{name}" for name in DIFFICULTY_FIELDS])
    by_hand = (~given.isin(["", "None"])).any(axis=1)
    chosen = frame["difficulty"][~by_hand] if (~by_hand).any() else frame["difficulty"]
    return str(chosen.mode().iloc[0]) if len(chosen) else ""
