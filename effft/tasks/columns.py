"""Which columns of a file are texts and which one is labels: as named, by their usual names, or by what they hold."""

from collections.abc import Sequence
from itertools import islice
from typing import Any

from effft.data.table import Table, listed
from effft.errors import InputError, nearest
from effft.tasks.rows import as_written

MOST_LABELS = 150
LOOKED_AT = 2000  # Rows that tell what a column holds.

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
)  # fmt: skip
"""Usual names of columns, the best first; upper case does not matter."""

TEXT_LENGTH = 12  # Characters that the values of a column of texts have on average, at least.


def find_columns(table: Table, text: str, label: str) -> tuple[tuple[str, ...], str]:
    """The columns of texts and the column of labels: as given, by their usual names, or by what they hold."""
    texts = _given(table, text, "text") if text else ()
    if label:
        (label,) = _given(table, label, "label", whole=True)
        if label in texts:
            raise InputError(f"text={text} and label={label}: one column cannot be both (flags --text and --label).")
    label = label or _named(table, LABEL_NAMES, texts) or _like(table, "label", texts)
    return texts or _texts_named(table, label) or (_like(table, "text", (label,)),), label


def _given(table: Table, names: str, flag: str, whole: bool = False) -> tuple[str, ...]:
    """Columns named on the command line, comma-separated where the whole is not itself a column."""
    columns = (names,) if whole or names in table.columns else tuple(name.strip() for name in names.split(","))
    for name in columns:
        if name not in table.columns:
            raise InputError(
                f"{table.origin}: no column {name!r} (flag --{flag}); it has: {listed(table.columns)}."
                f"{nearest(name, table.columns)}"
            )
    if len(set(columns)) < len(columns):
        raise InputError(f"{flag}={names}: a column is named twice; name each once.")
    return columns


def _named(table: Table, names: Sequence[str], taken: Sequence[str]) -> str:
    """The first column with one of the names; '' where there is none."""
    columns = {column.strip().lower(): column for column in reversed(table.columns) if column not in taken}
    return next((columns[name] for name in names if name in columns), "")


def _texts_named(table: Table, label: str) -> tuple[str, ...]:
    for pair in PAIRS:
        if all(columns := [_named(table, (name,), (label,)) for name in pair]):
            return tuple(columns)
    name = _named(table, TEXT_NAMES, (label,))
    return (name,) if name else ()


def _like(table: Table, kind: str, taken: Sequence[str]) -> str:
    """The one column that holds what labels or texts look like."""
    rows = [row.values for row in islice(table, LOOKED_AT)]
    fits = {"label": _holds_labels, "text": _holds_texts}[kind]
    fitting = [c for c in table.columns if c not in taken and fits([row.get(c) for row in rows])]
    if len(fitting) == 1:
        return fitting[0]
    what = f"{' and '.join(map(repr, fitting))} could all be" if fitting else "none of them looks like"
    raise InputError(
        f"{table.origin}: which column has the {kind}s? Its columns are {listed(table.columns)}; {what} the {kind}; "
        f"name it with --{kind}."
    )


def _holds_labels(values: Sequence[Any]) -> bool:
    """Few different short values, each twice or more on average."""
    words = [word for word in map(as_written, values) if word]
    if not words or _holds_texts(values):
        return False
    return 2 <= len(set(words)) <= min(MOST_LABELS, len(words) // 2) and max(map(len, words)) <= 60


def _holds_texts(values: Sequence[Any]) -> bool:
    """Strings of some length, most of them different."""
    known = [value for value in values if value not in (None, "")]
    if not known or not all(isinstance(value, str) for value in known):
        return False
    return sum(map(len, known)) >= TEXT_LENGTH * len(known) and 2 * len(set(known)) > len(known)


def same_columns(
    table: Table, columns: Sequence[str], label: str, labels: Sequence[str], may_lack_labels: bool = False
) -> tuple[tuple[str, ...], str, dict[str, Any]]:
    """The columns of another file: those of the same name, or else of the usual ones; its labels must be known.

    The column of labels is '' where there is none and there need not be one.
    """
    same = set(columns) <= set(table.columns)
    texts = tuple(columns) if same else _texts_named(table, "")
    if len(texts) != len(columns):
        raise InputError(
            f"{table.origin}: no column {listed([c for c in columns if c not in table.columns])}, which --data has; it "
            f"has: {listed(table.columns)}. Name its columns as there."
        )
    own = label if label in table.columns else _named(table, LABEL_NAMES, texts)
    if not own and may_lack_labels:
        return texts, "", {}
    if not own:
        raise InputError(f"{table.origin}: no column {label!r} with the labels; it has: {listed(table.columns)}.")
    empty = 0
    for row in table:
        word = as_written(row.values.get(own))
        empty += not word
        if word and word not in labels:
            raise InputError(
                f"{table.place(row)}: label {word!r} is not among those of --data: {listed(labels)}."
                f"{nearest(word, labels)} Add rows of it there, or remove it here."
            )
    return texts, own, {"drop": [""]} if empty else {}
