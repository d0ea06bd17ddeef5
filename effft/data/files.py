"""Local files as tables: csv, tsv, txt, jsonl, parquet, each also gzipped; the format is the suffix."""

import csv
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from effft.data.table import Table
from effft.errors import InputError, lookup

DELIMITED = {".csv": (",", True), ".tsv": ("\t", False), ".txt": ("\t", False)}
"""Suffix -> delimiter and whether quotes mean something, unless said otherwise."""

FORMATS = {**dict.fromkeys(DELIMITED, "delimited"), ".jsonl": "jsonl", ".parquet": "parquet"}


@dataclass(frozen=True)
class Layout:
    """What a delimited file does not say itself.

    columns: its column names (then it has no header unless `header`). skip_incomplete: leave out lines with fewer
    columns than there are names.
    """

    columns: tuple[str, ...] = ()
    header: bool | None = None
    quoting: bool | None = None
    delimiter: str = ""
    skip_incomplete: bool = False


def read_file(path: Path, layout: Layout = Layout()) -> Table:
    """The rows of a file.

    Raises:
        InputError: unknown suffix, not readable, not what its suffix says, or without rows.
    """
    suffixes = [s.lower() for s in path.suffixes[-2:]]
    zipped = suffixes[-1:] == [".gz"]
    suffix = "".join(suffixes[:-1][-1:] if zipped else suffixes[-1:])
    lookup(f"file format of {path}:", suffix, FORMATS)
    data = _bytes(path, zipped)
    if FORMATS[suffix] == "parquet":
        return _parquet(path, data)
    text = _text(path, data)
    table = _jsonl(path, text) if suffix == ".jsonl" else _delimited(path, text, layout, *DELIMITED[suffix])
    if not table.rows:
        raise InputError(f"{path}: it has a header and no rows; add rows or name another file.")
    return table


def _bytes(path: Path, zipped: bool) -> bytes:
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if zipped else data
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: no whole gzip file ({error}); fetch it again, or drop .gz from its name.") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}.") from None
    if not data.strip():
        raise InputError(f"{path}: the file is empty; add rows or name another file.")
    return data


def _text(path: Path, data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        hint = " It looks gzipped: name it .gz." if data[:2] == b"\x1f\x8b" else " Save it as UTF-8."
        raise InputError(f"{path}, line {line}: no UTF-8 text (byte {data[error.start]:#04x}).{hint}") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(f"{path}, line {line}: holds a NUL byte, so it is no text file; save it as UTF-8 text.")
    return text


def _delimited(path: Path, text: str, layout: Layout, delimiter: str, quoted: bool) -> Table:
    delimiter = layout.delimiter or delimiter
    quoted = quoted if layout.quoting is None else layout.quoting
    lines = _quoted(path, text, delimiter) if quoted else _plain(text, delimiter)
    header = not layout.columns if layout.header is None else layout.header
    columns = tuple(layout.columns)
    if header:
        first = tuple(name.strip() for name in next(lines)[1])
        columns = columns or first
        if len(columns) != len(first):
            raise InputError(f"{path}: `columns` names {len(columns)}, but its header has {len(first)}.")
    twice = next((name for i, name in enumerate(columns) if name in columns[:i]), None)
    if twice is not None:
        raise InputError(f"{path}, line 1: column {twice!r} stands there twice; rename one, or give `columns`.")
    rows, numbers = [], []
    for number, row in lines:
        if len(row) == len(columns):
            rows.append(row)
            numbers.append(number)
        elif len(row) > len(columns) or not layout.skip_incomplete:
            raise InputError(
                f"{path}, line {number}: {len(row)} columns where {len(columns)} are expected "
                f"({', '.join(columns)}); check its delimiter and quotes (keys `delimiter`, `quoting`, `columns`)."
            )
    return Table(columns, rows, str(path), numbers)


def _plain(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.removesuffix("\r")
        if line:
            yield number, line.split(delimiter)


def _quoted(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    start = 1
    try:
        for row in reader:
            if row:
                yield start, row
            start = reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"{path}, line {start}: a quote is not closed or stands inside a value ({error}); double it, "
            "or switch quotes off (`quoting: false`)."
        ) from None


def _jsonl(path: Path, text: str) -> Table:
    records: list[dict[str, Any]] = []
    numbers: list[int] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}, line {number}: no JSON ({error}); mend the line, one object a line.") from None
        if not isinstance(record, dict):
            raise InputError(f'{path}, line {number}: each line must be an object, like {{"text": "..."}}.')
        if "\\u" in line and not is_text("".join(_strings(record))):
            raise InputError(f"{path}, line {number}: holds \\u escapes that are no text (NUL or half a pair).")
        records.append(record)
        numbers.append(number)
    columns = tuple(dict.fromkeys(name for record in records for name in record))
    rows = [[record.get(name) for name in columns] for record in records]
    return Table(columns, rows, str(path), numbers)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160].rstrip(".")


def _strings(record: dict[str, Any]) -> Iterator[str]:
    yield from record
    yield from (value for value in record.values() if isinstance(value, str))


def is_text(value: str) -> bool:
    """Whether a string can be written as UTF-8 and holds no NUL: escapes of JSON and YAML can make others."""
    try:
        return b"\0" not in value.encode()
    except UnicodeEncodeError:
        return False


def _parquet(path: Path, data: bytes) -> Table:
    import pandas as pd

    try:
        frame = pd.read_parquet(io.BytesIO(data))
    except Exception as error:  # every engine has its own errors
        raise InputError(f"{path}: no parquet file ({_first_line(error)}); fetch it again.") from None
    if frame.empty:
        raise InputError(f"{path}: it has no rows; name another file.")
    columns = tuple(map(str, frame.columns))
    lists: Sequence[list[Any]] = [frame.iloc[:, i].astype(object).tolist() for i in range(len(columns))]
    return Table(columns, list(zip(*lists, strict=True)), str(path))


def file_digest(path: Path) -> str:
    """64 hex digits of SHA-256 over a file's bytes: the identity of a local file, wherever it lies.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}.") from None
