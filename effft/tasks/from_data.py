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

from effft.config import TaskSettings
from effft.data.files import DELIMITED, format_of, open_table
from effft.data.hub_rows import read_hub
from effft.data.table import Table, listed
from effft.disk import check_exists
from effft.errors import InputError
from effft.spellings import DATA_FILE, data_address
from effft.tasks.columns import LOOKED_AT, MOST_LABELS, LabelColumns, find_columns, same_columns
from effft.tasks.rows import as_written
from effft.tasks.task import NAME_CHARACTERS, Task, load_task, propose_words

ORDERED_NAMES = ("stars", "rating", "score", "grade", "level")  # Columns of numbers so called are ordinal labels.
SPLIT_NAMES = ("train", "training", "test", "validation", "valid", "val", "dev")  # Files so called lie in many folders.
HUB = "hf://datasets/"
ENCLOSED = re.compile(r'"(?:[^"]|"")+"')  # A cell as a writer of tables quotes it.


@dataclass(frozen=True)
class _Place:
    """A file, or a split of a data set of the hub: the keys of its source, and its rows."""

    name: str
    source: dict[str, Any]
    table: Table


def task_of(settings: TaskSettings) -> Task:
    """The task that the settings name: that of its name or file, or one made of `data`."""
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
    columns, label = find_columns(train.table, settings.text, settings.label)
    rows, empty = _scan(train.table, columns, label)
    what = " and ".join(map(repr, label.names))
    _check_labels(f"{train.table.origin}: column{'s' * (len(label.names) > 1)} {what}", rows)
    if settings.ordinal and label.multi_label:
        raise InputError(f"ordinal={settings.ordinal}: rows with several labels have no order; leave --ordinal out.")
    found = list(label.names) if len(label.names) > 1 else _sorted(rows)
    labels = _in_order(settings.ordinal, rows) if settings.ordinal else found
    numbered = label.names[0].strip().lower() in ORDERED_NAMES and all(map(_is_number, labels)) and len(labels) > 2
    kind = "multi_label" if label.multi_label else "ordinal" if settings.ordinal or numbered else ""
    fields = _fields(columns)
    drop = {"drop": [""]} if empty else {}
    record: dict[str, Any] = {
        "name": task_name(settings.data),
        "fields": list(fields),
        "labels": labels,
        **({kind: True} if kind else {}),
        "label_words": propose_words(labels),
        "patterns": {"minimal": _pattern(fields, label)},
        "train": train.source | _reading(fields, columns, label.names, drop),
    }
    shown = listed([f"{name} ({rows[name]:,})" for name in labels], 10)
    notes = [f"{train.table.origin}: text from {' and '.join(map(repr, columns))}, labels from {what}: {shown}."]
    if enclosed := _enclosed(train, columns):
        notes.append(
            f"{enclosed:,} of the first rows of {train.table.origin} have texts in quotes, which .tsv and .txt take as "
            "text; save it as .csv where they only enclose it."
        )
    if kind:
        about = {"ordinal": f"The labels are ordinal, from {labels[0]} to {labels[-1]}."}
        notes.append(about.get(kind, "A row can have several labels, or none."))
    if empty and len(label.names) > 1:  # no `where` says "one of these columns is empty"
        notes.append(f"{empty:,} rows of {train.table.origin} lack a label and are left out.")
    elif empty:
        record["unlabelled"] = train.source | _reading(fields, columns, (), {}) | {"where": {label.names[0]: [""]}}
        notes.append(f"{empty:,} rows of {train.table.origin} have no label; a distilled student can learn from them.")
    if test := _test_place(settings, train, folder, label, labels):
        record["in_domain"] = test.source | _reading(fields, *same_columns(test.table, columns, label, labels, notes))
    ood: dict[str, Any] = {}
    for address in filter(None, (part.strip() for part in settings.ood.split(","))):
        place = _open(data_address(address), folder, "ood", "test")
        read = same_columns(place.table, columns, label, labels, notes, may_lack_labels=True)
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
    if spec.startswith(HUB):
        return _name(Path(re.split("[@:]", spec.removeprefix(HUB))[0]).name)
    return _file_name(Path(spec).expanduser())


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
    lines = ["".join(c if c.isprintable() else " " for c in f"# {note}") for note in task.notes]
    lines += ["# Files lie outside of this folder: use it with --allow-outside true."] if outside else []
    return "\n".join(
        [
            *lines,
            yaml.dump(record, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110),
        ]
    )


class _Dumper(yaml.SafeDumper):
    """Short lists on a line, texts of several lines or with control characters in quotes."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, None if text.isprintable() else '"'),
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
            raise InputError(f"{flag}={address}: {str(error).rstrip('.')} (OWNER/NAME[@REVISION][:SPLIT]).") from None
    if address.startswith("hf://"):
        raise InputError(f"{flag}={address}: data sets of the hub begin with {HUB}; models are no data.")
    path = Path(address).expanduser()
    check_exists(path, flag, "*.*")
    if path.is_dir():
        inside = sorted(p.name for p in path.iterdir())[:20]
        raise InputError(f"{flag}={address}: this is a folder; name a file in it ({listed(inside) or 'it is empty'}).")
    place = os.path.relpath(path.parent.resolve() / path.name, folder)
    return _Place(_file_name(path), {"file": place}, open_table(path))


def _test_place(
    settings: TaskSettings, train: _Place, folder: Path, label: LabelColumns, labels: Sequence[str]
) -> _Place | None:
    """The rows of the evaluation in domain: `test`, or a split of the same data set of the hub with known labels."""
    if settings.test:
        return _open(data_address(settings.test), folder, "test", "test")
    for split in ("test", "validation") if "hub" in train.source else ():
        if split == train.source["split"]:
            continue
        try:
            name = data_address(settings.data).removeprefix(HUB).partition(":")[0]
            found = _open(f"{HUB}{name}:{split}", folder, "data", split)
        except InputError:  # it has no such split
            continue
        read = [label.read(found.table, row) for row in found.table]
        if all(words is not None and {*words} <= {*labels} for words in read):
            return found
    return None


def _file_name(path: Path) -> str:
    """The name of a task or OOD set: that of its file, or of its folder where the file is called after a split."""
    name = _name(path.name)
    return _name(Path(os.path.abspath(path)).parent.name) if name.lower() in SPLIT_NAMES else name


def _name(file: str) -> str:
    """The name of a file or data set in characters that a task's may have, without the ending."""
    stem = re.sub(r"(\.(csv|tsv|txt|jsonl|parquet))?(\.gz)?$", "", file, flags=re.IGNORECASE)
    name = "".join(c if c in NAME_CHARACTERS else "-" for c in stem).strip("-.")[:60]
    return name or "data"


def _free(name: str, taken: Iterable[str]) -> str:
    numbers = (f"{name[:56]}-{number}" for number in range(2, 1000))
    return name if name not in taken else next(other for other in numbers if other not in taken)


# ---- labels and fields ----


def _scan(table: Table, columns: Sequence[str], label: LabelColumns) -> tuple[Counter[str], int]:
    """How many rows each label has, and of how many rows nothing says the label."""
    rows = Counter(dict.fromkeys(label.names if len(label.names) > 1 else (), 0))
    has_text, empty, sets = False, 0, set()
    for row in table:
        words = label.read(table, row)
        rows.update(set(words or ()))
        empty += words is None
        sets |= {frozenset(words)} if words is not None else set()
        has_text = has_text or any(as_written(row.values.get(column)) for column in columns)
    if not has_text:
        raise InputError(
            f"{table.origin}: {' and '.join(map(repr, columns))} is empty in every row; name the column of the texts "
            f"with --text. It has: {listed(table.columns)}."
        )
    if label.multi_label and len(sets) == 1:
        raise InputError(
            f"{table.origin}: every row has the same labels ({listed(sorted(*sets)) or 'none'}), so there is nothing "
            "to tell apart; add rows with others, or name --label."
        )
    return rows, empty


def _enclosed(place: _Place, columns: Sequence[str]) -> int:
    """In how many of the first rows quotes stand as a writer of tables puts them, in a format that takes them as text.

    Such a writer doubles the quotes of a text, or encloses the names of the columns too.
    """
    if place.table.unit != "line" or DELIMITED.get(format_of(Path(place.source["file"]))[0], ("", True))[1]:
        return 0
    named = any(ENCLOSED.fullmatch(column) for column in columns)
    texts = [[str(row.values[column]) for column in columns] for row in islice(place.table, LOOKED_AT)]
    return sum(any(ENCLOSED.fullmatch(text) and (named or '""' in text[1:-1]) for text in row) for row in texts)


def _sorted(labels: Iterable[str]) -> list[str]:
    """Labels in order: by their number where all are numbers."""
    words = sorted(labels)
    return sorted(words, key=float) if all(map(_is_number, words)) else words


def _is_number(word: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)?", word) is not None


def _in_order(given: str, found: Iterable[str]) -> list[str]:
    """The labels in the order given, which must name each once."""
    labels = [name.strip() for name in given.split(",")]
    if sorted(labels) != sorted(found):
        raise InputError(
            f"ordinal={given}: it must name every label once, the lowest first; the labels are: "
            f"{listed(_sorted(found))} (flag --ordinal)."
        )
    return labels


def _check_labels(what: str, rows: Counter[str]) -> None:
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
    if alone := [name for name, count in rows.items() if count <= 1]:
        more = f" (so have {len(alone) - 1} more)" if len(alone) > 1 else ""
        raise InputError(
            f"{what}: label {alone[0]!r} has {'one' if rows[alone[0]] else 'no'} row{more}, which cannot both teach "
            "and check; add rows of it, or remove it."
        )


def _fields(columns: Sequence[str]) -> tuple[str, ...]:
    """Names that can stand in a pattern, one for each column."""
    fields: list[str] = []
    for column in columns:
        name = re.sub("_+", "_", "".join(c if f"_{c}".isidentifier() else "_" for c in column)).strip("_") or "text"
        name = name if name.isidentifier() and name not in ("answer", "label") else f"text_{name}"
        fields.append(name if name not in fields else f"{name}_{len(fields) + 1}_")
    return tuple(fields)


def _pattern(fields: Sequence[str], label: LabelColumns) -> str:
    """The texts, a line each, then what the column of labels calls the answer: 'Sentiment:', or 'Topics: {label}?'."""
    name = label.names[0] if len(label.names) == 1 else "label"
    word = name.replace("_", " ").strip() if re.fullmatch(r"[^\W\d][\w ]*", name) else "label"
    asked = " {label}?" if label.multi_label else ""
    return "".join(f"{{{field}}}\n" for field in fields) + f"{word[:1].upper()}{word[1:]}:{asked}"


def _reading(
    fields: Sequence[str], columns: Sequence[str], label: Sequence[str], rule: dict[str, Any]
) -> dict[str, Any]:
    """The keys of a source that say how its rows are read, without those that say the usual."""
    named = {field: [column] for field, column in zip(fields, columns, strict=True) if field != column}
    if not label:
        rule = {"column": []}
    rule = ({"column": list(label)} if tuple(label) not in ((), ("label",)) else {}) | rule
    return ({"fields": named} if named else {}) | ({"label": rule} if rule else {})
