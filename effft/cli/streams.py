"""Standard streams that may go away: what cannot be printed is dropped, and never decides a run's fate."""

import errno
import io
import os
import sys
from typing import Any


class LossyFile(io.FileIO):
    """A file descriptor that becomes the null device at the first failure to write (closed pipe, full disk)."""

    failure: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write, or drop."""
        try:
            return super().write(data) or 0
        except OSError as error:
            self.failure = error
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            return memoryview(data).nbytes


def protect_streams() -> None:
    """Make stdout and stderr lossy, for every library that prints.

    A closed descriptor is opened on the null device first: otherwise the next file opened, such as a database, would
    get its number and every message written to it. Characters that the encoding lacks are escaped.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115 - open as long as the process
    for number, name in ((1, "stdout"), (2, "stderr")):
        before = getattr(sys, name)
        file = io.BufferedWriter(LossyFile(number, "w", closefd=False))
        encoding = before.encoding if before else None
        is_line_buffered = name == "stderr" or file.isatty()
        setattr(sys, name, io.TextIOWrapper(file, encoding, "backslashreplace", line_buffering=is_line_buffered))


def flush_streams(code: int) -> int:
    """Write what is buffered; return the exit code, 1 for output that was lost on a device that failed."""
    sys.stdout.flush()
    failure = getattr(getattr(sys.stdout.buffer, "raw", None), "failure", None)
    if failure is not None and failure.errno != errno.EPIPE:  # a reader that left, as `| head`, wants no more
        sys.stderr.write(f"effft: standard output could not be written ({failure.strerror}).\n")
        code = code or 1
    sys.stderr.flush()
    return code
