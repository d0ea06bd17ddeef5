"""The interface between a run and the store of its results; importing this file loads no vendor."""

import logging
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Literal, Protocol, TypeVar, runtime_checkable

from effft.garbage import release_frames

Status = Literal["FINISHED", "FAILED", "KILLED"]

NOTE = "mlflow.note.content"  # Tag: the description of a run or an experiment.
SHIELD_SECONDS = 5.0  # Seconds after a stop signal in which further ones are ignored, so that the run can be closed.

METRICS_TABLE, METRICS_TAG, GIVEN_TAG = "metrics", "metrics_table", "asked"
"""The artifact with all metrics of a run; the tags that say where it is, and which settings were asked for by hand."""

log = logging.getLogger(__name__)


@runtime_checkable
class Tracker(Protocol):
    """What a run may log. All of it is stored when the run is closed, whatever ended it."""

    run_id: str = ""
    """The run's id in the store; '' when nothing is stored."""

    @property
    def url(self) -> str:
        """Address of the run's page; '' when there is none."""

    @property
    def unsent(self) -> str:
        """Why results are kept elsewhere, and the command that sends them; '' when the store has all of them."""

    def view(self, task: str, metric: str, sets: Sequence[str], home: str = "in_domain") -> str:
        """Save a view that shows the strategies side by side; returns its address, '' where there is none."""
        return ""

    def params(self, values: Mapping[str, object]) -> None:
        """Log settings; a key that was logged before keeps its first value."""

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags; a later value replaces an earlier one."""

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log numbers at a step; buffered until `flush`, `close`, or a full batch."""

    def dataset(self, name: str, digest: str, context: str, origin: str, rows: int) -> None:
        """Log a data set that the run read: `context` is its split, `origin` where it came from."""

    def table(self, path: str, columns: Mapping[str, Sequence[object]]) -> None:
        """Log a table as an artifact; all columns are equally long."""

    def text(self, path: str, content: str) -> None:
        """Log an artifact of text."""

    def model(self, folder: Path, metrics: Mapping[str, float]) -> str:
        """Log a folder that `serving.save` wrote, with its metrics; returns the model's id in the store or ''."""

    def note(self, markdown: str) -> None:
        """Set the description on the run's page."""
        self.tags({NOTE: markdown})

    def flush(self) -> None:
        """Write what is buffered."""
        return

    def child(self, name: str, tags: Mapping[str, str]) -> "Tracker":
        """A run under this one; the caller closes it, or it is closed with its parent."""

    def close(self, status: Status = "FINISHED") -> None:
        """Flush, close open children and end the run; a second call does nothing."""


@dataclass
class MemoryTracker(Tracker):
    """A tracker that stores everything in memory, for tests and `--no-tracking`."""

    name: str = ""
    run_id: str = ""
    url: str = ""
    unsent: str = ""
    status: str = "RUNNING"
    parameters: dict[str, object] = field(default_factory=dict)
    tag_values: dict[str, str] = field(default_factory=dict)
    history: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    datasets: list[dict[str, object]] = field(default_factory=list)
    tables: dict[str, dict[str, list[object]]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    children: list["MemoryTracker"] = field(default_factory=list)

    def params(self, values: Mapping[str, object]) -> None:
        """Store settings; the first value of a key stays."""
        self.parameters = {**values, **self.parameters}

    def tags(self, values: Mapping[str, str]) -> None:
        """Store tags; the last value of a key stays."""
        self.tag_values |= values

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Append to the history."""
        self.history.append((step, dict(values)))

    def dataset(self, name: str, digest: str, context: str, origin: str, rows: int) -> None:
        """Store a data set's description."""
        self.datasets.append({"name": name, "digest": digest, "context": context, "origin": origin, "rows": rows})

    def table(self, path: str, columns: Mapping[str, Sequence[object]]) -> None:
        """Store a table."""
        check_lengths(path, columns)
        self.tables[path] = {name: list(values) for name, values in columns.items()}

    def text(self, path: str, content: str) -> None:
        """Store a text."""
        self.texts[path] = content

    def model(self, folder: Path, metrics: Mapping[str, float]) -> str:
        """Store the names of the model's files."""
        self.files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        return ""

    def child(self, name: str, tags: Mapping[str, str]) -> "MemoryTracker":
        """A tracker listed in `children`."""
        child = MemoryTracker(name=name, tag_values=dict(tags))
        self.children.append(child)
        return child

    def close(self, status: Status = "FINISHED") -> None:
        """Store how the run ended; the first call counts."""
        if self.status == "RUNNING":
            self.status = status
            for child in self.children:
                child.close(status)

    @property
    def latest(self) -> dict[str, float]:
        """The last value of every metric key."""
        return {key: value for _, values in self.history for key, value in values.items()}


def check_lengths(path: str, columns: Mapping[str, Sequence[object]]) -> None:
    """Raise ValueError, a programming error, for a table whose columns are not equally long."""
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"table {path!r}: columns must be equally long, but got {lengths}.")


AnyTracker = TypeVar("AnyTracker", bound=Tracker)


@contextmanager
def tracked(tracker: AnyTracker) -> Iterator[AnyTracker]:
    """Close the run as FINISHED, as FAILED after an error, or as KILLED after a stop signal.

    What was measured is flushed first. A failure to close never hides the error that ended the run.
    """
    try:
        yield tracker
    except BaseException as error:
        status = status_of(error)
        if status == "KILLED":  # in the middle of a write, maybe: its cursor would lock the database for the closing
            release_frames(error)
        try:
            tracker.close(status)
        except Exception as second:
            log.warning("the run could not be closed: %s", second)
        raise
    tracker.close("FINISHED")


def status_of(error: BaseException) -> Status:
    """KILLED for Ctrl-C and for an exit by signal (SystemExit above 128), FINISHED for exit code 0, else FAILED."""
    if isinstance(error, KeyboardInterrupt):
        return "KILLED"
    if isinstance(error, SystemExit):
        if error.code in (None, 0):
            return "FINISHED"
        if isinstance(error.code, int) and error.code > 128:
            return "KILLED"
    return "FAILED"


@contextmanager
def stop_signals() -> Iterator[None]:
    """Raise SystemExit(128 + number) on Ctrl-C, SIGTERM and SIGHUP, so that `tracked` can close the run.

    Signals that follow within SHIELD_SECONDS are ignored: a second Ctrl-C does not interrupt the closing. A signal that
    is ignored already stays so (SIGHUP under nohup). Does nothing outside the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    last = float("-inf")

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > SHIELD_SECONDS:
            last = now
            raise SystemExit(128 + number) if number != signal.SIGINT else KeyboardInterrupt

    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    numbers = [signal.Signals[name] for name in names if signal.getsignal(signal.Signals[name]) != signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
