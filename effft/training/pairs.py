"""Pairs of training texts, for a contrastive loss."""

import random
from collections import Counter
from collections.abc import Sequence
from itertools import combinations_with_replacement
from typing import overload

from effft.data.examples import Label
from effft.strategies.batch import Item


def pair_count(labels: Sequence[Label]) -> int:
    """Pairs that `Pairs` makes of rows with these labels."""
    rows, own = len(labels), Counter(labels).values()
    same = sum(n * (n + 1) // 2 for n in own)
    other = (rows**2 - sum(n**2 for n in own)) // 2
    return 2 * max(same, other) if other else same


class Pairs(Sequence[Item]):
    """Every pair of items, a pair with itself included, as SetFit's package makes them (version 1.2).

    Pairs of one label and of two are equally many: the smaller kind is repeated in its shuffled order.

    Args:
        items: labelled.
        order: shuffles the pairs of each kind.
    """

    def __init__(self, items: Sequence[Item], order: random.Random) -> None:
        self.items = items
        kinds: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
        for one, other in combinations_with_replacement(range(len(items)), 2):
            kinds[items[one].label == items[other].label].append((one, other))
        for pairs in kinds.values():
            order.shuffle(pairs)
        self.same, self.other = kinds[True], kinds[False]

    def __len__(self) -> int:
        return 2 * max(len(self.same), len(self.other)) if self.other else len(self.same)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        is_other = index % 2 if self.other else 0
        pairs = self.other if is_other else self.same
        one, other = pairs[(index // 2 if self.other else index) % len(pairs)]
        return self.items[one]._replace(label=1 - is_other, partner=self.items[other])
