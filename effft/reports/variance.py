"""How much of the spread of a strategy comes from its seed, and how much from the draw of its examples."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from effft.evaluation.statistics import Array
from effft.reports.blocks import Table
from effft.reports.claims import METRIC
from effft.reports.data import ReportData, split_title


@dataclass(frozen=True)
class Components:
    """Standard deviations over seeds, over draws, and of what neither tells; see `components`."""

    seed: float
    draw: float
    rest: float


def components(values: Array) -> Components:
    """Of a table of one run for every seed (row) and draw (column), by the two-way analysis of variance.

    Mean squares are set equal to what they estimate (Searle, Casella and McCulloch 1992, chapter 4); a negative
    variance counts as 0.
    """
    seeds, draws = values.shape
    row, column = values.mean(axis=1, keepdims=True), values.mean(axis=0, keepdims=True)
    rest = ((values - row - column + values.mean()) ** 2).sum() / ((seeds - 1) * (draws - 1))
    over_seeds = max(0.0, row.var(ddof=1) - rest / draws)
    over_draws = max(0.0, column.var(ddof=1) - rest / seeds)
    return Components(*(float(np.sqrt(variance)) for variance in (over_seeds, over_draws, rest)))


def variance_table(tasks: Mapping[str, ReportData]) -> Table | None:
    """A row for every group whose seeds and draws all meet; None where there is none."""
    rows = []
    for task, data in tasks.items():
        for group in data.groups:
            (seeds, row), (draws, column) = (np.unique(at, return_inverse=True) for at in (group.seeds, group.draws))
            if min(len(seeds), len(draws)) < 2 or len(group.runs) != len(seeds) * len(draws):
                continue
            for split in data.splits:
                table = np.full((len(seeds), len(draws)), np.nan)
                table[row, column] = group.values(f"{split}/{METRIC}")
                if not np.isnan(table).any():
                    found = components(table)
                    numbers = (table.mean(), table.std(ddof=1), found.seed, found.draw, found.rest)
                    place = (f"{task}, {group.amount.phrase}", group.backbone, group.strategy, split_title(split))
                    size = f"{len(seeds)} x {len(draws)}"
                    rows.append((*place, size, *(f"{number:.3f}" for number in numbers)))
    heads = ("task", "model", "strategy", "on", "seeds x draws", "mean", "sd of a run", "by seed", "by draw", "rest")
    caption = (
        "Where the spread of balanced accuracy comes from: standard deviations over seeds (initialization, order and "
        "dropout), over draws of the examples, and of what neither tells."
    )
    return Table(heads, rows, caption, left=(0, 1, 2, 3)) if rows else None
