"""Rows of local files, read one at a time: csv, tsv, txt, jsonl, parquet, each also gzipped.

Training, evaluation, `effft predict` and the tests read files through `open_table`, so one set of rules holds for all.
"""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from effft.data.limits import ROW_BYTES, checked_columns, data_limit, empty_file, opened, too_large
from effft.data.parquet import open_parquet
from effft.data.table import SourceRow, Table, is_text, listed
from effft.disk import check_regular
from effft.errors import InputError, lookup

DELIMITED = {".csv": (",", True), ".tsv": ("\t", False), ".txt": ("\t", False)}
"""Suffix -> delimiter and whether quotes mean something, unless the layout says otherwise."""

RULES = (
    "in .csv commas and quotes mean something, in .tsv and .txt tabs alone, unless the keys `delimiter`, `quoting` and "
    "`columns` of a task file say otherwise"
)
"""What the remedies for a file's lines say, whoever reads it."""

FORMATS = {**dict.fromkeys(DELIMITED, "delimited"), ".jsonl": "jsonl", ".parquet": "parquet"}

LONGEST_LINE = 1 << 26  # Bytes of one line (64 MB); also the longest quoted value.


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


def format_of(path: Path) -> tuple[str, bool]:
    """The suffix that tells a file's format, and whether it is gzipped."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    zipped = suffixes[-1:] == [".gz"]
    suffix = "".join(suffixes[:-1][-1:] if zipped else suffixes[-1:])
    lookup(f"file format of {path}:", suffix, FORMATS)
    return suffix, zipped


def open_table(path: Path, layout: Layout = Layout(), limited: bool = True) -> Table:
    """The rows of a file; its columns are read at once, the rows when the table is iterated.

    Args:
        path: The file; its suffix tells the format.
        layout: What a delimited file does not say itself.
        limited: Refuse a file that unpacks to more than the data limit. Set it to False where rows are not kept.

    Raises:
        InputError: unknown suffix, not a regular file, not readable, not what its suffix says, or empty. Iterating
            raises it for a bad line and for a file without rows.
    """
    suffix, _ = format_of(path)
    check_regular(path)
    limit = data_limit() if limited else 1e15
    if suffix == ".parquet":
        return open_parquet(path, limit)
    if suffix == ".jsonl":
        names = dict.fromkeys(name for row in _json_rows(path, limit) for name in row.values)
        return Table(str(path), checked_columns(path, tuple(names)), lambda: _json_rows(path, limit), "line")
    return _delimited(path, layout, limit, *DELIMITED[suffix])


def write_jsonl(path: Path, frame: Any) -> Path:
    """Write a pandas DataFrame as a file of rows, JSON lines.

    Raises:
        InputError: two columns have one name, or a value cannot be written.
    """
    try:
        frame.to_json(path, orient="records", lines=True, force_ascii=False, date_format="iso")
    except (ValueError, OverflowError, OSError) as error:
        raise InputError(f"the DataFrame cannot be written as rows: {str(error).rstrip('.')}.") from None
    return path


def _lines(path: Path, limit: float, cr_ends: bool = False) -> Iterator[str]:
    """Decoded lines with their ends. CR alone ends a line with `cr_ends`, and in a file that has no LF at all."""
    taken, number = 0, 0
    with opened(path) as file:
        while raw := file.readline(LONGEST_LINE + 1):
            number += 1
            taken += len(raw) + ROW_BYTES
            if taken > limit:
                raise too_large(path, limit)
            if len(raw) > LONGEST_LINE:
                raise InputError(f"{path}, line {number}: longer than {LONGEST_LINE >> 20} MB; it is no file of rows.")
            try:
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                byte = raw[error.start]
                hint = " It looks gzipped: name it .gz." if raw[:2] == b"\x1f\x8b" else " Save it as UTF-8."
                raise InputError(f"{path}, line {number}: no UTF-8 text (byte {byte:#04x}).{hint}") from None
            if "\0" in text:
                raise InputError(
                    f"{path}, line {number}: holds a NUL byte, so it is no text file; save it as UTF-8 text."
                )
            if "\r" in text and (cr_ends or (number == 1 and "\n" not in text)):
                yield from io.StringIO(text, newline="")
            else:
                yield text


def _delimited(path: Path, layout: Layout, limit: float, delimiter: str, quoted: bool) -> Table:
    split = partial(
        _split_lines, path, layout.delimiter or delimiter, quoted if layout.quoting is None else layout.quoting, limit
    )
    header = not layout.columns if layout.header is None else layout.header
    columns = layout.columns
    if header:
        first = next(split(), (1, []))[1]
        if not first:
            raise empty_file(path)
        columns = columns or tuple(name.strip() for name in first)
        if len(columns) != len(first):
            raise InputError(f"{path}: the task's `columns` names {len(columns)}, but its header has {len(first)}.")

    def read() -> Iterator[SourceRow]:
        lines = islice(split(), int(header), None)
        number, is_empty = 0, True
        for number, values in lines:
            if len(values) == len(columns):
                is_empty = False
                yield SourceRow(number, dict(zip(columns, values, strict=True)))
            elif len(values) > len(columns) or not layout.skip_incomplete:
                raise InputError(
                    f"{path}, line {number}: {len(values)} columns where {len(columns)} are expected "
                    f"({listed(columns)}); check its delimiter and quotes: {RULES}."
                )
        if is_empty:
            what = "no line has all of its columns" if number else "it has a header and no rows"
            raise empty_file(path, what if number or header else "the file is empty")

    return Table(str(path), checked_columns(path, columns), read, "line")


def _split_lines(path: Path, delimiter: str, quoted: bool, limit: float) -> Iterator[tuple[int, list[str]]]:
    """Line number and values of every line of a delimited file, its header too."""
    if not quoted:
        for number, text in enumerate(_lines(path, limit), start=1):
            if line := text.removesuffix("\n").removesuffix("\r"):
                yield number, line.split(delimiter)
        return
    csv.field_size_limit(LONGEST_LINE)  # 131,072 by default, which long texts pass
    reader = csv.reader(_lines(path, limit, cr_ends=True), delimiter=delimiter, strict=True)
    number = 1
    try:
        for row in reader:
            if row:
                yield number, row
            number = reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"{path}, line {number}: a quote is not closed or stands inside a value ({error}); double it: {RULES}."
        ) from None


def _json_rows(path: Path, limit: float) -> Iterator[SourceRow]:
    number = 0
    for place, line in enumerate(_lines(path, limit), start=1):
        if not line.strip():
            continue
        number = place
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}, line {number}: no JSON ({error}); mend the line, one object a line.") from None
        if not isinstance(record, dict):
            raise InputError(f'{path}, line {number}: each line must be an object, like {{"text": "..."}}.')
        strings = [*record, *(value for value in record.values() if isinstance(value, str))]
        if "\\u" in line and not is_text("".join(strings)):
            raise InputError(f"{path}, line {number}: holds \\u escapes that are no text (NUL or half a pair).")
        yield SourceRow(number, record)
    if not number:
        raise empty_file(path)
