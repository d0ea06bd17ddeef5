"""The work of a trial, cut into units: one training and one validation each. Workers know nothing else."""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Hashable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

from effft.config import RunConfig
from effft.redaction import redact

if TYPE_CHECKING:
    from effft.runs.session import Session

REPORTED_RESOURCES = (
    "peak_memory_mb",
    "train_seconds",
    "evaluation_seconds",
    "trainable_parameters",
    "tokens_per_second",
)
"""The resources that a unit reports."""

Key = TypeVar("Key", bound=Hashable)
TRIES = 3
"""Times a unit is given to a worker before it is held to be what its workers die of."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingJob:
    """A configuration (seed included) to be validated; fold: (which, of how many, cut by which seed) or None.

    epoch_thresholds: validation score after each epoch below which the training ends early; None: epochs are not
    scored.
    """

    config: RunConfig
    fold: tuple[int, int, int] | None = None
    epoch_thresholds: tuple[float, ...] | None = None


@dataclass(frozen=True)
class JobResult:
    """value: the primary metric on validation; failure: why there is none.

    curve: the metric after every epoch, where the unit has bars; stopped: it fell below one.
    """

    value: float
    resources: dict[str, float]
    failure: str = ""
    curve: tuple[float, ...] = ()
    stopped: bool = False


def measure(unit: TrainingJob, session: "Session") -> JobResult:
    """Train and validate. Only the `train` source is opened; whatever goes wrong is a sentence in the result."""
    from effft.runs.experiment import execute
    from effft.runs.plan import prepare_validation
    from effft.tracking.tracker import MemoryTracker

    curve: list[float] = []

    def should_stop(epoch: int, value: float) -> bool:
        curve.append(value)
        return below_threshold(unit.epoch_thresholds or (), epoch, value)

    try:
        plan = prepare_validation(unit.config, session, unit.fold)
        result = execute(plan, MemoryTracker(), should_stop=None if unit.epoch_thresholds is None else should_stop)
    except Exception as error:
        return failed_result(error)
    resources = {name: result.metrics[f"resources/{name}"] for name in REPORTED_RESOURCES}
    stopped = bool(curve) and below_threshold(unit.epoch_thresholds or (), len(curve), curve[-1])
    return JobResult(result.metrics[f"validation/{result.primary}"], resources, "", tuple(curve), stopped)


def failed_result(error: Exception) -> JobResult:
    """What went wrong, as a sentence."""
    said = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
    return JobResult(float("nan"), {}, redact(said))


def below_threshold(thresholds: Sequence[float], epoch: int, value: float) -> bool:
    """Whether the score after an epoch (from 1) is under its bar; epochs beyond the bars have none."""
    return epoch <= len(thresholds) and value < thresholds[epoch - 1]


class Executor(Protocol):
    """Something that measures units; `width` of them at a time are worth giving."""

    width: int

    def submit(self, key: Hashable, unit: TrainingJob) -> None:
        """Take a unit in hand."""

    def next_result(self) -> tuple[Hashable, JobResult]:
        """A unit that has ended, with its key."""

    def close(self) -> None:
        """Let the workers go."""


def measure_all(executor: Executor, units: Mapping[Key, TrainingJob]) -> Iterator[tuple[Key, JobResult]]:
    """The results as they come, as many units in hand as the executor takes."""
    waiting, flying = iter(units.items()), 0
    while True:
        for key, unit in islice(waiting, executor.width - flying):
            executor.submit(key, unit)
            flying += 1
        if not flying:
            return
        yield cast("tuple[Key, JobResult]", executor.next_result())
        flying -= 1


class InProcess:
    """One unit after another in this process."""

    width = 1

    def __init__(self, session: "Session") -> None:
        self.session = session
        self._given: deque[tuple[Hashable, TrainingJob]] = deque()

    def submit(self, key: Hashable, unit: TrainingJob) -> None:
        """Put it at the end of the queue."""
        self._given.append((key, unit))

    def next_result(self) -> tuple[Hashable, JobResult]:
        """Measure the first of the queue."""
        key, unit = self._given.popleft()
        return key, measure(unit, self.session)

    def close(self) -> None:
        """Nothing to do."""


class LocalProcesses:
    """Worker processes of this machine; each loads model and data once and keeps them.

    When one dies (memory, a kill), all are started anew and what was in flight is measured again, one unit at a time,
    so that a unit that no worker survives is known for it.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self._pool = _pool(width)
        self._flying: dict[Future[JobResult], tuple[Hashable, TrainingJob]] = {}
        self._alone: deque[tuple[Hashable, TrainingJob]] = deque()

    def submit(self, key: Hashable, unit: TrainingJob) -> None:
        """Give it to a worker."""
        try:
            if not self._alone:
                self._flying[self._pool.submit(_work, unit)] = key, unit
                return
        except BrokenProcessPool:  # its worker died before the unit was given
            self._renew()
        self._alone.append((key, unit))

    def next_result(self) -> tuple[Hashable, JobResult]:
        """The first to end; of several, the first that was given."""
        while not self._alone:
            ended, _ = wait(self._flying, return_when=FIRST_COMPLETED)
            future = next(one for one in self._flying if one in ended)
            if not isinstance(future.exception(), BrokenProcessPool):
                key, _ = self._flying.pop(future)
                return key, future.result()
            self._renew()
        key, unit = self._alone.popleft()
        return key, self._measured_alone(unit)

    def _measured_alone(self, unit: TrainingJob) -> JobResult:
        for _ in range(TRIES - 1):
            try:
                return self._pool.submit(_work, unit).result()
            except BrokenProcessPool:
                self._renew()
        return JobResult(float("nan"), {}, f"its worker process died {TRIES} times; memory may be short (--workers).")

    def _renew(self) -> None:
        """New workers; what the old ones had in hand is to be measured alone."""
        log.warning("effft: a worker process died; what it had in hand is measured again.")
        wait(self._flying)
        lost = [one for one in self._flying if isinstance(one.exception(), BrokenProcessPool)]
        self._alone += [self._flying.pop(one) for one in lost]
        self.close()
        self._pool = _pool(self.width)

    def close(self) -> None:
        """End the workers, without waiting for what nobody will read."""
        workers = list((getattr(self._pool, "_processes", None) or {}).values())
        self._pool.shutdown(wait=False, cancel_futures=True)
        for worker in workers:  # at the exit of this process Python would wait for the units in hand
            worker.kill()


def _pool(width: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(width, get_context("spawn"), initializer=_start, initargs=(os.getpid(),))


_SESSION: "list[Session]" = []
"""A worker process's own, made by `_start`."""


def _start(driver: int) -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the driver, which ends the workers
    threading.Thread(target=_leave_after, args=(driver,), daemon=True).start()
    os.environ.pop("MLFLOW_RUN_ID", None)
    from effft.runs.session import Session

    _SESSION.append(Session())


def _leave_after(driver: int) -> None:
    """End this process when the driver is gone: after a kill -9 nobody else would."""
    while os.getppid() == driver:
        time.sleep(0.5)
    os._exit(1)


def _work(unit: TrainingJob) -> JobResult:
    return measure(unit, _SESSION[0])
