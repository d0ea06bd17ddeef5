"""Rows of local files, read one at a time: csv, tsv, txt, jsonl, parquet, each also gzipped.

Training, evaluation, `effft predict` and the tests read files through `open_table`, so one set of rules holds for all.
"""

import csv
import gzip
import io
import json
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import IO, Any

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

LIMIT_VARIABLE = "EFFFT_DATA_LIMIT_MB"
DEFAULT_LIMIT_MB = 512
ROW_BYTES = 256
"""What a row counts in addition to its own bytes, so that the limit bounds the memory of many short rows too."""

LONGEST_LINE = 1 << 26
"""Bytes of one line (64 MB); also the longest quoted value."""

MOST_COLUMNS = 10_000
PACKED = {"PLAIN_DICTIONARY", "RLE_DICTIONARY", "DELTA_BYTE_ARRAY"}
"""Encodings of parquet in which a text takes fewer bytes than it has."""

BATCH_BYTES = 1 << 25
"""Unpacked bytes of a parquet file that are read at a time."""

VALUE_BYTES = 16
"""What a number in a list of a parquet file counts at least: a million equal ones take no room in the file."""


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
    """The suffix that tells a file's format, and whether it is gzipped.

    Raises:
        InputError: unknown suffix.
    """
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
        return _parquet(path, limit)
    if suffix == ".jsonl":
        names = dict.fromkeys(name for row in _json_rows(path, limit) for name in row.values)
        return Table(str(path), _few(path, tuple(names)), lambda: _json_rows(path, limit), "line")
    return _delimited(path, layout, limit, *DELIMITED[suffix])


def write_jsonl(path: Path, frame: Any) -> Path:
    """Write a pandas DataFrame as a file of rows, JSON lines.

    Raises:
        InputError: two columns have one name, or a value cannot be written.
    """
    try:
        frame.to_json(path, orient="records", lines=True, force_ascii=False)
    except (ValueError, OverflowError, OSError) as error:
        raise InputError(f"the DataFrame cannot be written as rows: {str(error).rstrip('.')}.") from None
    return path


def data_limit() -> float:
    """Bytes that the rows of one file may take.

    Raises:
        InputError: the environment variable is no positive number.
    """
    given = os.environ.get(LIMIT_VARIABLE, "") or str(DEFAULT_LIMIT_MB)
    try:
        limit = float(given)
    except ValueError:
        limit = 0.0
    if not 0 < limit < float("inf"):
        raise InputError(f"{LIMIT_VARIABLE}={given}: it must be a number of megabytes above 0.")
    return limit * 1e6


def _empty(path: Path, what: str = "the file is empty") -> InputError:
    return InputError(f"{path}: {what}; add rows or name another file.")


def _few(path: Path, columns: tuple[str, ...]) -> tuple[str, ...]:
    """The columns, each there once."""
    if len(columns) > MOST_COLUMNS:
        raise InputError(f"{path}: it has {len(columns):,} columns; {MOST_COLUMNS:,} is the most. Keep those needed.")
    if len(set(columns)) < len(columns):
        twice = next(name for i, name in enumerate(columns) if name in columns[:i])
        raise InputError(f"{path}: column {twice!r} stands there twice; rename one in the file.")
    return columns


def too_large(origin: object, limit: float) -> InputError:
    """The sentence about rows that pass the data limit."""
    return InputError(
        f"{origin}: its rows take more than {limit / 1e6:g} MB when unpacked (each row counts {ROW_BYTES} bytes more); "
        f"take fewer rows, or raise the limit with the environment variable {LIMIT_VARIABLE}."
    )


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The unpacked bytes of a file; what is wrong with it becomes a sentence."""
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            yield file  # type: ignore[misc] # both read bytes
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: no whole gzip file ({error}); fetch it again, or drop .gz from its name.") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}.") from None


def _lines(path: Path, limit: float, cr_ends: bool = False) -> Iterator[str]:
    """Decoded lines with their ends. CR alone ends a line with `cr_ends`, and in a file that has no LF at all."""
    taken, number = 0, 0
    with _opened(path) as file:
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
        _split_lines,
        path,
        layout.delimiter or delimiter,
        quoted if layout.quoting is None else layout.quoting,
        limit,
    )
    header = not layout.columns if layout.header is None else layout.header
    columns = layout.columns
    if header:
        first = next(split(), (1, []))[1]
        if not first:
            raise _empty(path)
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
            raise _empty(path, what if number or header else "the file is empty")

    return Table(str(path), _few(path, columns), read, "line")


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
        raise _empty(path)


def _parquet(path: Path, limit: float) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with _opened(path) as file:
            room = int(min(limit, data_limit()))
            source = io.BytesIO(file.read(room + 1)) if path.suffix.lower() == ".gz" else str(path)
        if isinstance(source, io.BytesIO) and source.getbuffer().nbytes > room:
            raise too_large(path, room)
        plain = pq.ParquetFile(source)
        metadata, schema = plain.metadata, plain.schema_arrow
        texts, hidden, at_once = _packed_columns(path, metadata)
        found = pq.ParquetFile(source, read_dictionary=texts)
    except InputError:
        raise
    except Exception as error:  # pyarrow has its own errors for every kind of damage
        raise InputError(f"{path}: no parquet file ({_first_line(error)}); fetch it again.") from None
    rows, parts = metadata.num_rows, map(metadata.row_group, range(metadata.num_row_groups))
    unpacked = hidden + sum(part.total_byte_size for part in parts)
    if not rows:
        raise _empty(path, "it has no rows")
    if rows * ROW_BYTES + unpacked > limit:
        raise too_large(path, limit)

    def read() -> Iterator[SourceRow]:
        numbers, taken = count(), 0
        try:
            for batch in found.iter_batches(batch_size=max(1, min(at_once, BATCH_BYTES * rows // max(1, unpacked)))):
                taken += sum(_bytes_of(column) for column in batch.columns if pa.types.is_nested(column.type))
                if taken > limit:
                    raise too_large(path, limit)
                for values in zip(*map(_values, batch.columns), strict=True):
                    taken += ROW_BYTES + sum(len(value) for value in values if isinstance(value, str | bytes))
                    if taken > limit:
                        raise too_large(path, limit)
                    yield SourceRow(next(numbers), dict(zip(schema.names, values, strict=True)))
        except (OSError, ValueError) as error:  # pyarrow's own errors are among these
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path}: no whole parquet file ({_first_line(error)}); fetch it again.") from None

    return Table(str(path), _few(path, tuple(schema.names)), read)


def _packed_columns(path: Path, metadata: Any) -> tuple[list[str], int, int]:
    """What the columns of a parquet file hold beyond their bytes in it: 1 kB can say a text of 10 MB a thousand times.

    Returns:
        The columns whose texts arrow leaves in their dictionary; the bytes that lists of numbers take beyond their size
        in the file; the number of rows that fit into `BATCH_BYTES` when every text is as long as its whole column.

    Raises:
        InputError: too many columns; lists of texts that arrow cannot leave packed.
    """
    if metadata.num_columns > MOST_COLUMNS:
        raise InputError(f"{path}: it has {metadata.num_columns:,} columns; {MOST_COLUMNS:,} is the most.")
    texts, hidden, at_once = [], 0, 1024
    for place in range(metadata.num_columns):
        column = metadata.schema.column(place)
        parts = [metadata.row_group(number).column(place) for number in range(metadata.num_row_groups)]
        encodings = {encoding for part in parts for encoding in part.encodings}
        in_list, sizes = column.max_repetition_level > 0, [part.total_uncompressed_size for part in parts]
        if in_list:
            hidden += max(0, VALUE_BYTES * sum(part.num_values for part in parts) - sum(sizes))
        if not column.physical_type.endswith("BYTE_ARRAY") or not encodings & PACKED:
            continue
        if column.physical_type == "BYTE_ARRAY" and "DELTA_BYTE_ARRAY" not in encodings:
            texts.append(column.path)
        elif in_list:
            raise InputError(
                f"{path}: column {column.path!r} holds lists of texts in an encoding whose size cannot be told before "
                "it is read; write the file without that column, or as .jsonl."
            )
        else:
            at_once = min(at_once, BATCH_BYTES // max(1, *sizes))
    return texts, hidden, at_once


def _bytes_of(column: Any) -> int:
    """Bytes of an arrow array when every text of a dictionary is written out."""
    import pyarrow as pa
    import pyarrow.compute as pc

    size: int = column.nbytes
    if pa.types.is_dictionary(column.type):
        lengths = pc.binary_length(column.dictionary).take(column.indices)
        size = (pc.sum(lengths).as_py() or 0) + column.indices.nbytes
        return size
    if pa.types.is_struct(column.type):
        return sum(map(_bytes_of, column.flatten()))
    if pa.types.is_map(column.type):
        first, last = column.offsets[0].as_py(), column.offsets[-1].as_py()
        return sum(_bytes_of(part.slice(first, last - first)) for part in (column.keys, column.items))
    if pa.types.is_nested(column.type):
        return _bytes_of(column.flatten())
    return size


def _values(column: Any) -> list[Any]:
    """The values of an arrow array; equal texts are one object."""
    if not hasattr(column, "dictionary"):
        return list(column.to_pylist())
    known = column.dictionary.to_pylist()
    return [None if place is None else known[place] for place in column.indices.to_pylist()]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160].rstrip(".")
