"""What a parameter may be in a search: plain data, kept beside the parts that own the parameters."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; `log`: even in decades; `whole`: integers."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def __str__(self) -> str:
        return f"{self.low:g}:{self.high:g}" + (":log" if self.log else "")


@dataclass(frozen=True)
class PowersOfTwo:
    """Powers of two from `low` to `high`: an ordinal, searched as its exponent."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:g}:{self.high:g}:log2"


@dataclass(frozen=True)
class Choice:
    """One of some values without order."""

    values: tuple[str, ...]

    def __str__(self) -> str:
        return "|".join(self.values)


Dimension = Range | PowersOfTwo | Choice
ALL = float("inf")
"""As upper end: as many as this backbone has blocks, or as examples are labelled; filled in when they are known."""

TRAINING_SPACE: dict[str, Dimension] = {
    "epochs": Range(5, 40, log=True, whole=True),
    "batch_size": PowersOfTwo(4, 32),
    "warmup": Range(0.0, 0.3),
    "weight_decay": Range(0.0, 0.1),
}
"""Of every strategy that trains; the learning rate's place depends on what trains (`Strategy.space`)."""
