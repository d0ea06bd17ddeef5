"""Rows under named columns, where each stands, and how a value becomes the text that a model reads."""

import ast
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from effft.errors import InputError, nearest


class SourceRow(NamedTuple):
    """One row: its line in a text file (from 1) or its number elsewhere (from 0), and its values by column."""

    number: int
    values: dict[str, Any]


@dataclass(frozen=True)
class Table:
    """Rows under named columns; iterating reads them from the start, one at a time.

    origin: what finds the rows again. unit: what a row's number counts, `line` or `row`.
    """

    origin: str
    columns: tuple[str, ...]
    read: Callable[[], Iterator[SourceRow]]
    unit: str = "row"

    def __iter__(self) -> Iterator[SourceRow]:
        return self.read()

    def place(self, row: SourceRow) -> str:
        """'x.csv, line 7': where a row stands."""
        return f"{self.origin}, {self.unit} {row.number}"

    def delimiter_hint(self, name: str = "") -> str:
        """A sentence where the one column, which should be several (`name` among them), is a whole line; else ''."""
        only = self.columns[0] if len(self.columns) == 1 else ""
        mark = next((mark for mark in "\t,;|" if mark in only and (not name or name in only.split(mark))), "")
        remedy = {"\t": "name it .tsv", ",": "name it .csv"}.get(mark, "save it with commas")
        told = f" It looks delimited by {mark!r}: {remedy}, or let the key `delimiter` of a task file say so."
        return told if mark else ""

    def find(self, names: Sequence[str]) -> str:
        """The first of `names` that is a column."""
        for name in names:
            if name in self.columns:
                return name
        hint = self.delimiter_hint(names[0]) or nearest(names[0], self.columns)
        wanted = " or ".join(map(repr, names))
        raise InputError(f"{self.origin}: no column {wanted}; it has: {listed(self.columns)}.{hint}")


def normalize_text(value: Any, undo_bytes: bool = False) -> str:
    """A value as the text that a model reads: numbers are written out, white space at both ends goes.

    undo_bytes: 'b"..."', Python's way to print bytes, becomes the text it stands for.

    Raises:
        ValueError: the value is no text; the message says what it is.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and value == value:
        value = str(value)
    if not isinstance(value, str):
        shown = repr(value)
        raise ValueError(f"holds {shown if len(shown) <= 60 else f'{shown[:60]}...'}, no text; fill or remove it")
    text = value.strip()
    if not undo_bytes or text[:2] not in ("b'", 'b"'):
        return text
    try:
        return str(ast.literal_eval(text).decode()).strip()
    except (ValueError, SyntaxError, UnicodeDecodeError, AttributeError):
        raise ValueError(f"holds {text[:60]!r}, which looks like Python's bytes, but is not") from None


def is_text(value: str) -> bool:
    """Whether a string can be written as UTF-8 and holds no NUL: escapes of JSON and YAML can make others."""
    try:
        return b"\0" not in value.encode()
    except UnicodeEncodeError:
        return False


def listed(names: Sequence[str], most: int = 20, separator: str = ", ") -> str:
    """The first names and how many more there are."""
    return separator.join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
