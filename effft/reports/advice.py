"""What a reader should take: the Pareto front in words, and what choosing on OOD data would have given."""

from collections.abc import Iterator

import numpy as np

from effft.config import Amount
from effft.evaluation.statistics import front
from effft.reports.blocks import Table
from effft.reports.data import ReportData, split_title
from effft.reports.groups import HOME, OOD_MEAN, RunGroup

MEMORY = "resources/peak_memory_mb"
COSTS = {
    MEMORY: "peak memory (MB)",
    "resources/trainable_parameters": "trainable parameters",
    "resources/train_seconds": "training time",
}
LIMITS = (10, 30, 100, 300, 1e3, 3e3, 10e3, 30e3, 100e3)


def size(megabytes: float) -> str:
    """Memory as a person says it."""
    return f"{megabytes / 1e3:.3g} GB" if megabytes >= 1e3 else f"{megabytes:.3g} MB"


def pareto(groups: list[RunGroup], key: str) -> list[RunGroup]:
    """The groups that no other beats both in a cost and in domain, the cheapest first."""
    known = [group for group in groups if not np.isnan(group.median(key)) and np.isfinite(group.mean())]
    return [known[i] for i in front([group.median(key) for group in known], [group.mean() for group in known])]


def recommendation(data: ReportData, backbone: str) -> str:
    """One paragraph from the front of memory, at the largest number of examples per label."""
    amount = max(data.amounts(backbone))
    return " ".join(_sentences(data, data.groups_on(backbone, amount), amount))


def _sentences(data: ReportData, groups: list[RunGroup], amount: Amount) -> Iterator[str]:
    def named(group: RunGroup) -> str:
        return f"{group.variant} ({data.primary} {group.mean():.3f})"

    best, *others = groups  # the groups come best first
    stats = {group.variant: group.score(HOME) for group in others}
    near = [name for name, stat in stats.items() if stat and stat.high is not None and stat.high >= best.mean()]
    ties = f"; the intervals do not separate it from {', '.join(near)}" if near else ""
    yield f"With {amount.examples}, {named(best)} is best {split_title(data.home)}{ties}."
    if any(group.score(OOD_MEAN) for group in groups):
        highest = max(groups, key=lambda group: group.mean(OOD_MEAN))
        who = "it has the highest mean too" if highest is best else f"{highest.variant} has the highest mean"
        yield f"Out of domain ({', '.join(data.sets)}) {who}, {highest.mean(OOD_MEAN):.3f}."
    steps, last = pareto(groups, MEMORY), None
    for limit in LIMITS:
        fitting = [group for group in steps if group.median(MEMORY) <= limit]
        if fitting and fitting[-1] is not last:
            last = fitting[-1]
            yield f"Best under {size(limit)} of memory: {named(last)}, which peaks at {size(last.median(MEMORY))}."
    idle = [group for group in groups if not group.trains]
    if idle:
        yield f"Best without any training: {named(idle[0])}."
    if all(len(group.runs) < 2 for group in groups):
        yield "Every number comes from a single run, so none of this is more than a first impression."


def oracle(data: ReportData, backbone: str) -> Table | None:
    """OOD metric of the run chosen by validation, and of the run one would choose if OOD labels were known."""
    rows = []
    for group in data.groups_on(backbone):
        validation, ood = group.values(f"validation/{data.primary}"), group.values(f"score/{OOD_MEAN}")
        if len(group.runs) < 2 or np.isnan(ood).all() or np.isnan(validation).all():
            continue
        chosen, best = ood[int(np.nanargmax(validation))], float(np.nanmax(ood))
        numbers = (f"{value:.3f}" for value in (float(np.nanmean(ood)), chosen, best))
        rows.append((group.variant, str(group.amount), *numbers, f"{best - chosen:+.3f}"))
    heads = ("strategy", "per label", "mean of runs", "chosen on validation", "chosen on OOD", "difference")
    return Table(heads, rows) if rows else None
