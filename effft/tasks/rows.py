"""Rows of a source become examples: rows are chosen, texts normalised, labels mapped."""

import ast
import json
from collections.abc import Callable, Sequence
from typing import Any

from effft.data.examples import UNLABELLED, Example, Label
from effft.data.table import SourceRow, Table, listed, normalize_text
from effft.errors import InputError, nearest, quoted
from effft.tasks.source import LabelRule, Source

UNKNOWN = "unknown"  # Value of a slice dimension that a source has no column for.
TextReader = Callable[[SourceRow], tuple[str, ...]]
LabelReader = Callable[[SourceRow], Label | None]  # The label of a row; None where the row is left out.
YES_NO = {"1": True, "0": False, "true": True, "false": False}  # Values of a column for one label of several.


def text_reader(table: Table, fields: Sequence[str], source: Source) -> TextReader:
    """A function that gives the texts of a row, in the order of the fields.

    Training, evaluation and `effft predict` all read texts through it.

    Raises:
        InputError: a field has no column; the function raises it for a value that is no text.
    """
    columns = [table.find(source.fields.get(field, (field,))) for field in fields]

    def read(row: SourceRow) -> tuple[str, ...]:
        texts = []
        for column in columns:
            try:
                texts.append(normalize_text(row.values.get(column), source.clean == "bytes_repr"))
            except ValueError as error:
                raise InputError(f"{table.place(row)}: column {column!r} {error}.") from None
        return tuple(texts)

    return read


def to_examples(
    table: Table,
    source: Source,
    fields: Sequence[str],
    labels: Sequence[str],
    dimensions: Sequence[str],
    multi_label: bool = False,
) -> tuple[Example, ...]:
    """The examples of a table.

    Args:
        table: the rows.
        source: how they are read.
        fields: the text fields.
        labels: label names.
        dimensions: what slices need: columns, or `label`.
        multi_label: whether a row can have several labels.

    Raises:
        InputError: a missing column, rows outside, an unknown label value, a value that is no text, nothing left.
    """
    read_texts = text_reader(table, fields, source)
    where = [(table.find((column,)), set(values)) for column, values in source.where.items()]
    for dimension in dimensions:
        if dimension not in ("label", *source.lacks, *table.columns):
            known = ("label", *table.columns)
            raise InputError(
                f"{table.origin}: slice {dimension!r} is no column; known: {listed(known)}.{nearest(dimension, known)}"
            )
    label_of = _label_reader(table, source.label, labels, multi_label)
    first, end = source.rows or (0, None)
    examples, index = [], -1
    for index, row in enumerate(table):
        if index < first or (end is not None and index >= end):
            continue
        if any(as_written(row.values.get(column)) not in values for column, values in where):
            continue
        label = label_of(row)
        if label is None:
            continue
        texts = read_texts(row)
        if not any(texts):
            raise InputError(f"{table.place(row)}: the text ({', '.join(fields)}) is empty; fill or remove the row.")
        slices = {name: UNKNOWN if name in source.lacks else as_written(row.values.get(name)) for name in dimensions}
        if "label" in slices and isinstance(label, int):
            slices["label"] = labels[label]
        examples.append(Example(texts, label, index, tuple(slices.items())))
    if end is not None and end > index + 1:
        raise InputError(f"{table.origin}: rows [{first}, {end}] go past its end; it has {index + 1} rows.")
    if not examples:
        filters = [f"`where: {{{column}: {', '.join(values)}}}`" for column, values in source.where.items()]
        filters += [f"`label: {{drop: {', '.join(source.label.drop)}}}`"] if source.label.drop else []
        raise InputError(f"{table.origin}: no row is left; change {' or '.join(filters) or 'its rows'}.")
    return tuple(examples)


def _label_reader(table: Table, rule: LabelRule, labels: Sequence[str], multi_label: bool) -> LabelReader:
    """A function from a row to its label."""
    if not rule.column:
        return lambda row: UNLABELLED
    index = {label: i for i, label in enumerate(labels)}
    known = index | {value: index[name] for value, name in rule.map.items()}

    def place_of(value: str, where: str) -> int:
        if value in known:
            return known[value]
        what = f"unknown label {value!r}" if value else "the label is empty (or null)"
        written = quoted(value)
        raise InputError(
            f"{where}: {what}; known: {listed([*known, *rule.drop])}.{nearest(value, known)} Map it with "
            f"`label: {{map: {{{written}: {quoted(labels[0])}}}}}` or leave such rows out with "
            f"`label: {{drop: [{written}]}}`."
        )

    def only(row: SourceRow) -> Label | None:
        value = as_written(row.values.get(column))
        return None if value in rule.drop else place_of(value, table.place(row))

    def several(row: SourceRow) -> Label | None:
        value = row.values.get(column)
        if as_written(value) in rule.drop:
            return None
        given = {place_of(as_written(one), table.place(row)) for one in as_list(value, column, table.place(row))}
        return tuple(int(place in given) for place in range(len(labels)))

    def one_column_each(row: SourceRow) -> Label | None:
        if any(as_written(row.values.get(name)) in rule.drop for name in columns):
            return None
        given = {places[name] for name in columns if yes_or_no(row.values.get(name), name, table.place(row))}
        return tuple(int(place in given) for place in range(len(labels)))

    if multi_label and len(rule.column) > 1:
        columns = [table.find((name,)) for name in rule.column]
        places = {name: place_of(name, f"{table.origin}, column {name!r}") for name in columns}
        return one_column_each
    column = table.find(rule.column)
    return several if multi_label else only


def yes_or_no(value: Any, column: str, where: str) -> bool:
    """Whether a row has the label of a column of 1 and 0.

    Raises:
        InputError: it is neither.
    """
    written = as_written(value).lower()
    if written not in YES_NO:
        raise InputError(
            f"{where}: column {column!r} holds {written[:60]!r}; a column for one of several labels holds 1 or 0, or "
            "true or false."
        )
    return YES_NO[written]


def as_list(value: Any, column: str, where: str) -> list[Any]:
    """The labels of one row: a list, or the text of one in JSON or Python.

    Raises:
        InputError: it is neither.
    """
    if isinstance(value, str) and value.strip().startswith("["):
        for read in (json.loads, ast.literal_eval):
            try:
                value = read(value.strip())
                break
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
    if isinstance(value, list | tuple) and not any(isinstance(one, list | tuple | dict) for one in value):
        return list(value)
    shown = "is empty (or null)" if as_written(value) == "" else f"holds {str(value)[:60]!r}"
    raise InputError(
        f'{where}: column {column!r} {shown}, no list of labels; write ["a", "b"], and [] for a row without labels.'
    )


def as_written(value: Any) -> str:
    """A label or slice value as text; 1.0 as '1', so that a column with gaps still matches, null and NaN as ''."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None or value != value else str(value).strip()
