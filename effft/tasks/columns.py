"""Which columns of a file are texts and which one is labels: as named, by their usual names, or by what they hold."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from effft.data.table import SourceRow, Table, listed
from effft.errors import InputError, nearest
from effft.tasks.rows import as_list, as_written, yes_or_no

MOST_LABELS = 150
LOOKED_AT = 2000  # Rows, drawn from the whole table, that tell what a column holds.

TEXT_NAMES = (
    "text", "sentence", "review", "body", "content", "comment", "message", "tweet", "utterance", "document", "question",
    "query", "description", "headline", "title",
)  # fmt: skip
PAIRS = (
    ("premise", "hypothesis"), ("sentence1", "sentence2"), ("question1", "question2"), ("text1", "text2"),
    ("question", "sentence"),
)  # fmt: skip
LABEL_NAMES = (
    "label", "labels", "class", "category", "target", "intent", "sentiment", "emotion", "topic", "stars", "rating",
    "topics", "tags", "emotions", "categories", "genres",
)  # fmt: skip
"""Usual names of columns, the best first; upper case does not matter."""

TEXT_LENGTH = 12  # Characters that the values of a column of texts have on average, at least.


@dataclass(frozen=True)
class LabelColumns:
    """Where the labels of a row stand: one column with a label or a list of them, or columns of 1 and 0."""

    names: tuple[str, ...]
    holds_lists: bool = False

    @property
    def multi_label(self) -> bool:
        """Whether a row can have several labels, or none."""
        return self.holds_lists or len(self.names) > 1

    def read(self, table: Table, row: SourceRow) -> list[str] | None:
        """The labels of a row; None where nothing says them.

        Raises:
            InputError: a value is no list, or no 1 or 0.
        """
        values = {name: row.values.get(name) for name in self.names}
        if "" in map(as_written, values.values()):
            return None
        if len(values) > 1:
            return [name for name, value in values.items() if yes_or_no(value, name, table.place(row))]
        ((name, value),) = values.items()
        return [*map(as_written, as_list(value, name, table.place(row)))] if self.holds_lists else [as_written(value)]


def find_columns(table: Table, text: str, label: str) -> tuple[tuple[str, ...], LabelColumns]:
    """The columns of texts and of labels: as given, by their usual names, or by what they hold."""
    texts = _given(table, text, "text") if text else ()
    labels = _given(table, label, "label") if label else ()
    if any(name in texts for name in labels):
        raise InputError(f"text={text} and label={label}: one column cannot be both (flags --text and --label).")
    labels = labels or (_named(table, LABEL_NAMES, texts) or _like(table, "label", texts),)
    _check_header(table, labels[0])
    found = texts or _texts_named(table, labels) or (_like(table, "text", labels),)
    return found, LabelColumns(labels, len(labels) == 1 and _has_lists(_values(table, labels[0])))


def _given(table: Table, names: str, flag: str) -> tuple[str, ...]:
    """Columns named on the command line, comma-separated where the whole is not itself a column."""
    columns = (names,) if names in table.columns else tuple(name.strip() for name in names.split(","))
    for name in columns:
        if name not in table.columns:
            raise InputError(
                f"{table.origin}: no column {name!r} (flag --{flag}); it has: {listed(table.columns)}."
                f"{table.delimiter_hint() or nearest(name, table.columns)}"
            )
    if len(set(columns)) < len(columns):
        raise InputError(f"{flag}={names}: a column is named twice; name each once.")
    return columns


def _check_header(table: Table, label: str) -> None:
    """Refuse a file whose first row stands where the names of its columns should."""
    others = [name for name in table.columns if name != label]
    if any(len(name.split()) > 2 for name in others) and label in map(as_written, _values(table, label)):
        raise InputError(
            f"{table.origin}: it begins with a row ({label!r} is a label), not with the names of its columns; write "
            f"those above it, or as `columns` into a task file. It has: {listed(table.columns)}."
        )


def _named(table: Table, names: Sequence[str], taken: Sequence[str]) -> str:
    """The first column with one of the names; '' where there is none."""
    columns = {column.strip().lower(): column for column in reversed(table.columns) if column not in taken}
    return next((columns[name] for name in names if name in columns), "")


def _texts_named(table: Table, labels: Sequence[str]) -> tuple[str, ...]:
    for pair in PAIRS:
        if all(columns := [_named(table, (name,), labels) for name in pair]):
            return tuple(columns)
    name = _named(table, TEXT_NAMES, labels)
    return (name,) if name else ()


def _like(table: Table, kind: str, taken: Sequence[str]) -> str:
    """The one column that holds what labels or texts look like."""
    fits = {"label": _holds_labels, "text": _holds_texts}[kind]
    values = {column: _values(table, column) for column in table.columns if column not in taken}
    fitting = [column for column in values if fits(values[column])]
    if len(fitting) == 1:
        return fitting[0]
    for column in fitting if kind == "label" else ():
        _check_header(table, column)
    what = f"{' and '.join(map(repr, fitting))} could all be" if fitting else "none of them looks like"
    flags = [column for column in fitting if kind == "label" and {*map(as_written, values[column])} <= {"0", "1"}]
    objects = [column for column in values if any(isinstance(value, dict) for value in values[column])]
    nested = f" Objects stand in {' and '.join(map(repr, objects))}; write their values as keys of the row."
    several = f", or several that are 1 or 0: --label {','.join(flags)}" if len(flags) > 1 else ""
    raise InputError(
        f"{table.origin}: which column has the {kind}s? Its columns are {listed(table.columns)}; {what} the {kind}; "
        f"name it with --{kind}{several}.{nested if objects else table.delimiter_hint()}"
    )


def _values(table: Table, column: str) -> list[Any]:
    """Values of a column in rows drawn from the whole table, as rows may be sorted by their label."""
    return [row.values.get(column) for row in _drawn(table)]


@lru_cache(maxsize=1)
def _drawn(table: Table) -> list[SourceRow]:
    """`LOOKED_AT` rows, each as likely as any other (reservoir sampling, Vitter 1985), always the same; or all."""
    rows, rng = list[SourceRow](), random.Random(0)
    for number, row in enumerate(table):
        if number < LOOKED_AT:
            rows.append(row)
        elif (place := rng.randrange(number + 1)) < LOOKED_AT:
            rows[place] = row
    return rows


def _holds_lists(values: Sequence[Any]) -> bool:
    """Lists of labels, or the text of such."""
    known = [value for value in values if as_written(value)]
    try:
        return bool(known) and all(as_list(value, "", "") is not None for value in known)
    except InputError:
        return False


def _has_lists(values: Sequence[Any]) -> bool:
    """Whether a column holds lists; where only some values are lists, the others are refused as they are read."""
    return any(isinstance(value, list | tuple) for value in values) or _holds_lists(values)


def _holds_labels(values: Sequence[Any]) -> bool:
    """Few different short values, each twice or more on average; or lists."""
    if _holds_lists(values):
        return True
    words = [word for word in map(as_written, values) if word]
    if not words or _holds_texts(values) or any(isinstance(value, dict) for value in values):
        return False
    return 2 <= len(set(words)) <= min(MOST_LABELS, len(words) // 2) and max(map(len, words)) <= 60


def _holds_texts(values: Sequence[Any]) -> bool:
    """Strings of some length, most of them different."""
    known = [value for value in values if value not in (None, "")]
    if not known or not all(isinstance(value, str) for value in known):
        return False
    return sum(map(len, known)) >= TEXT_LENGTH * len(known) and 2 * len(set(known)) > len(known)


def same_columns(
    table: Table,
    columns: Sequence[str],
    label: LabelColumns,
    labels: Sequence[str],
    notes: list[str],
    may_lack_labels: bool = False,
) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, Any]]:
    """The columns of another file: those of the same name, or else of the usual ones; its labels must be known.

    There is no column of labels where there need not be one, nor where no row has one. notes: gets a sentence where
    some rows have none.
    """
    same = set(columns) <= set(table.columns)
    texts = tuple(columns) if same else _texts_named(table, ())
    if len(texts) != len(columns):
        raise InputError(
            f"{table.origin}: no column {listed([c for c in columns if c not in table.columns])}, which --data has; it "
            f"has: {listed(table.columns)}. Name its columns as there.{table.delimiter_hint(columns[0])}"
        )
    missing = [name for name in label.names if name not in table.columns]
    other = _named(table, LABEL_NAMES, texts) if len(label.names) == 1 else ""
    own = replace(label, names=(other,)) if missing and other else label
    if missing and not other and may_lack_labels:
        return texts, (), {}
    if missing and not other:
        raise InputError(f"{table.origin}: no column {missing[0]!r} with the labels; it has: {listed(table.columns)}.")
    empty = rows = 0
    for row in table:
        words = own.read(table, row)
        empty, rows = empty + (words is None), rows + 1
        for word in (word for word in words or () if word not in labels):
            raise InputError(
                f"{table.place(row)}: label {word!r} is not among those of --data: {listed(labels)}."
                f"{nearest(word, labels)} Add rows of it there, or remove it here."
            )
    if empty == rows and may_lack_labels:
        return texts, (), {}
    if empty == rows:
        raise InputError(f"{table.origin}: no row has a label in column {own.names[0]!r}; add labels, or leave it out.")
    notes += [f"{empty:,} rows of {table.origin} lack a label and are left out."] if empty else []
    return texts, own.names, {"drop": [""]} if empty else {}
