"""One colour and one mark for every strategy: the same in every figure of every report, on the page and in print.

The colours start from Okabe and Ito's and Paul Tol's sets for colour-blind readers, moved until each stands out from
white (light) or from near-black (dark); a test simulates what people with each kind of colour blindness see.
"""

import zlib

NAMED = {
    "vanilla": ("#0072b2", "#5ab4f0"),
    "pbft": ("#332288", "#a195f5"),
    "adaptive": ("#d55e00", "#ff8c4a"),
    "lora": ("#00916b", "#2bd1a1"),
    "bitfit": ("#aa4499", "#e08fd3"),
    "probe": ("#8a7000", "#d9c34a"),
    "context_distillation": ("#882255", "#f0709f"),
    "icl": ("#3b93c9", "#b5e0fb"),
    "zero_shot": ("#767676", "#ababab"),
}
"""Strategy -> its colour on white and on near-black."""
OTHERS = (("#117733", "#6fc37f"), ("#b86e00", "#f0b04a"), ("#c05563", "#f5a3ad"), ("#2a8f8a", "#7adbd5"))
"""What a composed strategy gets, by its name."""
MARKS = ("o", "s", "D", "^", "v", "P", "X", "h", "p", "*")
"""Shapes of marks, as matplotlib names them; report.js draws the same by their place."""


def colour(strategy: str) -> tuple[str, str]:
    """A strategy's colour, on white and on near-black."""
    return NAMED.get(strategy) or OTHERS[zlib.crc32(strategy.encode()) % len(OTHERS)]


def mark(variant: str) -> int:
    """The place in `MARKS` of the shape of a variant: colour is never all that tells two of them apart."""
    names = list(NAMED)
    return names.index(variant) if variant in NAMED else zlib.crc32(variant.encode()) % len(MARKS)


def look(strategy: str, variant: str) -> tuple[str, str, int]:
    """What the page draws a variant with: its colour on white, on near-black, and its mark."""
    return (*colour(strategy), mark(variant))
