"""Balanced draws, and the partition by which no two splits share a text.

A hash of its letters decides which part a text belongs to, whatever the seed and the size. So a text of the train pool
is never drawn for another split or for pre-training.
"""

import random
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, TypeVar

from effft.errors import InputError

PARTS = ("train", "in_domain", "ood", "development", "pretraining", "pretraining")
"""Part by hash value; two sixths of all texts are left to pre-training."""

TRIES = 2000  # Attempts at one new row before the space of texts is called exhausted.
BuiltinRow = dict[str, str]  # A generated row: its text columns, its label and its slices.
Maker = TypeVar("Maker", bound=Callable[..., Any])


def by_name(*makers: Maker) -> dict[str, Maker]:
    """Functions by their names, which are values of slices."""
    return {maker.__name__: maker for maker in makers}


def part_of(text: str) -> str:
    """The part that owns a text."""
    return PARTS[int.from_bytes(blake2b(text.encode(), digest_size=4).digest(), "little") % len(PARTS)]


def balanced(
    name: str,
    slices: Sequence[str],
    labels: Sequence[str],
    size: int,
    rng: random.Random,
    make: Callable[[str, str], BuiltinRow | None],
    fields: Sequence[str],
) -> list[BuiltinRow]:
    """`size` different rows, as many of each label in every slice, in random order.

    make: (slice, label) -> a row, or None for a draw that belongs to another part; called until it gives a new one.
    fields: the columns that must differ from row to row.

    Raises:
        InputError: `size` is odd, too small for one pair a slice, or larger than the grammar has texts for.
    """
    if size % len(labels) or size < len(slices) * len(labels):
        raise InputError(
            f"size={size}: the built-in task {name!r} is balanced by label in each of {len(slices)} slices, so its "
            f"size must be a multiple of {len(labels)} and at least {len(slices) * len(labels)}."
        )
    rows: list[BuiltinRow] = []
    seen: set[tuple[str, ...]] = set()

    def new_row(place: str, label: str) -> BuiltinRow:
        for _ in range(TRIES):
            row = make(place, label)
            if row is not None and (key := tuple(row[field] for field in fields)) not in seen:
                seen.add(key)
                return row
        raise InputError(
            f"the built-in task {name!r} has no more than {len(seen)} rows of this kind (slice {place!r}, label "
            f"{label!r}); ask for a smaller size."
        )

    for number in range(size // len(labels)):
        rows += [new_row(slices[number % len(slices)], label) for label in labels]
    rng.shuffle(rows)
    return rows
