"""One labelled item, and a set of them."""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

UNLABELLED = -1  # Class index of an example without a label.

Label = int | tuple[int, ...]  # A class index; or, where a row can have several labels, a 1 or 0 for each.


@dataclass(frozen=True, slots=True)
class Example:
    """One item, labelled or not.

    texts: the task's text fields, in the task's order. label: class index, from data to metric, never rewritten, or a 1
    or 0 for each label; or `UNLABELLED`. index: the row's number in its source, before filters (0-based).
    slices: (dimension, value) pairs for the task's slice dimensions, for example
    (("heuristic", "lexical_overlap"), ("subcase", "ln_conjunction")).
    """

    texts: tuple[str, ...]
    label: Label
    index: int
    slices: tuple[tuple[str, str], ...] = ()

    @property
    def labels(self) -> tuple[int, ...]:
        """The class indices that it has."""
        if isinstance(self.label, tuple):
            return tuple(place for place, given in enumerate(self.label) if given)
        return (self.label,) if self.label != UNLABELLED else ()


@dataclass(frozen=True)
class ExampleSet:
    """The examples of one split, in source order, and where they came from.

    name: `train`, `validation`, `in_domain` or `ood/<name>`. origin: a hub id with revision, a file's path, or
    `built-in ...`: what a person needs to find the rows again.
    """

    name: str
    examples: tuple[Example, ...]
    origin: str

    @property
    def labelled(self) -> bool:
        """Whether its examples have labels."""
        return all(example.label != UNLABELLED for example in self.examples[:1])

    def __len__(self) -> int:
        return len(self.examples)

    @cached_property
    def digest(self) -> str:
        """16 hex digits of SHA-256 over texts and labels in order."""
        return digest(self.examples)

    def part(self, limit: int) -> "ExampleSet":
        """`limit` examples drawn at random, always the same ones, in source order; all of them when limit is 0."""
        if not limit or limit >= len(self):
            return self
        rows = sorted(random.Random(0).sample(range(len(self)), limit))
        return replace(self, examples=tuple(self.examples[row] for row in rows))


def digest(examples: Sequence[Example]) -> str:
    """16 hex digits of SHA-256 over texts and labels, in order; lengths keep fields apart."""
    state = hashlib.sha256()
    for example in examples:
        for text in (*example.texts, str(example.label)):
            data = text.encode()
            state.update(len(data).to_bytes(8, "little"))
            state.update(data)
    return state.hexdigest()[:16]
