"""Where a run comes from: code, versions, machine, process; and whether that process is still alive."""

import getpass
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from effft.redaction import redact
from effft.version import __version__

PACKAGES = ("torch", "transformers", "peft", "mlflow", "numpy", "scikit-learn", "tokenizers")
ROOT = Path(__file__).parent.parent.parent
SAME_START = 0.05  # Seconds by which two readings of one start time may differ (they are exact to a hundredth).


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(  # noqa: S603 # nosec B603 B607 # fixed words
            ["git", "-C", str(ROOT), *words],  # noqa: S607 - the user's own git
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@cache
def _code() -> Mapping[str, str]:
    """Cached, since the code that runs is the code that was there at the start."""
    tags = {"python": platform.python_version(), "platform": platform.platform(), "cpus": str(os.cpu_count())}
    tags["version.effft"] = __version__
    for package in PACKAGES:
        try:
            tags[f"version.{package}"] = version(package)
        except PackageNotFoundError:
            continue
    # The repository must be this project's, not one that merely contains its installation.
    commit = _git("rev-parse", "HEAD") if _git("ls-files", "--error-unmatch", "effft/errors.py") else None
    if commit:
        changed = _git("status", "--porcelain", "--untracked-files=no")
        tags |= {"git_commit": commit, "git_dirty": str(bool(changed)).lower(), "mlflow.source.git.commit": commit}
    return tags


def code_tags() -> dict[str, str]:
    """Git commit of the project, whether the working tree differs from it, versions, machine and command."""
    return {**_code(), "command": redact(" ".join(["effft", *sys.argv[1:]]))}


def user_name() -> str:
    """The user's name, or 'unknown' where the system has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "unknown"


def process_tags() -> dict[str, str]:
    """Host, process id, start time and PID namespace: enough to tell later whether this process is still alive."""
    process = psutil.Process()
    return {
        "effft.host": socket.gethostname(),
        "effft.pid": str(process.pid),
        "effft.pid_start": f"{_started(process):.2f}",
        "effft.pid_space": _pid_space(),
    }


def is_dead(tags: Mapping[str, str]) -> bool:
    """Whether process tags name a process of this host that has ended; False where that cannot be known."""
    if tags.get("effft.host") != socket.gethostname() or tags.get("effft.pid_space", "") != _pid_space():
        return False
    try:
        pid, start = int(tags["effft.pid"]), float(tags["effft.pid_start"])
    except (KeyError, ValueError):
        return False
    try:
        process = psutil.Process(pid)
        gone = process.status() == psutil.STATUS_ZOMBIE or abs(_started(process) - start) > SAME_START
    except (psutil.NoSuchProcess, ValueError, OverflowError):
        return True
    except psutil.Error:
        return False
    return bool(gone)


def _started(process: psutil.Process) -> float:
    """Seconds from the start of the machine to that of the process, which setting the clock does not change."""
    booted = psutil.boot_time()  # called first, because older psutil computes create_time from this very number
    return float(process.create_time() - booted)


def _pid_space() -> str:
    """The PID namespace (a process id is unique within one container only); '' where the system has none."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
