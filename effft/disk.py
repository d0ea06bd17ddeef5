"""Files on disk: only regular ones are opened, bytes are their identity, a result is written whole or not at all."""

import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from effft.errors import InputError, nearest, shortened

LARGEST_TEXT = 1 << 18  # Bytes of a text that a person writes; such a file is a page, not a data set.

SMALL_FILES = (".json", ".txt", ".model", ".jinja", ".codes", ".bpe", ".spm")
"""Suffixes of a model's configuration and tokenizer."""


def cache_folder() -> Path:
    """Where effft keeps what it made once: `$XDG_CACHE_HOME/effft`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "effft"


def check_regular(path: Path) -> None:
    """Refuse what is no regular file before it is opened: a FIFO would block, a device would never end."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}.") from None
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe (FIFO)", stat.S_IFSOCK: "a socket"}
        raise InputError(f"{path}: this is {kinds.get(stat.S_IFMT(mode), 'a device')}, not a file; name a file.")


def check_exists(path: Path, kind: str, pattern: str) -> None:
    """Refuse a path where nothing is.

    kind: what sentences call the file, for example `task file`. pattern: what the names of such files look like.
    """
    if os.path.lexists(path):
        return
    beside = [p.name for p in path.parent.glob(pattern)] if os.path.isdir(path.parent) else []
    place = f" It was looked for at {shortened(path.absolute())}; `mlflow run` works in the project's folder, so "
    place = "" if path.is_absolute() else f"{place}give it the whole path."
    raise InputError(f"{kind} {shortened(path)}: no such file.{nearest(path.name[:200], beside)}{place}")


def read_text(path: Path, kind: str, most: int = LARGEST_TEXT) -> str:
    """The UTF-8 text of a file that a user named, read only when it is a regular file of at most `most` bytes.

    kind: what sentences call it, for example `task file`.

    Raises:
        InputError: no such file (with the nearest one), no regular file, too large, not readable, no UTF-8.
    """
    check_exists(path, kind, f"*{path.suffix}")
    if path.is_dir():
        raise InputError(f"{kind} {path} is a folder; name the file in it.")
    check_regular(path)
    try:
        if path.stat().st_size > most:
            raise InputError(f"{kind} {path} has {path.stat().st_size:,} bytes; {most:,} are the most.")
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{kind} {path} is no UTF-8 text (byte {error.start}); save it as UTF-8.") from None
    except OSError as error:
        raise InputError(f"{kind} {path} cannot be read: {error.strerror or error}.") from None


def file_digest(path: Path) -> str:
    """64 hex digits of SHA-256 over a file's bytes: the identity of a local file, wherever it lies."""
    check_regular(path)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}.") from None


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` for a file or a folder; renamed to `path` when the block ends well.

    When the block fails (a full disk, an interruption), the temporary file or folder is removed, and what was at
    `path` before is untouched. A folder that was there is replaced.

    Raises:
        OSError: the place cannot be written.
    """
    target = Path(os.path.realpath(path))
    with tempfile.TemporaryDirectory(prefix=f".{target.name[:40]}-", dir=target.parent) as place:
        temporary = Path(place) / target.name
        yield temporary
        if temporary.is_file():
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            if target.exists():
                shutil.copymode(target, temporary)
        if target.is_dir():  # the system renames over an empty folder only
            os.rename(target, Path(place) / ".before")
        os.replace(temporary, target)
