"""Texts to answer, read row by row from csv, tsv or jsonl, and answers written beside them in the same format."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from effft.errors import InputError, RunError, lookup, nearest

FORMATS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl"}
PREDICTED = "predicted_"
"""Put before an answer's name where the file has a column of that name (its own `label`)."""


@dataclass(frozen=True)
class TextRow:
    """A line of the file: its number, its values by column, and the texts the model reads."""

    line: int
    values: Mapping[str, Any]
    texts: tuple[str, ...]


def format_of(path: Path, flag: str) -> str:
    """csv, tsv or jsonl, by the suffix; another one is an InputError."""
    return lookup(f"file format of {flag} {path}:", path.suffix.lower(), FORMATS)


class TextRows:
    """An open file of texts; iterating yields rows and never holds more than one.

    size: bytes of the file, `done`: bytes read so far, for progress.
    """

    def __init__(self, path: Path, fields: Sequence[str]) -> None:
        self.path, self.fields = path, tuple(fields)
        self.kind = format_of(path, "--input")
        self.done, self.number = 0, 0
        try:
            self.size = path.stat().st_size
            self.file = path.open("rb")
        except OSError as error:
            raise InputError(f"--input {path}: cannot be read ({error.strerror or error}).") from None
        if not self.size:
            raise InputError(f"--input {path}: the file is empty; give it a row of texts.")

    def __iter__(self) -> Iterator[TextRow]:
        """The rows.

        Raises:
            InputError: a missing column, a value that is no text, a line that cannot be read: with its number.
        """
        with self.file:
            found = self._objects() if self.kind == "jsonl" else self._lines()
            some = False
            for number, values in found:
                some = True
                yield TextRow(number, values, self._texts(number, values))
            if not some:
                raise InputError(f"--input {self.path}: no row of texts is in it.")

    def _decoded(self) -> Iterator[str]:
        for line in self.file:
            self.number += 1
            self.done += len(line)
            try:
                yield line.decode("utf-8-sig" if self.number == 1 else "utf-8")
            except UnicodeDecodeError:
                raise InputError(f"{self.path}, line {self.number}: no UTF-8 text; save the file as UTF-8.") from None

    def _lines(self) -> Iterator[tuple[int, dict[str, Any]]]:
        if self.kind == "csv":
            reader = csv.reader(self._decoded(), strict=True)
        else:
            reader = csv.reader(self._decoded(), delimiter="\t", quoting=csv.QUOTE_NONE)
        columns: list[str] = []
        start = 1
        try:
            for row in reader:
                if row and not columns:
                    columns = [name.strip() for name in row]
                    self._must_have(columns)
                elif row:
                    if len(row) != len(columns):
                        raise InputError(
                            f"{self.path}, line {start}: {len(row)} columns where the header has {len(columns)}."
                        )
                    yield start, dict(zip(columns, row, strict=True))
                start = self.number + 1
        except csv.Error as error:
            raise InputError(f"{self.path}, line {start}: a quote is wrong ({error}).") from None

    def _objects(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for line in self._decoded():
            if not line.strip():
                continue
            try:
                values = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InputError(f"{self.path}, line {self.number}: no JSON ({error}).") from None
            if not isinstance(values, dict):
                raise InputError(f'{self.path}, line {self.number}: not an object, like {{"{self.fields[0]}": "..."}}.')
            yield self.number, values

    def _must_have(self, columns: Sequence[str]) -> None:
        for name in self.fields:
            if name not in columns:
                raise InputError(
                    f"{self.path}, line 1: no column {name!r}, which the model reads; it has: "
                    f"{', '.join(columns[:20])}.{nearest(name, columns)}"
                )

    def _texts(self, number: int, values: Mapping[str, Any]) -> tuple[str, ...]:
        for name in self.fields:
            value = values.get(name)
            if name not in values:
                known = ", ".join(map(str, list(values)[:20])) or "nothing"
                raise InputError(
                    f"{self.path}, line {number}: no {name!r}, which the model reads; it has: "
                    f"{known}.{nearest(name, values)}"
                )
            if not isinstance(value, str):
                raise InputError(f"{self.path}, line {number}: {name!r} must be text, but is {value!r:.60}.")
        return tuple(str(values[name]) for name in self.fields)


class AnswerWriter:
    """Rows with their answers, in the format of the input; flushed after every batch, so that none is lost."""

    def __init__(self, file: IO[str], kind: str) -> None:
        self.file, self.kind = file, kind
        self._csv: Any = None

    def write(self, rows: Sequence[TextRow], answers: Sequence[Mapping[str, object]]) -> None:
        """Append rows.

        Raises:
            RunError: the disk does not take it.
        """
        try:
            for row, answer in zip(rows, answers, strict=True):
                taken = any(name in row.values for name in answer)
                named = {(PREDICTED + name if taken else name): value for name, value in answer.items()}
                self._one({**row.values, **named})
            self.file.flush()
        except OSError as error:
            raise RunError(f"the answers could not be written ({error.strerror or error}).") from None

    def _one(self, values: Mapping[str, object]) -> None:
        if self.kind == "jsonl":
            self.file.write(json.dumps(values, ensure_ascii=False) + "\n")
            return
        if self.kind == "tsv":
            if self._csv is None:
                self.file.write("\t".join(values) + "\n")
                self._csv = True
            self.file.write("\t".join(map(str, values.values())) + "\n")
            return
        if self._csv is None:
            self._csv = csv.writer(self.file, lineterminator="\n")
            self._csv.writerow(values)
        self._csv.writerow(values.values())
