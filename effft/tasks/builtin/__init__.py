"""Built-in tasks: labelled text made by a grammar, with known answers, for every machine without a network."""

import random
from collections.abc import Callable

from effft.errors import InputError, lookup
from effft.tasks.builtin import agreement, overlap
from effft.tasks.builtin.lexicon import AS_MADE, Difficulty
from effft.tasks.builtin.sampling import BuiltinRow

Generator = Callable[[str, bool, int, random.Random, Difficulty], list[BuiltinRow]]

GENERATORS: dict[str, Generator] = {"agreement": agreement.rows, "overlap": overlap.rows}
"""Task name -> (part, ood, size, generator of randomness, difficulty) -> rows."""

SPLITS: dict[str, tuple[str, bool]] = {
    "train": ("train", False),
    "in_domain": ("in_domain", False),
    "ood": ("ood", True),
    "development": ("development", False),
    "development_ood": ("development", True),
}
"""Split -> the part its texts belong to, and whether its phenomena are the OOD ones.

The two development splits serve whoever pre-trains a model: they share no text with the evaluated ones.
"""


def generate(name: str, split: str, size: int, seed: int, difficulty: Difficulty = AS_MADE) -> list[BuiltinRow]:
    """`size` rows of a built-in task: text columns, `label` (a name), slice columns.

    Depends on its arguments alone; balanced by label in every slice; no text occurs in two splits.

    Raises:
        InputError: unknown task or split, a seed that is no whole number, a size that cannot be balanced or found.
    """
    rows = lookup("built-in task", name, GENERATORS)
    part, ood = lookup("built-in split", split, SPLITS)
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError(f"seed={seed!r}: the seed of a built-in task must be a whole number of at least 0.")
    return rows(part, ood, size, random.Random(f"{name} {split} {seed}"), difficulty)
