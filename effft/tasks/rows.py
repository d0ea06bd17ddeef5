"""Rows of a source become examples: rows are chosen, texts cleaned, labels mapped."""

import ast
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from effft.data.examples import Example
from effft.data.table import Table
from effft.errors import InputError, nearest
from effft.tasks.source import LabelRule, Source

UNKNOWN = "unknown"
"""Value of a slice dimension that a source has no column for."""


def to_examples(
    table: Table, source: Source, fields: Sequence[str], labels: Sequence[str], dimensions: Sequence[str]
) -> tuple[Example, ...]:
    """The examples of a table.

    dimensions: what slices need: columns, or `label`.

    Raises:
        InputError: a missing column, rows outside, a label value no one knows, a text that is none, nothing left.
    """
    texts = [table.find(source.fields.get(field, (field,))) for field in fields]
    label_at = table.find(source.label.column)
    where = [(table.find((column,)), set(values)) for column, values in source.where.items()]
    slices = [(d, None if d == "label" or d in source.lacks else _dimension(table, d)) for d in dimensions]
    clean = {"": _text, "bytes_repr": _bytes_repr}[source.clean]
    index_of = _labeller(source.label, labels)
    examples = []
    for number in _numbers(table, source):
        row = table.rows[number]
        if any(_plain(row[at]) not in kept for at, kept in where):
            continue
        label = index_of(_plain(row[label_at]), table, number)
        if label is None:
            continue
        values = tuple(clean(row[at], table, number, at) for at in texts)
        if not any(values):
            raise InputError(f"{table.place(number)}: the text ({', '.join(fields)}) is empty; fill or remove the row.")
        unmarked = {"label": labels[label]}
        marks = tuple((d, unmarked.get(d, UNKNOWN) if at is None else _plain(row[at])) for d, at in slices)
        examples.append(Example(values, label, number, marks))
    if not examples:
        said = [f"`where: {{{column}: {', '.join(values)}}}`" for column, values in source.where.items()]
        said += [f"`label: {{drop: {', '.join(source.label.drop)}}}`"] if source.label.drop else []
        raise InputError(f"{table.origin}: no row is left; change {' or '.join(said) or 'its rows'}.")
    return tuple(examples)


def _numbers(table: Table, source: Source) -> Iterator[int] | range:
    if source.rows is None:
        return range(len(table.rows))
    first, end = source.rows
    if end > len(table.rows):
        raise InputError(f"{table.origin}: rows [{first}, {end}] go past its end; it has {len(table.rows)} rows.")
    return range(first, end)


def _dimension(table: Table, name: str) -> int:
    if name in table.columns:
        return table.columns.index(name)
    known = tuple(dict.fromkeys(("label", *table.columns)))
    raise InputError(
        f"{table.origin}: slice {name!r} is no column; known: {', '.join(known[:20])}.{nearest(name, known)}"
    )


def _labeller(rule: LabelRule, labels: Sequence[str]) -> Callable[[str, Table, int], int | None]:
    table = {label: i for i, label in enumerate(labels)}
    dropped: dict[str, int | None] = dict.fromkeys(rule.drop)
    known = table | {value: table[name] for value, name in rule.map.items()} | dropped

    def index_of(value: str, rows: Table, number: int) -> int | None:
        try:
            return known[value]
        except KeyError:
            raise InputError(
                f"{rows.place(number)}: unknown label {value!r}; known: {', '.join(known)}.{nearest(value, known)} "
                "Map it with `label: {map: {value: label}}` or leave such rows out with `label: {drop: [value]}`."
            ) from None

    return index_of


def _plain(value: Any) -> str:
    """A value as text; 1.0 as '1', so that a column with gaps still matches."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value).strip()


def _text(value: Any, table: Table, number: int, at: int) -> str:
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, int | float) and not isinstance(value, bool) and value == value:
        return str(value)
    raise InputError(
        f"{table.place(number)}: column {table.columns[at]!r} holds {_short(value)}, no text; fill or remove it."
    )


def _short(value: Any) -> str:
    return repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:60]}..."


def _bytes_repr(value: Any, table: Table, number: int, at: int) -> str:
    """The text of `b'...'`, Python's way to print bytes; other texts as they are."""
    text = _text(value, table, number, at)
    if text[:2] not in ("b'", 'b"'):
        return text
    try:
        data = ast.literal_eval(text)
        return str(data.decode()).strip()
    except (ValueError, SyntaxError, UnicodeDecodeError, AttributeError):
        raise InputError(f"{table.place(number)}: {text[:60]!r} looks like Python's bytes, but is not.") from None
