"""Rows of a source become examples: rows are chosen, texts normalised, labels mapped."""

from collections.abc import Callable, Sequence
from typing import Any

from effft.data.examples import UNLABELLED, Example
from effft.data.table import SourceRow, Table, listed, normalize_text
from effft.errors import InputError, nearest, quoted
from effft.tasks.source import LabelRule, Source

UNKNOWN = "unknown"  # Value of a slice dimension that a source has no column for.
TextReader = Callable[[SourceRow], tuple[str, ...]]


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
    table: Table, source: Source, fields: Sequence[str], labels: Sequence[str], dimensions: Sequence[str]
) -> tuple[Example, ...]:
    """The examples of a table.

    dimensions: what slices need: columns, or `label`.

    Raises:
        InputError: a missing column, rows outside, an unknown label value, a value that is no text, nothing left.
    """
    read_texts = text_reader(table, fields, source)
    label_column = table.find(source.label.column) if source.label.column else ""
    where = [(table.find((column,)), set(values)) for column, values in source.where.items()]
    for dimension in dimensions:
        if dimension not in ("label", *source.lacks, *table.columns):
            known = ("label", *table.columns)
            raise InputError(
                f"{table.origin}: slice {dimension!r} is no column; known: {listed(known)}.{nearest(dimension, known)}"
            )
    label_of = _label_mapper(source.label, labels) if label_column else lambda *_: UNLABELLED
    first, end = source.rows or (0, None)
    examples, index = [], -1
    for index, row in enumerate(table):
        if index < first or (end is not None and index >= end):
            continue
        if any(as_written(row.values.get(column)) not in values for column, values in where):
            continue
        label = label_of(as_written(row.values.get(label_column)), table, row)
        if label is None:
            continue
        texts = read_texts(row)
        if not any(texts):
            raise InputError(f"{table.place(row)}: the text ({', '.join(fields)}) is empty; fill or remove the row.")
        slices = {name: UNKNOWN if name in source.lacks else as_written(row.values.get(name)) for name in dimensions}
        if "label" in slices:
            slices["label"] = labels[label]
        examples.append(Example(texts, label, index, tuple(slices.items())))
    if end is not None and end > index + 1:
        raise InputError(f"{table.origin}: rows [{first}, {end}] go past its end; it has {index + 1} rows.")
    if not examples:
        filters = [f"`where: {{{column}: {', '.join(values)}}}`" for column, values in source.where.items()]
        filters += [f"`label: {{drop: {', '.join(source.label.drop)}}}`"] if source.label.drop else []
        raise InputError(f"{table.origin}: no row is left; change {' or '.join(filters) or 'its rows'}.")
    return tuple(examples)


def _label_mapper(rule: LabelRule, labels: Sequence[str]) -> Callable[[str, Table, SourceRow], int | None]:
    """A function from a label value to its class index; None for a value whose rows are left out."""
    index = {label: i for i, label in enumerate(labels)}
    dropped: dict[str, int | None] = dict.fromkeys(rule.drop)
    known = index | {value: index[name] for value, name in rule.map.items()} | dropped

    def label_of(value: str, table: Table, row: SourceRow) -> int | None:
        if value in known:
            return known[value]
        what = f"unknown label {value!r}" if value else "the label is empty (or null)"
        written = quoted(value)
        raise InputError(
            f"{table.place(row)}: {what}; known: {listed(list(known))}.{nearest(value, known)} Map it with "
            f"`label: {{map: {{{written}: {quoted(labels[0])}}}}}` or leave such rows out with "
            f"`label: {{drop: [{written}]}}`."
        )

    return label_of


def as_written(value: Any) -> str:
    """A label or slice value as text; 1.0 as '1', so that a column with gaps still matches, and null as ''."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value).strip()
