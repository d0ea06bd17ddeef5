"""Rows under named columns, and where each stood, so that a complaint can point at it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from effft.errors import InputError, nearest


@dataclass(frozen=True)
class Table:
    """Rows of one source. origin: what finds it again. lines: line of each row in its file, if it has any."""

    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]
    origin: str
    lines: Sequence[int] = ()

    def place(self, row: int) -> str:
        """'x.csv, line 7' for the row of that number."""
        return f"{self.origin}, line {self.lines[row]}" if self.lines else f"{self.origin}, row {row}"

    def find(self, names: Sequence[str]) -> int:
        """The position of the first of `names` that is a column.

        Raises:
            InputError: none is.
        """
        for name in names:
            if name in self.columns:
                return self.columns.index(name)
        wanted = " or ".join(map(repr, names))
        shown = ", ".join(self.columns[:20])
        hint = nearest(names[0], self.columns) or self._delimiter(names[0])
        raise InputError(f"{self.origin}: no column {wanted}; it has: {shown}.{hint}")

    def _delimiter(self, name: str) -> str:
        """A hint where one column holds the names of several."""
        only = self.columns[0] if len(self.columns) == 1 else ""
        found = next((mark for mark in "\t,;|" if mark in only and name in only.split(mark)), "")
        return (
            f" It looks delimited by {found!r}: say so with `delimiter`, or name the file for what it is."
            if found
            else ""
        )
