"""A task made of a file alone: which columns are texts and labels, which labels there are, and the YAML that says so.

Everything a task file would say is found in the data, or asked for in a sentence that lists the columns.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from effft.config import DATA_FILE, TaskSettings, data_address
from effft.data.files import open_table
from effft.data.hub_rows import read_hub
from effft.data.table import Table, listed
from effft.disk import check_exists
from effft.errors import InputError, nearest
from effft.tasks.rows import as_written
from effft.tasks.task import NAME_CHARACTERS, Task, load_task, propose_words

MOST_LABELS = 150
LOOKED_AT = 2000
"""Rows that tell what a column holds."""

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

HUB = "hf://datasets/"
TEXT_LENGTH = 12
"""Characters that the values of a column of texts have on average, at least."""


@dataclass(frozen=True)
class _Place:
    """A file, or a split of a data set of the hub: the keys of its source, and its rows."""

    name: str
    source: dict[str, Any]
    table: Table


def task_of(settings: TaskSettings) -> Task:
    """The task that the settings name: that of its name or file, or one made of `data`.

    Raises:
        InputError: as `load_task` and `task_from_data`.
    """
    return task_from_data(settings) if settings.data else load_task(settings.task, settings.allow_outside)


def task_from_data(settings: TaskSettings) -> Task:
    """A task of the rows of `data`: labels as they stand there, further files as `test` and `ood` name them.

    Of a data set of the hub, its `test` or `validation` split is the evaluation in domain where `test` names none.

    Raises:
        InputError: a file cannot be read; columns that are missing or not told apart; labels that cannot be learnt.
    """
    if settings.data_dir:
        raise InputError(f"data_dir={settings.data_dir}: --data names its file itself; leave --data-dir out.")
    address = data_address(settings.data)
    folder = Path.cwd() if address.startswith(HUB) else Path(address).expanduser().parent.resolve()
    train = _open(address, folder, "data", "train")
    columns, label = _columns(train.table, settings.text, settings.label)
    rows, empty = _scan(train.table, columns, label)
    labels = _sorted(rows)
    _check_labels(train.table.origin, label, rows)
    fields = _fields(columns)
    drop = {"drop": [""]} if empty else {}
    record: dict[str, Any] = {
        "name": task_name(settings.data),
        "fields": list(fields),
        "labels": labels,
        "label_words": propose_words(labels),
        "patterns": {"minimal": _pattern(fields, label)},
        "train": train.source | _reading(fields, columns, label, drop),
    }
    shown = ", ".join(f"{name} ({rows[name]:,})" for name in labels[:10])
    more = f" and {len(labels) - 10} more" if len(labels) > 10 else ""
    notes = [
        f"{train.table.origin}: text from {' and '.join(map(repr, columns))}, labels from {label!r}: {shown}{more}."
    ]
    if empty:
        record["unlabelled"] = train.source | _reading(fields, columns, "", {}) | {"where": {label: [""]}}
        notes.append(f"{empty:,} rows of {train.table.origin} have no label; a distilled student can learn from them.")
    if test := _test_place(settings, train, folder, label, labels):
        record["in_domain"] = test.source | _reading(fields, *_same_columns(test.table, columns, label, labels))
    ood: dict[str, Any] = {}
    for address in filter(None, (part.strip() for part in settings.ood.split(","))):
        place = _open(data_address(address), folder, "ood", "test")
        read = _same_columns(place.table, columns, label, labels, may_lack_labels=True)
        ood[_free(place.name, ood)] = place.source | _reading(fields, *read)
    try:
        task = Task.model_validate(record | ({"ood": ood} if ood else {}), context={"allow_outside": True})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        reason = first["msg"].removeprefix("Value error, ").rstrip(".")
        raise InputError(f"data={settings.data}: {'.'.join(map(str, first['loc']))} {reason}.") from None
    task._folder, task._outside, task._notes = folder, True, tuple(notes)
    return task


def task_name(spec: str) -> str:
    """The name of a task that is data: that of the file or data set; of any other task its own."""
    if not DATA_FILE.fullmatch(spec):
        return load_task(spec, allow_outside=True).name  # no file of rows is read
    name = re.split("[@:]", spec.removeprefix(HUB))[0] if spec.startswith(HUB) else spec
    return _name(Path(name).name)


def as_yaml(task: Task, folder: Path) -> str:
    """The task file that gives the same runs when it lies in `folder`; files elsewhere get their whole path."""
    record = task.model_dump(mode="json", exclude_unset=True)
    splits = [record[name] for name in ("train", "in_domain", "unlabelled") if name in record] + list(
        record.get("ood", {}).values()
    )
    outside = False
    for split in splits:
        (source,) = split.pop("sources")
        if "file" in source and task.folder is not None:
            path = Path(os.path.normpath(task.folder / source["file"]))
            inside = path.is_relative_to(folder)
            outside |= not inside
            source["file"] = str(path.relative_to(folder) if inside else path)
        if source.get("label") == {"column": []}:
            source["label"] = "none"
        split |= {key: _unfolded(value) for key, value in source.items()}
    lines = [f"# {note}" for note in task.notes]
    lines += ["# Files lie outside of this folder: use it with --allow-outside true."] if outside else []
    return "\n".join(
        [
            *lines,
            yaml.dump(record, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110),
        ]
    )


class _Dumper(yaml.SafeDumper):
    """Short lists on a line, texts of several lines in quotes."""


_Dumper.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, '"' if "\n" in text else None)
)


def _unfolded(value: Any) -> Any:
    """One value for a list of one."""
    if isinstance(value, dict):
        return {key: _unfolded(part) for key, part in value.items()}
    return value[0] if isinstance(value, list) and len(value) == 1 else value


# ---- places ----


def _open(address: str, folder: Path, flag: str, split: str) -> _Place:
    """The rows of a file or of a split on the hub, and how a task file names them from `folder`."""
    if address.startswith(HUB):
        name, _, split_given = address.removeprefix(HUB).partition(":")
        name, _, revision = name.partition("@")
        if name.count("/") > 1:
            raise InputError(
                f"{flag}={address}: name the data set alone, {HUB}OWNER/NAME[@REVISION][:SPLIT]; a file in it that is "
                "no split is read after its download."
            )
        source = {"hub": name, "split": split_given or split} | ({"revision": revision} if revision else {})
        try:
            return _Place(_name(Path(name).name), source, read_hub(name, "", source["split"], revision))
        except InputError as error:
            raise InputError(f"{flag}={address}: {str(error).rstrip('.')}; check the name and the network.") from None
    if address.startswith("hf://"):
        raise InputError(f"{flag}={address}: data sets of the hub begin with {HUB}; models are no data.")
    path = Path(address).expanduser()
    check_exists(path, flag, "*.*")
    if path.is_dir():
        inside = sorted(p.name for p in path.iterdir())[:20]
        raise InputError(f"{flag}={address}: this is a folder; name a file in it ({listed(inside) or 'it is empty'}).")
    place = os.path.relpath(path.parent.resolve() / path.name, folder)
    return _Place(_name(path.name), {"file": place}, open_table(path))


def _test_place(
    settings: TaskSettings, train: _Place, folder: Path, label: str, labels: Sequence[str]
) -> _Place | None:
    """The rows of the evaluation in domain: `test`, or a split of the same data set of the hub with known labels."""
    if settings.test:
        return _open(data_address(settings.test), folder, "test", "test")
    for split in ("test", "validation") if "hub" in train.source else ():
        try:
            name = data_address(settings.data).removeprefix(HUB).partition(":")[0]
            found = _open(f"{HUB}{name}:{split}", folder, "data", split)
        except InputError:  # it has no such split
            continue
        if all(as_written(row.values.get(label)) in labels for row in found.table):
            return found
    return None


def _name(file: str) -> str:
    """The name of a task or OOD set: that of the file, without its ending."""
    stem = re.sub(r"(\.(csv|tsv|txt|jsonl|parquet))?(\.gz)?$", "", file, flags=re.IGNORECASE)
    name = "".join(c if c in NAME_CHARACTERS else "-" for c in stem).strip("-.")[:60]
    return name or "data"


def _free(name: str, taken: Iterable[str]) -> str:
    numbers = (f"{name[:56]}-{number}" for number in range(2, 1000))
    return name if name not in taken else next(other for other in numbers if other not in taken)


# ---- columns ----


def _columns(table: Table, text: str, label: str) -> tuple[tuple[str, ...], str]:
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
    found = (names,) if whole or names in table.columns else tuple(name.strip() for name in names.split(","))
    for name in found:
        if name not in table.columns:
            raise InputError(
                f"{table.origin}: no column {name!r} (flag --{flag}); it has: {listed(table.columns)}."
                f"{nearest(name, table.columns)}"
            )
    if len(set(found)) < len(found):
        raise InputError(f"{flag}={names}: a column is named twice; name each once.")
    return found


def _named(table: Table, names: Sequence[str], taken: Sequence[str]) -> str:
    """The first column with one of the names; '' where there is none."""
    columns = {column.strip().lower(): column for column in reversed(table.columns) if column not in taken}
    return next((columns[name] for name in names if name in columns), "")


def _texts_named(table: Table, label: str) -> tuple[str, ...]:
    for pair in PAIRS:
        if all(found := [_named(table, (name,), (label,)) for name in pair]):
            return tuple(found)
    name = _named(table, TEXT_NAMES, (label,))
    return (name,) if name else ()


def _like(table: Table, kind: str, taken: Sequence[str]) -> str:
    """The one column that holds what labels or texts look like.

    Raises:
        InputError: none does, or several do.
    """
    rows = [row.values for row in islice(table, LOOKED_AT)]
    fits = {"label": _holds_labels, "text": _holds_texts}[kind]
    found = [c for c in table.columns if c not in taken and fits([row.get(c) for row in rows])]
    if len(found) == 1:
        return found[0]
    what = f"{' and '.join(map(repr, found))} could all be" if found else "none of them looks like"
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


def _same_columns(
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


# ---- labels and fields ----


def _scan(table: Table, columns: Sequence[str], label: str) -> tuple[Counter[str], int]:
    """How many rows each label has, and how many rows have none.

    Raises:
        InputError: no row has a text.
    """
    rows: Counter[str] = Counter()
    has_text = False
    for row in table:
        rows[as_written(row.values.get(label))] += 1
        has_text = has_text or any(as_written(row.values.get(column)) for column in columns)
    if not has_text:
        raise InputError(
            f"{table.origin}: {' and '.join(map(repr, columns))} is empty in every row; name the column of the texts "
            f"with --text. It has: {listed(table.columns)}."
        )
    return rows, rows.pop("", 0)


def _sorted(labels: Iterable[str]) -> list[str]:
    """Labels in order: by their number where all are numbers."""
    words = sorted(labels)
    return sorted(words, key=float) if all(re.fullmatch(r"-?\d+(\.\d+)?", word) for word in words) else words


def _check_labels(origin: str, label: str, rows: Counter[str]) -> None:
    what = f"{origin}: column {label!r}"
    if not rows:
        raise InputError(f"{what} is empty in every row; name the column of the labels with --label.")
    if len(rows) == 1:
        raise InputError(
            f"{what} has one label only ({next(iter(rows))!r}); add rows of a second one, or name --label."
        )
    if len(rows) > MOST_LABELS:
        raise InputError(
            f"{what} holds {len(rows):,} different labels; {MOST_LABELS} are the most. Name another column with "
            "--label, or join labels."
        )
    if alone := [name for name, count in rows.items() if count == 1]:
        more = f" (so have {len(alone) - 1} more)" if len(alone) > 1 else ""
        raise InputError(
            f"{what}: label {alone[0]!r} has one row{more}, which cannot both teach and check; add rows of it, or "
            "remove it."
        )


def _fields(columns: Sequence[str]) -> tuple[str, ...]:
    """Names that can stand in a pattern, one for each column."""
    fields: list[str] = []
    for column in columns:
        name = re.sub("_+", "_", "".join(c if f"_{c}".isidentifier() else "_" for c in column)).strip("_") or "text"
        name = name if name.isidentifier() and name not in ("answer", "label") else f"text_{name}"
        fields.append(name if name not in fields else f"{name}_{len(fields) + 1}_")
    return tuple(fields)


def _pattern(fields: Sequence[str], label: str) -> str:
    """The texts, a line each, then what the column of labels calls the answer: 'Sentiment:'."""
    word = label.replace("_", " ").strip() if re.fullmatch(r"[^\W\d][\w ]*", label) else "label"
    return "".join(f"{{{field}}}\n" for field in fields) + f"{word[:1].upper()}{word[1:]}:"


def _reading(fields: Sequence[str], columns: Sequence[str], label: str, rule: dict[str, Any]) -> dict[str, Any]:
    """The keys of a source that say how its rows are read, without those that say the usual."""
    named = {field: [column] for field, column in zip(fields, columns, strict=True) if field != column}
    if not label:
        rule = {"column": []}
    rule = ({"column": [label]} if label not in ("", "label") else {}) | rule
    return ({"fields": named} if named else {}) | ({"label": rule} if rule else {})
