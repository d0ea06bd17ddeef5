"""The one form in which long work tells how far it is, from the lowest package to the command line."""

from collections.abc import Callable

ProgressCallback = Callable[[str, int, int], None]
"""Called with (stage, steps done, steps in all); 0 in all where the number is not known."""


def silent(stage: str, done: int, total: int) -> None:
    """Show nothing."""
