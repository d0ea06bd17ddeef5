"""What the rows of one file may take, and opening a file so that what is wrong with it is a sentence."""

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from effft.errors import InputError

LIMIT_VARIABLE = "EFFFT_DATA_LIMIT_MB"
DEFAULT_LIMIT_MB = 512
ROW_BYTES = 256
"""What a row counts in addition to its own bytes, so that the limit bounds the memory of many short rows too."""

MOST_COLUMNS = 10_000


def data_limit() -> float:
    """Bytes that the rows of one file may take."""
    given = os.environ.get(LIMIT_VARIABLE, "") or str(DEFAULT_LIMIT_MB)
    try:
        limit = float(given)
    except ValueError:
        limit = 0.0
    if not 0 < limit < float("inf"):
        raise InputError(f"{LIMIT_VARIABLE}={given}: it must be a number of megabytes above 0.")
    return limit * 1e6


def too_large(origin: object, limit: float) -> InputError:
    """The sentence about rows that pass the data limit."""
    return InputError(
        f"{origin}: its rows take more than {limit / 1e6:g} MB when unpacked (each row counts {ROW_BYTES} bytes more); "
        f"take fewer rows, or raise the limit with the environment variable {LIMIT_VARIABLE}."
    )


def empty_file(path: Path, what: str = "the file is empty") -> InputError:
    """The sentence about a file without rows."""
    return InputError(f"{path}: {what}; add rows or name another file.")


def checked_columns(path: Path, columns: tuple[str, ...]) -> tuple[str, ...]:
    """The columns, each there once."""
    if len(columns) > MOST_COLUMNS:
        raise InputError(f"{path}: it has {len(columns):,} columns; {MOST_COLUMNS:,} is the most. Keep those needed.")
    if len(set(columns)) < len(columns):
        twice = next(name for i, name in enumerate(columns) if name in columns[:i])
        raise InputError(f"{path}: column {twice!r} stands there twice; rename one in the file.")
    return columns


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The unpacked bytes of a file; what is wrong with it becomes a sentence."""
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            yield file  # type: ignore[misc] # both read bytes
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: no whole gzip file ({error}); fetch it again, or drop .gz from its name.") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}.") from None
