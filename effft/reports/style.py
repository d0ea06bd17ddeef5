"""Colours and marks: the same strategy looks the same in every figure, on white and on black."""

from collections.abc import Iterable

PALETTE = (
    "#2f7ed8", "#e07b00", "#1a9a6c", "#c94f9b", "#8a63d2", "#b59a00", "#00a0b0", "#d2504b", "#7c8798", "#5f8f1f",
    "#a2673f", "#4d5bd1",
)  # fmt: skip
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "hexagon", "triangle-down", "x", "pentagon")


def colours(names: Iterable[str]) -> dict[str, str]:
    """Name -> colour, in the order they come."""
    return {name: PALETTE[place % len(PALETTE)] for place, name in enumerate(dict.fromkeys(names))}


def symbols(names: Iterable[str]) -> dict[str, str]:
    """Name -> mark, so that colour alone carries nothing."""
    return {name: SYMBOLS[place % len(SYMBOLS)] for place, name in enumerate(dict.fromkeys(names))}
