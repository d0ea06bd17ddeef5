"""The one form in which long work tells how far it is, from the lowest package to the command line."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

ProgressCallback = Callable[[str, int, int], None]
"""Called with (stage, steps done, steps in all); 0 in all where the number is not known."""


def silent(stage: str, done: int, total: int) -> None:
    """Show nothing."""


class Display(Protocol):
    """What shows progress and single lines to a person."""

    def line(self, text: str) -> None:
        """Show a line of its own."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show how far a stage is."""


_displays: list[tuple[Display, set[str]]] = []
"""Each with what is said once and was said there."""


@contextmanager
def shown_on(display: Display) -> Iterator[None]:
    """While open, downloads are shown here, from however deep below they start."""
    shown = display, set[str]()
    _displays.append(shown)
    try:
        yield
    finally:
        _displays.remove(shown)


def current_display() -> Display | None:
    """Where downloads are shown; None where nobody looks."""
    return _displays[-1][0] if _displays else None


def say(text: str) -> None:
    """Show a line, where somebody looks and it is not empty."""
    if text and (display := current_display()):
        display.line(text)


def say_once(text: str) -> None:
    """Show a line that every run of a comparison would repeat, where somebody looks and did not see it yet."""
    if _displays and text not in _displays[-1][1]:
        _displays[-1][1].add(text)
        say(text)
