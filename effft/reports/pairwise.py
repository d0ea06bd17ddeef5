"""Differences between strategies on the same shots: paired, tested by sign flips, corrected for their number."""

from dataclasses import dataclass, replace
from itertools import combinations

import pandas as pd

from effft.config import Amount
from effft.evaluation.statistics import PairedDifference, holm, paired_difference, smallest_p
from effft.reports.blocks import Block, Table
from effft.reports.data import ReportData, split_title
from effft.reports.groups import RunGroup

LEVEL = 0.05
MOST = 16
"""Strategies in one matrix; a larger one cannot be read."""


@dataclass(frozen=True)
class Pair:
    """One strategy against another on one split: mean difference over pairs of runs, p before and after Holm."""

    backbone: str
    amount: Amount
    split: str
    one: str
    other: str
    difference: float
    pairs: int
    p: float
    p_holm: float


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


def pairs_of(data: ReportData, backbone: str, amount: Amount) -> list[Pair]:
    """All pairs of strategies on every split, corrected together."""
    pairs = [
        Pair(backbone, amount, split, one.variant, other.variant, found.mean, found.count, found.p, found.p)
        for split in data.splits
        for one, other in combinations(data.groups_on(backbone, amount)[:MOST], 2)
        if (found := difference(one, other, f"{split}/{data.primary}"))
    ]
    return [replace(pair, p_holm=p) for pair, p in zip(pairs, holm([pair.p for pair in pairs]), strict=True)]


def pairs_section(data: ReportData, backbone: str, pairs: list[Pair]) -> list[Block]:
    """A matrix for every split and number of examples, and what may be read from it."""
    if not pairs:
        return ["There are no two strategies on the same shots."]
    blocks: list[Block] = [
        f"Row minus column in {data.primary}, mean over runs with the same seed and the same shots. A star marks a "
        f"difference that holds at {LEVEL} (two-sided sign-flip permutation test, Holm's correction over the matrices "
        "of one number of examples). Pairs of one draw share their examples, so with few data_seeds p is optimistic."
    ]
    for amount in sorted({pair.amount for pair in pairs}, reverse=True):
        here = [pair for pair in pairs if pair.amount == amount]
        for split in dict.fromkeys(pair.split for pair in here):
            blocks.append(_matrix([pair for pair in here if pair.split == split]))
        counts = sorted({pair.pairs for pair in here})
        number = f"{counts[0]} to {counts[-1]}" if counts[1:] else str(counts[0])
        clear = sum(pair.p_holm < LEVEL for pair in here)
        line = (
            f"{amount.examples}, {number} pairs each: {clear} of {len(here)} differences hold at {LEVEL} "
            "after Holm's correction."
        )
        if smallest_p(counts[-1]) > LEVEL / len(here):
            line += " No difference can hold with so few pairs: run more seeds and data_seeds."
        blocks.append(line)
    return blocks


def _matrix(pairs: list[Pair]) -> Table:
    names = list(dict.fromkeys(name for pair in pairs for name in (pair.one, pair.other)))
    entries = {(name, name): "" for name in names}
    for pair in pairs:
        star = "*" if pair.p_holm < LEVEL else ""
        entries[pair.one, pair.other] = f"{pair.difference:+.3f}{star}"
        entries[pair.other, pair.one] = f"{-pair.difference:+.3f}{star}"
    rows = [(one, *(entries.get((one, other), "-") for other in names)) for one in names]
    title = f"{split_title(pairs[0].split)}, {pairs[0].amount.phrase}"
    return Table((title, *names), rows)
