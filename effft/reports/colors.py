"""One colour and one mark for every strategy: the same in every figure of every report, on the page and in print.

The colours start from Okabe and Ito's and Paul Tol's sets for colour-blind readers, moved until each stands out from
white (first) or from near-black (second) and any two are 15 apart in CIELAB for every kind of colour blindness; a test
simulates what people see.
"""

import zlib

NAMED = {
    "vanilla": ("#004d87", "#7fc3ff"),
    "pbft": ("#381785", "#9587ff"),
    "adaptive": ("#d75f02", "#f88a57"),
    "lora": ("#23a86a", "#44f5a7"),
    "bitfit": ("#b422ae", "#d07ac1"),
    "probe": ("#774b02", "#ebdf61"),
    "context_distillation": ("#7a2254", "#f4517c"),
    "icl": ("#0e80d5", "#bcdcf4"),
    "zero_shot": ("#767676", "#ababab"),
    "setfit": ("#523de7", "#2a8c14"),
    "dora": ("#bb7cb1", "#96ff00"),
    "peft": ("#4a3e2d", "#b50aff"),
}
"""Strategy -> its colour on white and on near-black."""
OTHERS = (("#117733", "#6fc37f"), ("#b86e00", "#f0b04a"), ("#c05563", "#f5a3ad"), ("#2a8f8a", "#7adbd5"))
"""What a composed strategy gets, by its name."""
MARKS = ("o", "s", "D", "^", "v", "P", "X", "h", "p", "*", "<", ">")
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
