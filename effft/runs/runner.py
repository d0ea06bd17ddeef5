"""The one runner of a list of jobs: in this process, or in worker processes that are replaced when they die."""

import logging
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import connection, get_context, parent_process
from typing import TYPE_CHECKING, Generic, TypeVar

from effft.errors import RunError
from effft.redaction import redact

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from effft.runs.session import Session

Job = TypeVar("Job")
Answer = TypeVar("Answer")

log = logging.getLogger(__name__)

ATTEMPTS = 3  # Attempts before a job is blamed for crashing its worker.
GRACE_SECONDS = 5.0  # Time a worker has to close its run after SIGTERM, before it is killed.


class WorkerDiedError(RunError):
    """A job crashed its worker process in every attempt."""


@dataclass(frozen=True)
class _Attempt(Generic[Job]):
    key: Hashable
    job: Job
    number: int = 1


class Runner(Generic[Job, Answer]):
    """Answers jobs with `work(job, session)`; a context manager that ends its processes on exit.

    With one worker the jobs run in this process. With several they run in spawned processes, each with a `Session`
    that loads models and data once. A process that dies (out of memory, killed) is replaced, and its job is tried
    again while no other job runs, up to `ATTEMPTS` times.

    Args:
        work: A function of a module (it is pickled by name). What it raises in a worker process becomes a `RunError`.
        workers: Number of processes; 1 starts none.
        session: The session of in-process work; made when it is first needed.
    """

    def __init__(
        self, work: "Callable[[Job, Session], Answer]", workers: int, session: "Session | None" = None
    ) -> None:
        self.work, self.workers, self.session = work, workers, session
        self._waiting: deque[_Attempt[Job]] = deque()
        self._running: dict[_Worker[Job, Answer], _Attempt[Job]] = {}
        self._idle: list[_Worker[Job, Answer]] = []

    def __enter__(self) -> "Runner[Job, Answer]":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def as_completed(self, jobs: Sequence[Job]) -> "Iterator[tuple[int, Answer | WorkerDiedError]]":
        """Yield (place in the list, answer) as the jobs end; they start in the order of the list."""
        for place, job in enumerate(jobs):
            self.submit(place, job)
        for _ in jobs:
            key, answer = self.next_result()
            assert isinstance(key, int)
            yield key, answer

    def submit(self, key: Hashable, job: Job) -> None:
        """Queue a job."""
        self._waiting.append(_Attempt(key, job))
        if self.workers > 1:
            self._start_jobs()

    def next_result(self) -> "tuple[Hashable, Answer | WorkerDiedError]":
        """Wait for the next job to end; returns its key and its answer.

        Raises:
            RunError: `work` raised in a worker process.
        """
        if self.workers == 1:
            if self.session is None:
                from effft.runs.session import Session

                self.session = Session()
            attempt = self._waiting.popleft()
            return attempt.key, self.work(attempt.job, self.session)
        while True:
            self._start_jobs()
            ready = connection.wait([worker.pipe for worker in self._running])[0]
            worker = next(worker for worker in self._running if worker.pipe is ready)
            attempt = self._running.pop(worker)
            try:
                answer, failure = worker.pipe.recv()
            except (EOFError, OSError):
                worker.kill()
                log.warning("effft: a worker process died (memory, a kill).")
                if attempt.number < ATTEMPTS:
                    self._waiting.appendleft(replace(attempt, number=attempt.number + 1))
                    continue
                reason = f"its worker process died {ATTEMPTS} times; memory may be short (--workers)."
                return attempt.key, WorkerDiedError(reason)
            self._idle.append(worker)
            if failure:
                raise RunError(failure)
            return attempt.key, answer

    def _start_jobs(self) -> None:
        while self._waiting and len(self._running) < self.workers and self._may_start(self._waiting[0]):
            worker = self._idle.pop() if self._idle else _Worker(self.work)
            self._running[worker] = self._waiting.popleft()
            worker.send(self._running[worker].job)

    def _may_start(self, attempt: "_Attempt[Job]") -> bool:
        """A job that may have crashed its worker runs while no other does, so that none is blamed for another."""
        return not self._running or all(one.number == 1 for one in (attempt, *self._running.values()))

    def close(self) -> None:
        """End the worker processes; a job in hand gets `GRACE_SECONDS` to close its run."""
        workers = [*self._idle, *self._running]
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.join(GRACE_SECONDS)
            worker.kill()
        self._idle, self._running, self._waiting = [], {}, deque()


class _Worker(Generic[Job, Answer]):
    """A process and the pipe to it."""

    def __init__(self, work: "Callable[[Job, Session], Answer]") -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(work, theirs), daemon=True)
        self.process.start()
        theirs.close()  # so that the death of the process is the end of the pipe

    def send(self, job: Job) -> None:
        with suppress(OSError):  # a dead process is found when its answer is read
            self.pipe.send(job)

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _serve(work: "Callable[[Job, Session], Answer]", pipe: "Connection") -> None:
    """Answer jobs until the pipe ends. Ctrl-C is the driver's: it ends its workers itself."""
    from effft.tracking.tracker import stop_signals

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    os.environ.pop("MLFLOW_RUN_ID", None)
    from effft.runs.session import Session

    session = Session()
    with stop_signals(), suppress(EOFError):
        while True:
            job = pipe.recv()
            try:
                pipe.send((work(job, session), ""))
            except Exception as error:
                pipe.send((None, redact(f"{type(error).__name__}: {' '.join(str(error).split())}")))


def _exit_with_parent() -> None:
    """End this process when the driver is gone: after a kill -9 nobody else would."""
    driver = parent_process()
    if driver is not None:
        driver.join()
    os._exit(1)
