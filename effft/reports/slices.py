"""Accuracy on the slices of every split as tables: slices below their dimension, strategies as columns."""

from collections.abc import Iterator, Sequence

import numpy as np

from effft.config import Amount
from effft.evaluation.metric_keys import slices_with
from effft.reports.blocks import Table
from effft.reports.data import ReportData, metric_names, split_title
from effft.reports.groups import RunGroup

MOST = 200  # Slices in one table: those on which the strategies differ most; the file measures.csv has all.
ENOUGH = 30  # Examples from which on a slice is named as the hardest, and stands before smaller ones.


def slice_tables(data: ReportData, backbone: str, amount: Amount) -> Iterator[Table]:
    """A table for every split that has slices: those of a dimension together, large and contested ones first."""
    groups, names = data.groups_on(backbone, amount), metric_names(data.frame)
    for split in data.splits:
        judged = [place for place, group in enumerate(groups) if group.trains] or range(len(groups))
        rows: list[tuple[str, tuple[bool, float], list[str]]] = []
        for key, parts in slices_with(names, split, "accuracy").items():
            means = [stat.mean if (stat := group.stat(key)) else None for group in groups]
            if known := [mean for place in judged if (mean := means[place]) is not None]:
                dimension = ", ".join(name for name, _ in parts.slice)
                value = ", ".join(value or "(blank)" for _, value in parts.slice)
                cells = ["-" if mean is None else f"{mean:.2f}" for mean in means]
                least, most = slice_size(groups, key)
                count = "-" if np.isnan(least) else f"{least:.0f}" if least == most else f"{least:.0f} to {most:.0f}"
                order = (not least >= ENOUGH, min(known) - max(known))
                rows.append((dimension, order, [value, count, *cells]))
        kept = sorted(rows, key=lambda row: row[1])[:MOST]
        kept.sort(key=lambda row: (row[0].count(","), row[0], row[1]))
        if kept:
            more = f" The {MOST} with the widest spread of {len(rows)}; measures.csv has all." if rows[MOST:] else ""
            majority = next((m for group in groups if (m := group.mean_of(split, "majority"))), None)
            below = [
                g.variant for g in groups if majority and (mean := g.mean_of(split, "accuracy")) and mean < majority
            ]
            if majority:
                more += f" Always the most frequent label of the split has {majority:.3f}: red below it, blue above."
            else:
                more += " Red below 0.5, blue above."
            if below:
                more += f" On the whole split below it: {', '.join(below) if len(below) < len(groups) else 'all'}."
            on = f" on {backbone}" if len(data.backbones) > 1 else ""
            yield Table(
                ("slice", "n", *(group.variant for group in groups)),
                [row for _, _, row in kept],
                f"{split_title(split).capitalize() if split == data.home else split}, {amount.examples}{on}.{more}",
                kind="slices",
                keys=[dimension for dimension, _, _ in kept],
                middle=majority or 0.5,
                where={"backbone": backbone, "split": split},
            )


def slice_size(groups: Sequence[RunGroup], key: str) -> tuple[float, float]:
    """How many examples a slice has, least and most over the runs; NaN where none logged it."""
    counts = np.concatenate([group.values(key.removesuffix("accuracy") + "examples") for group in groups])
    known = counts[counts == counts]
    return (float(known.min()), float(known.max())) if len(known) else (np.nan, np.nan)
