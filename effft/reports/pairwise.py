"""Differences between strategies on the same shots: paired, permuted, corrected for their number."""

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd

from effft.evaluation.statistics import holm, sign_flip, smallest_p
from effft.reports.blocks import Part, Table, Text
from effft.reports.data import ReportData
from effft.reports.groups import RunGroup

LEVEL = 0.05
MOST = 16
"""Strategies in one matrix; beyond that it is no longer read."""


@dataclass(frozen=True)
class Pair:
    """One strategy against another on one split: mean difference over `count` pairs, p before and after Holm."""

    backbone: str
    per_label: int
    split: str
    one: str
    other: str
    difference: float
    count: int
    p: float
    corrected: float = 1.0


def differences(one: RunGroup, other: RunGroup, key: str) -> np.ndarray:
    """One - other, for every (seed, data_seed) that both have.

    Where the seed moves nothing in one of them, each is averaged over its seeds first: a pair a draw.
    """
    sides = []
    for cell in (one, other):
        by_draw = not (one.trains and other.trains)
        place = pd.MultiIndex.from_arrays([cell.seeds * (not by_draw), cell.draws])
        values = pd.Series(cell.values(key), index=place).dropna()
        sides.append(values.groupby(level=[0, 1]).mean())
    joined = pd.concat(sides, axis=1, join="inner")
    return (joined.iloc[:, 0] - joined.iloc[:, 1]).to_numpy(dtype=np.float64)


def pairs_of(material: ReportData, backbone: str, per_label: int) -> list[Pair]:
    """All pairs of strategies on every split, corrected together."""
    cells = material.groups_on(backbone, per_label)[:MOST]
    found = []
    for split in material.splits:
        for one, other in combinations(cells, 2):
            values = differences(one, other, f"{split}/{material.primary}")
            if len(values):
                place = (backbone, per_label, split, one.variant, other.variant)
                found.append(Pair(*place, float(values.mean()), len(values), sign_flip(values)))
    corrected = holm([pair.p for pair in found])
    return [replace(pair, corrected=p) for pair, p in zip(found, corrected, strict=True)]


def pair_parts(material: ReportData, backbone: str, pairs: list[Pair]) -> list[Part]:
    """A matrix a split and number of examples, and what may be read from it."""
    parts: list[Part] = []
    for per_label in sorted({pair.per_label for pair in pairs}, reverse=True):
        here = [pair for pair in pairs if pair.per_label == per_label]
        for split in material.splits:
            of_split = [pair for pair in here if pair.split == split]
            if of_split:
                parts.append(_matrix(material, backbone, per_label, split, of_split))
        counts = sorted({pair.count for pair in here})
        few = smallest_p(max(counts, default=0)) > LEVEL / max(1, len(here))
        said = f"{per_label} per label: {counts[0]}" + (f" to {counts[-1]}" if counts[1:] else "") + " pairs each"
        told = sum(pair.corrected < LEVEL for pair in here)
        line = f"{said}; {told} of {len(here)} differences hold at {LEVEL} after Holm's correction."
        if few:
            line += " So few pairs cannot reach that, whatever their difference: run more seeds and data_seeds."
        parts.append(Text((line,)))
    about = (
        f"Row minus column in {material.primary}, mean over runs with the same seed and the same shots; * holds at "
        f"{LEVEL} after Holm's correction over the matrices of one number of examples (sign-flip permutation test, "
        "two-sided). "
        "Pairs of one draw share their examples: with few data_seeds, read p as optimistic."
    )
    return [Text((about,)), *parts] if parts else [Text(("There are no two strategies on the same shots.",))]


def _matrix(material: ReportData, backbone: str, per_label: int, split: str, pairs: list[Pair]) -> Table:
    names = list(dict.fromkeys(name for pair in pairs for name in (pair.one, pair.other)))
    known = {(pair.one, pair.other): (pair.difference, pair.corrected) for pair in pairs}
    known |= {(pair.other, pair.one): (-pair.difference, pair.corrected) for pair in pairs}

    def cell(one: str, other: str) -> str:
        if (one, other) not in known:
            return "" if one == other else "-"
        difference, p = known[one, other]
        return f"{difference:+.3f}" + ("*" if p < LEVEL else "")

    rows = [(one, *(cell(one, other) for other in names)) for one in names]
    title = f"{split.replace('in_domain', 'in domain')}, {per_label} per label"
    return Table(f"pairs-{backbone}-{per_label}-{split}", (title, *names), rows)
