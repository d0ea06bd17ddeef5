"""Processes that run one command: forked, so that they need not import everything again."""

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from effft.cli.exit_codes import run_command_line


def life(words: Sequence[str], log: Path, before: Callable[[], object] = lambda: None) -> int:
    """A process that calls `before`, then runs the command with its output in `log`; returns its id."""
    pid = os.fork()
    if pid:
        return pid
    code = 99
    try:
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)  # pytest's own lead elsewhere
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        before()
        code = run_command_line(words)
        sys.stdout.flush()
    finally:
        os._exit(code)


def ended(pid: int) -> int | None:
    """Its exit code (128 + number after a signal), or None while it lives."""
    found, status = os.waitpid(pid, os.WNOHANG)
    if not found:
        return None
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def wait(pid: int, seconds: float = 300) -> int:
    """Its exit code; it must end within the time."""
    end = time.monotonic() + seconds
    while (code := ended(pid)) is None:
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise AssertionError(f"still running after {seconds} s")
        time.sleep(0.02)
    return code
