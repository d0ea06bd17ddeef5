"""The wall between a run and whoever keeps its numbers; importing this file loads no vendor."""

import logging
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Literal, Protocol, TypeVar, runtime_checkable

Status = Literal["FINISHED", "FAILED", "KILLED"]

log = logging.getLogger(__name__)


@runtime_checkable
class Tracker(Protocol):
    """What a run may tell: all of it is kept when the run is closed, whatever ended it."""

    @property
    def run_id(self) -> str:
        """The name the keeper gave to this run; '' when nobody keeps it."""

    @property
    def url(self) -> str:
        """Where a person looks at this run; '' when there is nothing to look at."""

    def params(self, values: Mapping[str, object]) -> None:
        """Settings of the run; a key that is known already keeps its first value."""

    def tags(self, values: Mapping[str, str]) -> None:
        """Labels of the run; a later value replaces an earlier one."""

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Numbers at a step; buffered until `flush`, `close`, or a full batch."""

    def dataset(self, name: str, digest: str, context: str, origin: str, rows: int) -> None:
        """A data set the run read: `context` is its split, `origin` where it came from."""

    def table(self, path: str, columns: Mapping[str, Sequence[object]]) -> None:
        """An artifact with one row per example; all columns are equally long."""

    def text(self, path: str, content: str) -> None:
        """An artifact of plain text."""

    def model(self, folder: Path, metrics: Mapping[str, float]) -> str:
        """A folder that `serving.save` wrote, and what it reached; returns the keeper's name for it or ''."""

    def note(self, markdown: str) -> None:
        """The description a person reads on the run's page."""

    def flush(self) -> None:
        """Write what is buffered."""

    def child(self, name: str, tags: Mapping[str, str]) -> "Tracker":
        """A run under this one; the caller closes it, or it is closed with its parent."""

    def close(self, status: Status = "FINISHED") -> None:
        """Flush, close open children, end the run; a second call does nothing."""


@dataclass
class MemoryTracker:
    """Remembers everything and writes nothing: what the tests read, and what `--no-tracking` uses."""

    name: str = ""
    run_id: str = ""
    url: str = ""
    status: str = "RUNNING"
    known: dict[str, object] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    history: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    datasets: list[dict[str, object]] = field(default_factory=list)
    tables: dict[str, dict[str, list[object]]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    description: str = ""
    children: list["MemoryTracker"] = field(default_factory=list)

    def params(self, values: Mapping[str, object]) -> None:
        """Keep settings; the first value of a key stays."""
        self.known = {**values, **self.known}

    def tags(self, values: Mapping[str, str]) -> None:
        """Keep labels; the last value of a key stays."""
        self.labels |= values

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Append to the history."""
        self.history.append((step, dict(values)))

    def dataset(self, name: str, digest: str, context: str, origin: str, rows: int) -> None:
        """Keep a data set's record."""
        self.datasets.append({"name": name, "digest": digest, "context": context, "origin": origin, "rows": rows})

    def table(self, path: str, columns: Mapping[str, Sequence[object]]) -> None:
        """Keep a table."""
        same_length(path, columns)
        self.tables[path] = {name: list(values) for name, values in columns.items()}

    def text(self, path: str, content: str) -> None:
        """Keep a text."""
        self.texts[path] = content

    def model(self, folder: Path, metrics: Mapping[str, float]) -> str:
        """Keep the names of the model's files."""
        self.files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        return ""

    def note(self, markdown: str) -> None:
        """Keep the description."""
        self.description = markdown

    def flush(self) -> None:
        """Nothing to do: nothing is buffered."""

    def child(self, name: str, tags: Mapping[str, str]) -> "MemoryTracker":
        """A tracker listed in `children`."""
        child = MemoryTracker(name=name, labels=dict(tags))
        self.children.append(child)
        return child

    def close(self, status: Status = "FINISHED") -> None:
        """Remember how the run ended; the first call counts."""
        if self.status == "RUNNING":
            self.status = status
            for child in self.children:
                child.close(status)

    @property
    def latest(self) -> dict[str, float]:
        """The last value of every metric key."""
        return {key: value for _, values in self.history for key, value in values.items()}


def same_length(path: str, columns: Mapping[str, Sequence[object]]) -> int:
    """Number of rows of a table; columns of different lengths are a programming error."""
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"table {path!r}: columns must be equally long, but got {lengths}.")
    return next(iter(lengths.values()), 0)


AnyTracker = TypeVar("AnyTracker", bound=Tracker)


@contextmanager
def tracked(tracker: AnyTracker) -> Iterator[AnyTracker]:
    """Close the run with the status its end deserves: FINISHED, FAILED, or KILLED when someone stopped it.

    What was measured is flushed first. A failure to close never hides the failure that ended the run.
    """
    try:
        yield tracker
    except BaseException as error:
        try:
            tracker.close(status_of(error))
        except Exception as second:
            log.warning("the run could not be closed: %s", second)
        raise
    tracker.close("FINISHED")


def status_of(error: BaseException) -> Status:
    """KILLED for Ctrl-C and for an exit by signal (SystemExit above 128), FAILED for the rest."""
    if isinstance(error, KeyboardInterrupt):
        return "KILLED"
    if isinstance(error, SystemExit):
        if error.code in (None, 0):
            return "FINISHED"
        if isinstance(error.code, int) and error.code > 128:
            return "KILLED"
    return "FAILED"


@contextmanager
def sigterm_exits() -> Iterator[None]:
    """Turn SIGTERM into SystemExit(143), so that `tracked` sees it; does nothing outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
