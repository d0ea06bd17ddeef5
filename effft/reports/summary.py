"""The main table, and the words that say what a number is worth."""

from collections.abc import Iterator

from effft.reports.blocks import Part, Table, Text
from effft.reports.data import ReportData
from effft.reports.groups import RunGroup, Statistic

ROUGH = 5
"""Distinct runs below which an interval is called rough."""


def main_part(material: ReportData, backbone: str) -> Iterator[Part]:
    """The table of one backbone, with reference rows, and what its columns mean."""
    heads = ("strategy", "per label", "distinct runs", *(_head(s, material) for s in material.splits), "gap", "remarks")
    rows: list[tuple[str, ...]] = []
    quiet = []
    for per_label in material.per_labels(backbone):
        cells = material.cells_on(backbone, per_label)
        rows += [_row(material, cell) for cell in cells]
    known = [material.references(material.cells_on(backbone), split) for split in material.splits]
    for place, name in enumerate(("majority", "chance")):
        quiet.append(len(rows))
        rows.append((name, "", "", *("-" if r is None else f"{r[place]:.3f}" for r in known), "", ""))
    yield Table(f"main-{backbone}", heads, rows, "", (0, len(heads) - 1), tuple(quiet))
    yield Text(
        (
            f"Mean ± standard deviation over distinct runs, and a 95 % bootstrap interval over seed x data_seed of "
            f"{material.primary}; gap = in domain minus the mean of the OOD sets. “At chance” means that the interval "
            f"holds what guessing gets. An interval from fewer than {ROUGH} runs is rough.",
        )
    )


def _head(split: str, material: ReportData) -> str:
    return f"{split.replace('in_domain', 'in domain')} {material.primary}"


def _row(material: ReportData, cell: RunGroup) -> tuple[str, ...]:
    found = [material.stat(cell, split) for split in material.splits]
    gap = material.gap(cell)
    return (
        cell.variant,
        str(cell.per_label),
        str(len(cell.runs)),
        *("-" if stat is None else str(stat) for stat in found),
        "-" if gap is None else f"{gap.mean:.3f}",
        "; ".join(remarks(material, cell)),
    )


def remarks(material: ReportData, cell: RunGroup) -> Iterator[str]:
    """'in domain at chance', 'ood/x below majority', in words."""
    for split in material.splits:
        stat, known = material.stat(cell, split), material.references([cell], split)
        if stat is None or known is None:
            continue
        majority, chance = known
        where = split.replace("in_domain", "in domain")
        low, high = bounds(material, cell, split, stat)
        if high < chance:
            yield f"{where} below chance"
        elif low <= chance:
            yield f"{where} at chance"
        elif stat.mean <= majority:
            yield f"{where} below majority"
    if cell.copies:
        yield f"{cell.copies} identical results left out"


def bounds(material: ReportData, cell: RunGroup, split: str, stat: Statistic) -> tuple[float, float]:
    """The interval over runs; of a single run, its own over examples; else the number itself."""
    if stat.low is not None and stat.high is not None:
        return stat.low, stat.high
    key = f"{split}/{material.primary}"
    low, high = cell.stat(f"{key}_low"), cell.stat(f"{key}_high")
    return (low.mean if low else stat.mean), (high.mean if high else stat.mean)
