"""Balanced draws, and the partition that keeps the splits apart.

Every text belongs to one part by the hash of its own letters, whatever the seed and the size: a text of the train
pool can never be drawn for another split, nor for pre-training.
"""

import random
from collections.abc import Callable, Sequence
from hashlib import blake2b

from effft.errors import InputError

PARTS = ("train", "in_domain", "ood", "development", "pretraining", "pretraining")
"""Part by hash value; two sixths of all texts are left to pre-training."""

TRIES = 2000
"""Attempts at one new row before the space of texts is called exhausted."""

Row = dict[str, str]


def part_of(text: str) -> str:
    """The part that owns a text."""
    return PARTS[int.from_bytes(blake2b(text.encode(), digest_size=4).digest(), "little") % len(PARTS)]


def balanced(
    name: str,
    slices: Sequence[str],
    labels: Sequence[str],
    size: int,
    rng: random.Random,
    make: Callable[[str, str], Row | None],
    fields: Sequence[str],
) -> list[Row]:
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
    rounds = size // len(labels)
    rows: list[Row] = []
    seen: set[tuple[str, ...]] = set()
    for number in range(rounds):
        for label in labels:
            rows.append(_new(name, slices[number % len(slices)], label, make, fields, seen))
    rng.shuffle(rows)
    return rows


def _new(
    name: str,
    place: str,
    label: str,
    make: Callable[[str, str], Row | None],
    fields: Sequence[str],
    seen: set[tuple[str, ...]],
) -> Row:
    for _ in range(TRIES):
        row = make(place, label)
        if row is None:
            continue
        key = tuple(row[field] for field in fields)
        if key not in seen:
            seen.add(key)
            return row
    raise InputError(
        f"the built-in task {name!r} has no more than {len(seen)} rows of this kind (slice {place!r}, label "
        f"{label!r}); ask for a smaller size."
    )
