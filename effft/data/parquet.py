"""Rows of a parquet file, read in batches whose unpacked size is known before."""

import io
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

from effft.data.limits import MOST_COLUMNS, ROW_BYTES, checked_columns, data_limit, empty_file, opened, too_large
from effft.data.table import SourceRow, Table
from effft.errors import InputError

PACKED = {"PLAIN_DICTIONARY", "RLE_DICTIONARY", "DELTA_BYTE_ARRAY"}
"""Encodings of parquet in which a text takes fewer bytes than it has."""

BATCH_BYTES = 1 << 25  # Unpacked bytes of a parquet file that are read at a time.

VALUE_BYTES = 16
"""What a number in a list of a parquet file counts at least: a million equal ones take no room in the file."""


def open_parquet(path: Path, limit: float) -> Table:
    """The rows of a file, as `effft.data.files.open_table`; limit: bytes that they may take."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with opened(path) as file:
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
        raise empty_file(path, "it has no rows")
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

    return Table(str(path), checked_columns(path, tuple(schema.names)), read)


def _packed_columns(path: Path, metadata: Any) -> tuple[list[str], int, int]:
    """What the columns of a parquet file hold beyond their bytes in it: 1 kB can say a text of 10 MB a thousand times.

    Returns:
        The columns whose texts arrow leaves in their dictionary; the bytes that lists of numbers take beyond their size
        in the file; the number of rows that fit into `BATCH_BYTES` when every text is as long as its whole column.
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
