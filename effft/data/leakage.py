"""Examples that stand in train and in an evaluation set: counted, said, and left out where that is asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from effft.data.examples import Example, ExampleSet
from effft.errors import InputError


@dataclass(frozen=True)
class LeakageCheck:
    """A split and the part of it that does not occur in train.

    The whole pool counts, not only the few examples drawn: so every draw is evaluated on the same set.
    """

    split: ExampleSet
    clean: ExampleSet

    @property
    def count(self) -> int:
        """Examples of the split whose texts also occur in train."""
        return len(self.split) - len(self.clean)

    def chosen(self, drop: bool) -> ExampleSet:
        """The split, or what is left of it without those."""
        if drop and not len(self.clean):
            raise InputError(
                f"{self.split.name}: all {len(self.split)} examples of {self.split.origin} also occur in train, so "
                "nothing is left to evaluate; name another file, or leave --drop-leaks out."
            )
        return self.clean if drop else self.split

    def note(self, drop: bool) -> list[str]:
        """A sentence, where there is something to say."""
        done = "are left out" if drop else "are evaluated all the same (--drop-leaks true leaves them out)"
        return [f"{self.count} examples of {self.split.name} also stand in train and {done}."] if self.count else []


def check_leakage(split: ExampleSet, pool: ExampleSet) -> LeakageCheck:
    """Compare the texts of a split with those of the pool."""
    texts = {example.texts for example in pool.examples}
    return LeakageCheck(split, replace(split, examples=tuple(e for e in split.examples if e.texts not in texts)))


def draw_leakage(shots: Sequence[Example], evaluated: Mapping[str, ExampleSet]) -> list[str]:
    """A sentence for every evaluated split that holds a text of this very draw."""
    texts = {e.texts for e in shots}
    found = {name: sum(e.texts in texts for e in split.examples) for name, split in evaluated.items()}
    return [f"{count} of the training texts also occur in {name}." for name, count in found.items() if count]
