"""Differences between strategies on the same shots: paired, tested by sign flips, corrected for their number."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from effft.config import Amount
from effft.evaluation.statistics import PairedDifference, holm, paired_difference, smallest_p
from effft.reports.blocks import Block, Table
from effft.reports.data import ReportData, split_title
from effft.reports.groups import RunGroup

LEVEL = 0.05
MOST = 16  # Strategies in one table; a larger one cannot be read.


@dataclass(frozen=True)
class Pair:
    """One strategy against another on one split: mean difference over pairs of runs, p before and after Holm.

    low, high: Student's 95 % interval over the pairs, NaN for a single one.
    """

    backbone: str
    amount: Amount
    split: str
    one: str
    other: str
    difference: float
    pairs: int
    p: float
    p_holm: float
    low: float
    high: float

    @property
    def text(self) -> str:
        """'+0.053* [0.021, 0.085]'."""
        ends = "" if np.isnan(self.low) else f" [{self.low:+.3f}, {self.high:+.3f}]"
        return f"{self.difference:+.3f}{'*' if self.p_holm < LEVEL else ''}{ends}"


def paired_values(one: RunGroup, other: RunGroup, key: str) -> list[dict[Any, float]]:
    """The values of both for every (seed, data_seed).

    Where the seed changes nothing in one of them, each is averaged over its seeds first: one pair for every draw.
    """
    by_draw = not (one.trains and other.trains)
    sides = []
    for group in (one, other):
        index = pd.MultiIndex.from_arrays([group.seeds * (not by_draw), group.draws])
        sides.append(pd.Series(group.values(key), index=index).dropna().groupby(level=[0, 1]).mean().to_dict())
    return sides


def difference(one: RunGroup, other: RunGroup, key: str) -> PairedDifference | None:
    """One - other, for every (seed, data_seed) that both have."""
    return paired_difference(*paired_values(one, other, key))


def pairs_between(groups: Sequence[tuple[RunGroup, RunGroup]], splits: Sequence[str], metric: str) -> list[Pair]:
    """The first minus the second group of each, on every split, corrected together."""
    pairs = []
    for split in splits:
        for one, other in groups:
            if found := difference(one, other, f"{split}/{metric}"):
                ends = found.interval if found.count > 1 else (np.nan, np.nan)
                numbers = (found.mean, found.count, found.p, found.p, *ends)
                pairs.append(Pair(one.backbone, one.amount, split, one.variant, other.variant, *numbers))
    return [replace(pair, p_holm=p) for pair, p in zip(pairs, holm([pair.p for pair in pairs]), strict=True)]


def pairs_of(data: ReportData, backbone: str, amount: Amount) -> list[Pair]:
    """All pairs of strategies on every split."""
    return pairs_between([*combinations(data.groups_on(backbone, amount)[:MOST], 2)], data.splits, data.primary)


def pairs_section(data: ReportData, pairs: list[Pair]) -> list[Block]:
    """A triangle for every backbone, number of examples and split, and what may be read from it."""
    if not pairs:
        return ["There are no two strategies on the same shots."]
    blocks: list[Block] = [
        f"Row minus column in {data.primary}, mean over runs with the same seed and the same shots, with "
        "Student's 95 % interval over these pairs. A star marks a difference that holds at "
        f"{LEVEL} (two-sided sign-flip "
        "permutation test, Holm's correction over the tables of one number of examples). Only seeds that both have "
        "count, so a difference need not be that of the two means. Pairs of one draw share their examples, so with few "
        "data_seeds p is optimistic."
    ]
    places = sorted({(data.backbones.index(p.backbone), p.amount) for p in pairs}, key=lambda at: (at[0], -sum(at[1])))
    for place, amount in places:
        here = [pair for pair in pairs if (pair.backbone, pair.amount) == (data.backbones[place], amount)]
        counts = sorted({pair.pairs for pair in here})
        number = f"{counts[0]} to {counts[-1]}" if counts[1:] else str(counts[0])
        few = " None can hold with so few pairs: run more seeds and data_seeds."
        more = few if smallest_p(counts[-1]) > LEVEL / len(here) else ""
        for split in _splits(here):
            own = [pair for pair in here if pair.split == split]
            total = f" over all {len(here)}" if len(own) < len(here) else ""
            clear = f"{sum(pair.p_holm < LEVEL for pair in own)} of {len(own)} differences hold at {LEVEL}"
            line = f"{clear} after Holm's correction{total}, {number} pairs each.{more}"
            blocks.append(_triangle(data, own, line))
    return blocks


def _splits(pairs: list[Pair]) -> list[str]:
    return list(dict.fromkeys(pair.split for pair in pairs))


def _triangle(data: ReportData, pairs: list[Pair], line: str) -> Table:
    """Rows below columns: each pair once."""
    first = pairs[0]
    names = list(dict.fromkeys(name for pair in pairs for name in (pair.one, pair.other)))
    known = {(pair.one, pair.other): pair.text for pair in pairs}
    rows = [(row, *(known.get((row, column), "") for column in names[1:])) for row in names[:-1]]
    backbone = f" on {first.backbone}" if len(data.backbones) > 1 else ""
    caption = f"{split_title(first.split)}, {first.amount.examples}{backbone}. {line}"
    where = {"backbone": first.backbone, "amount": first.amount.name, "split": first.split}
    return Table(("row minus column", *names[1:]), rows, caption, kind="pairs", where=where)
