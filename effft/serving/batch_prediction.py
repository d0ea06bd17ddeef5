"""Predicting for a file: its rows are read as the run read them, and all are checked before the model answers."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path, PurePath
from types import SimpleNamespace
from typing import IO, Any

from effft.data.files import format_of, open_table
from effft.data.table import Table
from effft.errors import RunError, lookup
from effft.progress import ProgressCallback, silent
from effft.serving.load import SavedModel
from effft.tasks.rows import TextReader, text_reader
from effft.tasks.source import Source
from effft.tasks.task import Task

BATCH = 256  # Rows answered together.

DELIMITERS = {".csv": ",", ".tsv": "\t", ".txt": "\t", ".jsonl": ""}
"""Format of answers -> what stands between its columns; JSON lines have none."""

PREFIX = "predicted_"  # Put before every answer's name where the input has a column of such a name (its own `label`).


@dataclass(frozen=True)
class PredictionInput:
    """The rows of a file, every one of them checked. count: how many there are."""

    table: Table
    read_texts: TextReader
    count: int


def open_input(path: Path, task: Task) -> PredictionInput:
    """The rows of a file that a model of the task can answer.

    A file named like one of the task's own is read as the task says (its columns, delimiter, text fields); any other
    has a header with the task's fields, or with the columns that the task reads them from.
    """
    table, source = _as_the_task_says(path, task) or (open_table(path, limited=False), _any_source(task))
    read_texts = text_reader(table, task.fields, source)
    count = 0
    for row in table:
        read_texts(row)
        count += 1
    return PredictionInput(table, read_texts, count)


def _as_the_task_says(path: Path, task: Task) -> tuple[Table, Source] | None:
    """The rows of a file of the task's own; None for another file."""
    sources = [source for name in task.split_names for source in task.split(name).sources if source.file]
    source = max(sources, key=lambda source: _shared_parts(path, source.file), default=None)
    if source is None or not _shared_parts(path, source.file):
        return None
    table = open_table(path, source.layout, limited=False)
    columns = {column for field in task.fields for column in source.fields.get(field, (field,))}
    first = next(iter(table)).values.values()
    headed = bool(source.columns) and not source.header and not columns.isdisjoint(first)
    return None if headed else (table, source)  # the user gave the columns' names where the task's file has none


def _shared_parts(path: Path, name: str) -> int:
    """How many parts of two paths agree, counted from their ends; whether they are gzipped does not matter."""
    ends = [PurePath(str(one).removesuffix(".gz")).parts[::-1] for one in (path, name)]
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(*ends, strict=False)))


def _any_source(task: Task) -> Source:
    """How a file that the task does not name is read: a field's own column, or one that the task reads it from."""
    sources = [source for name in task.split_names for source in task.split(name).sources]
    others = {field: [n for s in sources for n in s.fields.get(field, ())] for field in task.fields}
    fields = {field: tuple(dict.fromkeys((field, *names))) for field, names in others.items()}
    return Source(file="rows.csv", fields=fields, clean=task.train.sources[0].clean)


def answer_format(path: Path, output: str) -> str:
    """The format of the answers: that of the output's name, or else the input's (JSON lines for parquet)."""
    if output:
        suffix = Path(output).suffix.lower()
        lookup(f"file format of --output {output}:", suffix, DELIMITERS)
        return suffix
    suffix, _ = format_of(path)
    return suffix if suffix in DELIMITERS else ".jsonl"


def answer_file(
    model: SavedModel, rows: PredictionInput, file: IO[str], suffix: str, progress: ProgressCallback = silent
) -> None:
    """Write every row with its answer: the input's columns, then label, label name and probabilities.

    suffix: the format, a key of `DELIMITERS`.

    Raises:
        RunError: the disk does not take them, or the format cannot hold a value.
    """
    names = model.record.answer_names
    prefix = ""
    while any(prefix + name in rows.table.columns for name in names):
        prefix += PREFIX

    def unfit(where: str) -> RunError:
        remedy = "name a .jsonl or .csv file with --output"
        return RunError(f"{where} holds a tab or a line end, which {suffix} cannot hold; {remedy}.")

    try:
        write = _row_writer(file, DELIMITERS[suffix], [*rows.table.columns, *(prefix + name for name in names)])
    except csv.Error:
        raise unfit(f"{rows.table.origin}: a column's name") from None
    source, done = iter(rows.table), 0
    while batch := list(islice(source, BATCH)):
        scores = model.score_texts([rows.read_texts(row) for row in batch])
        for row, answer in zip(batch, model.describe(scores), strict=True):
            try:
                write({**row.values, **{prefix + name: value for name, value in answer.items()}})
            except csv.Error:
                raise unfit(f"{rows.table.place(row)}: a value") from None
            except OSError as error:
                raise RunError(f"the answers could not be written ({error.strerror or error}).") from None
        done += len(batch)
        progress("predict", done, rows.count)


def _row_writer(file: IO[str], delimiter: str, columns: Sequence[str]) -> Callable[[Mapping[str, object]], object]:
    """A function that writes one row of values by column; JSON lines keep each row's own keys."""
    if not delimiter:
        return lambda values: file.write(json.dumps(values, ensure_ascii=False, default=str) + "\n")
    lines = SimpleNamespace(write=lambda line: file.write(line.removesuffix("\r\n") + "\n"))
    quoting: dict[str, Any] = {} if delimiter == "," else {"quoting": csv.QUOTE_NONE, "quotechar": None}
    table = csv.DictWriter(lines, columns, delimiter=delimiter, lineterminator="\r\n", **quoting)  # CR gets quotes too
    table.writeheader()
    return lambda values: table.writerow({name: _cell(value) for name, value in values.items()})


def _cell(value: object) -> object:
    """A list as JSON, which is read as one again."""
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list) else value
