"""Real studies on one and two worker processes of this machine: what the simulation is fed with and held against."""

import os
import platform
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from statistics import fmean

from benchmarks.scale_sim import Costs, Measured, Point
from effft.runs.session import Session
from effft.search import units
from effft.search.driver import Driver
from effft.search.mlflow_log import Logbook
from effft.search.settings import Settings, StudyPlan
from effft.search.spaces import first_guesses
from effft.search.storage import enqueue_guesses, open_storage, open_study
from effft.search.study import plan_study
from effft.tracking.tracker import tracked

FOLDS = 4


class Workers(units.LocalProcesses):
    """Notes how long each round of units took."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.seconds: list[float] = []

    def run(self, asked: Sequence[units.Unit]) -> list[units.Measured]:
        """As in `LocalProcesses`."""
        start = time.perf_counter()
        found = super().run(asked)
        self.seconds.append(time.perf_counter() - start)
        return found


@dataclass
class Writes:
    """Commits of this process and the seconds in them and in their statements."""

    commits: int = 0
    seconds: float = 0.0
    _start: list[float] = field(default_factory=list)


@contextmanager
def counted() -> Iterator[Writes]:
    """While open, everything that SQLAlchemy sends is counted: Optuna's and MLflow's stores alike."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    writes = Writes()

    def before(*_: object) -> None:
        writes._start.append(time.perf_counter())

    def after(*_: object) -> None:
        writes.seconds += time.perf_counter() - writes._start.pop()

    def commit(_connection: object) -> None:
        writes.commits += 1

    watched = (("before_cursor_execute", before), ("after_cursor_execute", after), ("commit", commit))
    for name, function in watched:
        event.listen(Engine, name, function)
    try:
        yield writes
    finally:
        for name, function in watched:
            event.remove(Engine, name, function)


@dataclass(frozen=True)
class Real:
    """One study after its first round. rounds: seconds of every round of units; writes: after the first round too."""

    trials: int
    seconds: float
    rounds: tuple[float, ...]
    commits: int
    writing: float


def real(plan: StudyPlan, workers: int) -> Real:
    """A whole study in a fresh folder; the first round starts the workers and does not count."""
    from effft.tracking.mlflow_tracker import MlflowTracker

    with tempfile.TemporaryDirectory() as folder, closing(Workers(workers)) as executor, counted() as writes:
        study = open_study(open_storage(f"sqlite:///{folder}/optuna.db"), plan)
        enqueue_guesses(study, first_guesses(plan.defaults, plan.space))
        os.chdir(folder)
        parent = MlflowTracker.open("benchmark", "study", {}, tracking_uri=f"sqlite:///{folder}/mlflow.db")
        with tracked(parent):
            driver = Driver(study, plan, executor, Logbook(parent, plan), lambda *_: None)
            driver.work([driver.ask() for _ in range(workers)])
            start, first, commits, writing = time.perf_counter(), len(executor.seconds), writes.commits, writes.seconds
            rounds = plan.settings.trials // workers - 1
            for _ in range(rounds):
                driver.work([driver.ask() for _ in range(workers)])
            seconds = time.perf_counter() - start
        os.chdir("/")
        return Real(
            rounds * workers,
            seconds,
            tuple(executor.seconds[first:]),
            writes.commits - commits,
            writes.seconds - writing,
        )


def measure(trials: int) -> Measured:
    """One worker gives the costs; one and two give the points. Nothing is pruned, so that every trial is whole."""
    values = {"strategy": "lora", "per_label": "8", "epochs": "10"}
    settings = Settings(trials=trials, folds=FOLDS, sampler="tpe", pruner="none")
    plan = plan_study(values, {}, settings, "scale", Session())
    one, two = real(plan, 1), real(plan, 2)
    outside = (one.seconds - sum(one.rounds)) / one.trials
    commits = round(one.commits / one.trials)
    write = one.writing / one.trials / commits
    costs = Costs(
        driver=outside - commits * write, writes=commits, write=write, give=0.0, folds=FOLDS,
        units=tuple(round(seconds, 4) for seconds in one.rounds),
    )  # fmt: skip
    name = f"{os.cpu_count()} cores, {platform.machine()}, mean unit {fmean(one.rounds):.2f} s"
    return Measured(name, costs, (Point(1, one.trials / one.seconds), Point(2, two.trials / two.seconds)))
