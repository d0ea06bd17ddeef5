"""Where the spread of a strategy comes from: the draw of its examples, its seed, their order, its demonstrations."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from effft.evaluation.statistics import Array, Numbers
from effft.reports.blocks import Table
from effft.reports.claims import METRIC
from effft.reports.data import ReportData, split_title
from effft.reports.groups import OTHER_SEEDS, RunGroup

SOURCES = {
    "data_seed": "draws",
    "seed": "seeds",
    "param:order_seed": "orders",
    "given:demo_seed": "draws of demonstrations",
}
"""Column of a seed -> what differs with it."""


@dataclass(frozen=True)
class Components:
    """Standard deviations over the levels of two sources, and of what neither tells; see `components`."""

    first: float
    second: float
    rest: float


def components(values: Array) -> Components:
    """Of a table of one run for every level of two sources (rows, columns), by the two-way analysis of variance.

    Mean squares are set equal to what they estimate (Searle, Casella and McCulloch 1992, chapter 4); a negative
    variance counts as 0.
    """
    rows, columns = values.shape
    row, column = values.mean(axis=1, keepdims=True), values.mean(axis=0, keepdims=True)
    rest = ((values - row - column + values.mean()) ** 2).sum() / ((rows - 1) * (columns - 1))
    first = max(0.0, row.var(ddof=1) - rest / columns)
    second = max(0.0, column.var(ddof=1) - rest / rows)
    return Components(*(float(np.sqrt(variance)) for variance in (first, second, rest)))


def variance_table(tasks: Mapping[str, ReportData]) -> Table | None:
    """A row for every group in which all levels of two sources meet; None where there is none."""
    rows = []
    for task, data in tasks.items():
        for group, sources in ((part, names) for one in data.groups for part, names in _crossed(one)):
            levels = [np.unique(_levels(group, name), return_inverse=True) for name in sources]
            what = " x ".join(f"{len(known)} {SOURCES[name]}" for (known, _), name in zip(levels, sources, strict=True))
            for split in data.splits:
                table = np.full([len(known) for known, _ in levels], np.nan)
                table[levels[0][1], levels[1][1]] = group.values(f"{split}/{METRIC}")
                if not np.isnan(table).any():
                    found = components(table)
                    numbers = (table.mean(), table.std(ddof=1), found.first, found.second, found.rest)
                    place = (f"{task}, {group.amount.phrase}", group.backbone, group.strategy, split_title(split))
                    rows.append((*place, what, *(f"{number:.3f}" for number in numbers)))
    heads = ("task", "model", "strategy", "on", "what differs", "mean", "sd of a run", "by the first", "by the second")
    caption = (
        "Where the spread of balanced accuracy comes from: standard deviations over the levels of two sources, and of "
        "what neither tells. A seed decides new parameters, dropout and, where orders have no seeds of their own, the "
        "order of the examples."
    )
    return Table((*heads, "rest"), rows, caption, left=(0, 1, 2, 3, 4)) if rows else None


def _levels(group: RunGroup, source: str) -> Numbers:
    return group.draws if source == "data_seed" else group.asked(source)


def _crossed(group: RunGroup) -> Iterator[tuple[RunGroup, tuple[str, str]]]:
    """Parts of a group with the same kinds of seeds asked for, and the two sources whose levels all meet in each."""
    asked = np.array([group.asked(column) >= 0 for column in OTHER_SEEDS])
    for kinds in np.unique(asked, axis=1).T:
        part = replace(group, runs=group.runs[(asked == kinds[:, None]).all(axis=0)])
        sizes = {name: len(np.unique(_levels(part, name))) for name in SOURCES}
        several = [name for name, size in sizes.items() if size > 1]
        if len(several) == 2 and len(part.runs) == sizes[several[0]] * sizes[several[1]]:
            yield part, (several[0], several[1])
