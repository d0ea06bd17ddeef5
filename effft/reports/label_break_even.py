"""From how many labels on one strategy beats another: by the mean, surely, and by the worst run."""

from collections.abc import Callable, Sequence
from itertools import permutations

from effft.reports.blocks import Table
from effft.reports.groups import HOME, RunGroup
from effft.reports.pairwise import MOST, difference

KEY = f"score/{HOME}"
Pair = tuple[RunGroup, RunGroup]  # At one number of examples.
HEADS = ("strategy", "beats", "by the mean from", "surely from", "by its worst run from")
OVERTAKING = (
    "The least number of examples from which on the first is above the second wherever both were measured: by the mean "
    "of the paired runs, by their whole 95 % interval, and by the lowest run of each, which tells of bad seeds. Listed "
    "where the second is as good or better with fewer examples; -: not with the most examples either."
)


def label_break_even(groups: Sequence[RunGroup], backbone: str) -> Table | None:
    """A row for every strategy that overtakes another as examples are added; None where none does.

    groups: those of one backbone.
    """
    curves = {variant: {g.amount: g for g in groups if g.variant == variant} for variant in (g.variant for g in groups)}
    rows = []
    for (one, ours), (other, theirs) in permutations(list(curves.items())[:MOST], 2):
        pairs = [(ours[a], theirs[a]) for a in sorted(ours) if a in theirs and difference(ours[a], theirs[a], KEY)]
        if len(pairs) > 1 and not _mean_above(*pairs[0]):
            found = [first_above(pairs, above) for above in (_mean_above, surely_above, _worst_above)]
            if found[0]:
                rows.append([one, other, *(pair[0].amount.phrase if pair else "-" for pair in found)])
    return Table(HEADS, rows, f"{backbone}: from how many examples on", left=(0, 1)) if rows else None


def first_above(pairs: Sequence[Pair], above: Callable[[RunGroup, RunGroup], bool]) -> Pair | None:
    """The first pair from which on all are above, of pairs by rising number of examples; None where the last is not."""
    found = None
    for pair in reversed(pairs):
        if not above(*pair):
            break
        found = pair
    return found


def _mean_above(one: RunGroup, other: RunGroup) -> bool:
    gap = difference(one, other, KEY)
    return gap is not None and gap.mean > 0


def surely_above(one: RunGroup, other: RunGroup, key: str = KEY) -> bool:
    """Whether the whole interval of the paired difference lies above 0."""
    gap = difference(one, other, key)
    return gap is not None and gap.above_zero


def _worst_above(one: RunGroup, other: RunGroup) -> bool:
    return bool(one.values(KEY).min() > other.values(KEY).min())
