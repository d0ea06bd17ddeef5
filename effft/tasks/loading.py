"""The examples of a task's split: which source is taken, and where its file lies."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from effft.config import DIFFICULTY_FIELDS
from effft.data.examples import ExampleSet
from effft.data.files import open_table
from effft.data.hub_rows import read_hub, read_url
from effft.data.table import SourceRow, Table
from effft.disk import file_digest
from effft.errors import InputError, UnavailableError, shortened
from effft.tasks.builtin import generate
from effft.tasks.rows import to_examples
from effft.tasks.source import LabelRule, Source, Split
from effft.tasks.task import Task


def read_split(task: Task, split: str, data_dir: str = "") -> ExampleSet:
    """The examples of one split, in source order.

    With `data_dir` the first of its files that lies there is read, and no network is asked. Without, the first
    generated source, file beside the task file, or hub source that can be read.

    Raises:
        InputError: what a source holds is not what the task says, or there is no file.
        UnavailableError: the hub and the addresses that it names do not give it.
    """
    record = task.split(split)
    source, table = _local(task, record, split, data_dir) or _remote(task, record, split)
    if split == "unlabelled":  # whether or not there is a column of labels
        source = source.model_copy(update={"label": LabelRule(column=())})
    examples = to_examples(table, source, task.fields, task.labels, record.dimensions, task.multi_label)
    rows = f", rows {source.rows[0]} to {source.rows[1] - 1}" if source.rows else ""
    return ExampleSet(split, examples, table.origin + rows)


def missing_ood(task: Task, data_dir: str = "") -> list[str]:
    """Names of the OOD sets that cannot be read from here: none of their files lies in `data_dir`.

    Without `data_dir`: those that are neither generated, nor beside the task file, nor on the network.
    """
    missing = []
    for name, record in task.ood.items():
        kinds = {source.kind for source in record.sources}
        found = any(_find(task, source, data_dir) for source in record.sources)
        remote = {"hub", "url"} & kinds and not data_dir
        beside = task.folder is not None and not data_dir
        if not (found or remote or beside or "builtin" in kinds):
            missing.append(name)
    return missing


def content_digest(task: Task, data_dir: str = "", splits: Sequence[str] = ()) -> str:
    """16 hex digits that identify what a task holds: its record and the bytes of its local files.

    Two tasks are the same task where name and digest agree. The description, the folder and the files' times do not
    count. A built-in or hub source is identified by its record (name, revision, size, seed, difficulty).

    task: with its difficulty set. splits: those whose files count; all of the task's when empty.
    """
    unset = {
        name for name in ("unlabelled", "ordinal", "multi_label", "other_label_words") if not getattr(task, name)
    }  # keys of later versions
    record = task.model_dump(mode="json", exclude={"description"} | unset)
    files = {
        name: [file_digest(path) for source in task.split(name).sources if (path := _find(task, source, data_dir))]
        for name in splits or task.split_names
    }
    return hashlib.sha256(json.dumps([record, files], sort_keys=True).encode()).hexdigest()[:16]


def _local(task: Task, record: Split, split: str, data_dir: str) -> tuple[Source, Table] | None:
    """The first generated source or file at hand; None when the network is to be asked."""
    files = [source for source in record.sources if source.file]
    built = [source for source in record.sources if source.builtin]
    if data_dir and not os.path.isdir(folder := Path(data_dir).expanduser()):
        place = f"; it was looked for at {shortened(folder.absolute())}" if not folder.is_absolute() else ""
        raise InputError(f"data_dir={shortened(data_dir)}: no such folder (flag --data-dir){place}.")
    if built and not (data_dir and files):
        return built[0], _built(built[0])
    for source in files:
        path = _find(task, source, data_dir)
        if path is not None:
            return source, open_table(path, source.layout)
    if not data_dir and len(files) < len(record.sources):
        return None
    names = ", ".join(source.file for source in files)
    what = f"task {task.name!r}, {split}"
    if not names:
        raise InputError(f"{what}: it names no local file; leave --data-dir out, or add a `file:` to its sources.")
    if not data_dir and task.folder is None:
        raise InputError(f"{what}: it is not on the hub; put {names} into a folder and name it with --data-dir.")
    where = data_dir or task.folder
    raise InputError(f"{what}: no file of it lies in {where}; looked for (also as .gz): {names}.")


def _remote(task: Task, record: Split, split: str) -> tuple[Source, Table]:
    why = []
    for source in record.sources:
        try:
            if source.hub:
                return source, read_hub(source.hub, source.config, source.split, source.revision, source.layout)
            if source.url:
                return source, read_url(source.url, source.layout)
        except InputError as error:
            why.append(str(error).rstrip("."))
    names = " or ".join(source.file for source in record.sources if source.file)
    remedy = f"; or put {names} into a folder and name it with --data-dir" if names else ""
    raise UnavailableError(f"task {task.name!r}, {split}: {'; '.join(why)}{remedy}.")


def _built(source: Source) -> Table:
    rows = generate(source.builtin, source.split, source.size, source.seed, source.difficulty)
    if not rows:
        raise InputError(f"built-in {source.builtin} has no rows for split {source.split!r}.")
    changed = "".join(
        f", {name} {getattr(source, name)}" for name in DIFFICULTY_FIELDS if name in source.model_fields_set
    )
    origin = f"built-in {source.builtin} ({source.split}, {source.size} rows, seed {source.seed}{changed})"
    return Table(origin, tuple(rows[0]), lambda: (SourceRow(number, dict(row)) for number, row in enumerate(rows)))


def _find(task: Task, source: Source, data_dir: str) -> Path | None:
    """Where the source's file lies, also as .gz: in the data folder, whole or by its last name, or beside the task."""
    name, folder = source.file, Path(data_dir).expanduser() if data_dir else task.folder
    if not name or folder is None:
        return None
    for place in (name, f"{name}.gz", Path(name).name, f"{Path(name).name}.gz")[: 4 if data_dir else 2]:
        path = folder / place
        outside = not Path(os.path.realpath(path)).is_relative_to(folder)
        if outside and not (data_dir or task.allows_outside):
            raise InputError(
                f"{path}: file {name!r} leads out of {folder}; put the file beside the task file, or allow it with "
                "--allow-outside true."
            )
        if os.path.lexists(path):
            return path
    return None
