"""Progress on stderr: a bar on a terminal, a plain line every few seconds elsewhere."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

PAUSE = 5.0
"""Seconds between two plain lines."""


class Progress:
    """A context; calling it with (stage, done, total) shows where the work is. `runs` adds a bar over the runs.

    speaks: False for all processes of a run but the first.
    """

    def __init__(
        self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic, speaks: bool = True
    ) -> None:
        self.speaks = speaks
        self.stream = stream or sys.stderr
        self.clock = clock
        self.spoke = clock()
        self.run_text = ""
        self.first: tuple[float, int] | None = None
        self.bars: Bars | None = None
        self.stage: tuple[str, TaskID] | None = None
        self.overall: TaskID | None = None

    def __enter__(self) -> "Progress":
        if self.speaks and self.stream.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self.bars = Progress(*columns, console=Console(file=self.stream), transient=True)
            self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Take the bars away; what is printed next stands alone."""
        if self.bars is not None:
            self.bars.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """What is being done; total 0 means that nobody knows how much there is."""
        if self.bars is not None:
            self._bar(stage, done, total)
        elif self.speaks and self.clock() - self.spoke >= PAUSE:
            self._line(stage, done, total)

    def runs(self, name: str, done: int, total: int) -> None:
        """Which of several runs it is; `done` are over. Time left: as if the rest took as long a run as those seen."""
        self.run_text = f"run {done + 1} of {total} ({name}{self._left(done, total)}): "
        if self.bars is None:
            return
        if self.stage is not None:  # what the last run was at
            self.bars.remove_task(self.stage[1])
            self.stage = None
        if self.overall is None:
            self.overall = self.bars.add_task("runs", total=total)
        self.bars.update(self.overall, completed=done, description=f"runs: {name}")

    def _left(self, done: int, total: int) -> str:
        if self.first is None or done < self.first[1]:
            self.first = (self.clock(), done)
        start, before = self.first
        if done == before:
            return ""
        seconds = (self.clock() - start) / (done - before) * (total - done)
        return f", about {seconds / 60:.0f} min left" if seconds >= 90 else f", about {seconds:.0f} s left"

    def _line(self, stage: str, done: int, total: int) -> None:
        self.spoke = self.clock()
        of = f" {done}/{total}" if total else ""
        self.stream.write(f"effft: {self.run_text}{stage}{of}\n")
        self.stream.flush()

    def _bar(self, stage: str, done: int, total: int) -> None:
        assert self.bars is not None
        if self.stage is None or self.stage[0] != stage:
            if self.stage is not None:
                self.bars.remove_task(self.stage[1])
            self.stage = (stage, self.bars.add_task(stage, total=total or None))
        self.bars.update(self.stage[1], completed=done, total=total or None)
