"""What the page can show of a group of runs: scores, costs and every other metric, each with its unit."""

from collections.abc import Iterator
from dataclasses import dataclass

from effft.evaluation.metric_keys import parse
from effft.reports.data import ReportData, metric_names, split_title
from effft.reports.groups import GAP, MEMORY, OOD_MEAN, QUERY_TIME, WORST_SLICE, RunGroup, Statistic

COSTS = {
    MEMORY: ("peak memory", "MB"),
    "resources/train_seconds": ("training time", "s"),
    QUERY_TIME: ("time per query", "ms"),
    "resources/trainable_parameters": ("trainable parameters", ""),
    "resources/train_flops": ("training operations", "FLOPs"),
    "resources/evaluation_flops": ("evaluation operations", "FLOPs"),
    "resources/evaluation_seconds": ("evaluation time", "s"),
    "resources/adapter_mb": ("size of what was trained", "MB"),
    "resources/labels_used": ("labels used", ""),
}
"""Metric -> what it is, and its unit. A group has the median over its runs."""
LOWER = (
    "forgetting", "loss", "gap", "error", "likelihood", "brier", "area", "mass", "leaks", "memory", "seconds", "flops",
)  # fmt: skip
"""Words of metrics of which less is better."""
UNSHOWN = ("_low", "_high", "majority", "chance", "/labels", "/examples", "score/home", "trainable_share")


@dataclass(frozen=True)
class Measure:
    """A number of every run. kind: 'score', 'cost' or 'other'; lower: whether less is better."""

    key: str
    title: str
    unit: str = ""
    kind: str = "other"
    lower: bool = False

    def of(self, group: RunGroup) -> Statistic | None:
        """The mean with its interval; of a cost the median, with its least and greatest run as ends."""
        if self.kind != "cost":
            return group.stat(self.key)
        values = group.values(self.key)
        known = values[values == values]
        low, high = (float(known.min()), float(known.max())) if len(known) > 1 else (None, None)
        return Statistic(group.median(self.key), None, low, high, len(known)) if len(known) else None


def measures(data: ReportData) -> list[Measure]:
    """All that some run has: the scores of the table first, then the costs, then the other metrics by name."""
    known = {name for name in metric_names(data.scored.dropna(axis=1, how="all")) if "/slice/" not in name}
    costs = (Measure(key, title, unit, "cost", True) for key, (title, unit) in COSTS.items())
    found = [measure for measure in (*_scores(data), *costs) if measure.key in known]
    have = {measure.key for measure in found} | {f"score/{split}" for split in data.splits}
    rest = sorted(key for key in known - have if not key.endswith(UNSHOWN) and "/total_parameters" not in key)
    return found + [
        Measure(key, _title(key), lower=any(word in key.rpartition("/")[2] for word in LOWER)) for key in rest
    ]


def _scores(data: ReportData) -> Iterator[Measure]:
    metric = data.primary.replace("_", " ")
    for split in (*data.splits, "validation"):
        yield Measure(f"{split}/{data.primary}", f"{split_title(split)} {metric}", kind="score")
    if len(data.sets) > 1:
        yield Measure(f"score/{OOD_MEAN}", f"OOD mean {metric}", kind="score")
    yield Measure(f"score/{GAP}", f"gap, in domain minus OOD, {metric}", kind="score", lower=True)
    yield Measure(f"score/{WORST_SLICE}", "worst slice, accuracy", kind="score")


def _title(key: str) -> str:
    parts = parse(key)
    words = f"{split_title(parts.split)} {parts.metric}" if parts else key.replace("/", " ")
    return words.replace("_", " ")
