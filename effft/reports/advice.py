"""What a reader should take: the Pareto front in words, and what choosing on OOD data would have given."""

from collections.abc import Callable, Iterator

import numpy as np

from effft.evaluation.statistics import front
from effft.reports.blocks import Table, Text
from effft.reports.data import ReportData
from effft.reports.groups import RunGroup

COSTS = {
    "resources/peak_memory_bytes": "peak memory",
    "resources/trainable_parameters": "trainable parameters",
    "resources/train_seconds": "training time",
}
LIMITS = (10e6, 30e6, 100e6, 300e6, 1e9, 3e9, 10e9, 30e9, 100e9)


def size(count: float) -> str:
    """Bytes as a person says them."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count:.0f} B"


def pareto(cells: list[RunGroup], key: str, gain: Callable[[RunGroup], float]) -> list[RunGroup]:
    """The cells that no other beats in both, the cheapest first."""
    known = [cell for cell in cells if not np.isnan(cell.median(key)) and np.isfinite(gain(cell))]
    return [known[i] for i in front([cell.median(key) for cell in known], [gain(cell) for cell in known])]


def recommendation(material: ReportData, backbone: str) -> Text:
    """One paragraph from the front of memory, at the largest number of examples per label."""
    per_label = max(material.per_labels(backbone))
    cells = material.groups_on(backbone, per_label)
    return Text((" ".join(_sentences(material, cells, per_label)),))


def _sentences(material: ReportData, cells: list[RunGroup], per_label: int) -> Iterator[str]:
    best = max(cells, key=lambda cell: material.mean(cell, "in_domain"))
    yield (
        f"With {per_label} examples per label, {_named(material, best, 'in_domain')} is best in domain"
        f"{_ties(material, best, cells)}."
    )
    if material.sets:
        far = max(cells, key=lambda cell: _outside(material, cell))
        who = "it has the highest mean too" if far is best else f"{far.variant} has the highest mean"
        yield f"Out of domain ({', '.join(material.sets)}) {who}, {_outside(material, far):.3f}."
    memory = "resources/peak_memory_bytes"
    steps = pareto(cells, memory, lambda cell: material.mean(cell, "in_domain"))
    said = None
    for limit in LIMITS:
        fitting = [cell for cell in steps if cell.median(memory) <= limit]
        if fitting and fitting[-1] is not said:
            said = fitting[-1]
            peak = size(said.median(memory))
            yield f"Under {size(limit)} above the start: {_named(material, said, 'in_domain')}, peak {peak}."
    idle = [cell for cell in cells if not cell.trains]
    if idle:
        top = max(idle, key=lambda cell: material.mean(cell, "in_domain"))
        yield f"Without any training: {_named(material, top, 'in_domain')}."
    if all(len(cell.runs) < 2 for cell in cells):
        yield "Every number is from a single run, so none of this is more than a first look."


def _named(material: ReportData, cell: RunGroup, split: str) -> str:
    return f"{cell.variant} ({material.primary} {material.mean(cell, split):.3f})"


def _ties(material: ReportData, best: RunGroup, cells: list[RunGroup]) -> str:
    """Those whose interval reaches the best one's mean."""
    mean = material.mean(best, "in_domain")
    near = []
    for cell in cells:
        stat = material.stat(cell, "in_domain")
        if cell is not best and stat is not None and stat.high is not None and stat.high >= mean:
            near.append(cell.variant)
    return f", not told apart from {', '.join(near)} by the intervals" if near else ""


def _outside(material: ReportData, cell: RunGroup) -> float:
    stat = material.ood_mean(cell)
    return stat.mean if stat else float("-inf")


def oracle(material: ReportData, backbone: str) -> Table | None:
    """OOD metric of the run chosen by validation, and of the run one would choose if OOD labels were known."""
    if not material.sets:
        return None
    rows = []
    for cell in material.groups_on(backbone):
        validation = cell.values(f"validation/{material.primary}")
        away = material.ood_values(cell)
        if len(cell.runs) < 2 or np.isnan(away).all() or np.isnan(validation).all():
            continue
        chosen = away[int(np.nanargmax(validation))]
        mean, best = float(np.nanmean(away)), float(np.nanmax(away))
        rows.append(
            (cell.variant, str(cell.per_label), f"{mean:.3f}", f"{chosen:.3f}", f"{best:.3f}", f"{best - chosen:+.3f}")
        )
    if not rows:
        return None
    heads = (
        "strategy",
        "per label",
        "mean of runs",
        "chosen on validation",
        "oracle: chosen on OOD",
        "oracle - honest",
    )
    return Table(f"oracle-{backbone}", heads, rows)
