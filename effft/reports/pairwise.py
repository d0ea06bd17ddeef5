"""Differences between strategies on the same shots: paired, tested by sign flips, corrected for their number."""

from dataclasses import dataclass, replace
from itertools import combinations

import pandas as pd

from effft.evaluation.statistics import PairedDifference, holm, paired_difference, smallest_p
from effft.reports.blocks import Block, Table, Text
from effft.reports.data import ReportData
from effft.reports.groups import RunGroup

LEVEL = 0.05
MOST = 16
"""Strategies in one matrix; a larger one cannot be read."""


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


def difference(one: RunGroup, other: RunGroup, key: str) -> PairedDifference | None:
    """One - other, for every (seed, data_seed) that both have.

    Where the seed changes nothing in one of them, each is averaged over its seeds first: one pair for every draw.
    """
    by_draw = not (one.trains and other.trains)
    sides = []
    for group in (one, other):
        index = pd.MultiIndex.from_arrays([group.seeds * (not by_draw), group.draws])
        sides.append(pd.Series(group.values(key), index=index).dropna().groupby(level=[0, 1]).mean().to_dict())
    return paired_difference(*sides)


def pairs_of(data: ReportData, backbone: str, per_label: int) -> list[Pair]:
    """All pairs of strategies on every split, corrected together."""
    pairs = []
    for split in data.splits:
        for one, other in combinations(data.groups_on(backbone, per_label)[:MOST], 2):
            found = difference(one, other, f"{split}/{data.primary}")
            if found is not None:
                place = (backbone, per_label, split, one.variant, other.variant)
                pairs.append(Pair(*place, found.mean, found.count, found.p))
    corrected = holm([pair.p for pair in pairs])
    return [replace(pair, corrected=p) for pair, p in zip(pairs, corrected, strict=True)]


def pairs_section(data: ReportData, backbone: str, pairs: list[Pair]) -> list[Block]:
    """A matrix for every split and number of examples, and what may be read from it."""
    blocks: list[Block] = []
    for per_label in sorted({pair.per_label for pair in pairs}, reverse=True):
        here = [pair for pair in pairs if pair.per_label == per_label]
        for split in data.splits:
            of_split = [pair for pair in here if pair.split == split]
            if of_split:
                blocks.append(_matrix(backbone, per_label, split, of_split))
        counts = sorted({pair.count for pair in here})
        number = f"{counts[0]} to {counts[-1]}" if counts[1:] else str(counts[0])
        clear = sum(pair.corrected < LEVEL for pair in here)
        line = (
            f"{per_label} examples per label, {number} pairs each: {clear} of {len(here)} differences hold at {LEVEL} "
            "after Holm's correction."
        )
        if smallest_p(counts[-1]) > LEVEL / len(here):
            line += " No difference can hold with so few pairs: run more seeds and data_seeds."
        blocks.append(Text((line,)))
    if not blocks:
        return [Text(("There are no two strategies on the same shots.",))]
    about = (
        f"Row minus column in {data.primary}, mean over runs with the same seed and the same shots. A star marks a "
        f"difference that holds at {LEVEL} (two-sided sign-flip permutation test, Holm's correction over the matrices "
        "of one number of examples). Pairs of one draw share their examples, so with few data_seeds p is optimistic."
    )
    return [Text((about,)), *blocks]


def _matrix(backbone: str, per_label: int, split: str, pairs: list[Pair]) -> Table:
    names = list(dict.fromkeys(name for pair in pairs for name in (pair.one, pair.other)))
    known = {(pair.one, pair.other): (pair.difference, pair.corrected) for pair in pairs}
    known |= {(pair.other, pair.one): (-pair.difference, pair.corrected) for pair in pairs}

    def entry(one: str, other: str) -> str:
        if (one, other) not in known:
            return "" if one == other else "-"
        mean, p = known[one, other]
        return f"{mean:+.3f}" + ("*" if p < LEVEL else "")

    rows = [(one, *(entry(one, other) for other in names)) for one in names]
    title = f"{split.replace('in_domain', 'in domain')}, {per_label} per label"
    return Table(f"pairs-{backbone}-{per_label}-{split}", (title, *names), rows)
