"""`python -m benchmarks.scaling`: how cost grows with size, at 1, 2, 4 and 8 times; written to benchmarks/scaling.md.

Training and evaluation should be linear in examples, epochs and rows; a trial of a study should cost the same however
many trials came before it. `--memory-trials 40` also prints how far resident memory grows over a study.
"""

import os
import random
import tempfile
import time
from collections.abc import Callable, Hashable
from pathlib import Path
from statistics import median

import click
import psutil

from benchmarks.material import KEEP, make_material
from effft.config import make_config
from effft.runs.experiment import run
from effft.runs.session import Session
from effft.search.driver import Driver
from effft.search.jobs import REPORTED_RESOURCES, InProcess, JobResult, TrainingJob
from effft.search.mlflow_log import Logbook
from effft.search.planning import plan_study
from effft.search.settings import Settings, StudyPlan
from effft.search.storage import open_study
from effft.tracking.mlflow_tracker import MlflowTracker
from effft.tracking.tracker import MemoryTracker, tracked

TIMES = (1, 2, 4, 8)
REPEATS = 3


class RandomScores:
    """An executor that trains nothing: what is left is the cost of the driver, Optuna and MLflow."""

    width = 1

    def __init__(self) -> None:
        self.generator = random.Random(0)
        self.given: list[Hashable] = []

    def submit(self, key: Hashable, unit: TrainingJob) -> None:
        """Remember the key."""
        self.given.append(key)

    def next_result(self) -> tuple[Hashable, JobResult]:
        """A random score."""
        return self.given.pop(0), JobResult(self.generator.random(), dict.fromkeys(REPORTED_RESOURCES, 1.0))

    def close(self) -> None:
        """Nothing to do."""


@click.command(help=__doc__)
@click.option("--shape", default="opt-125m", help="architecture (benchmarks/material.py)")
@click.option("--threads", default=1, help="CPU threads")
@click.option("--memory-trials", default=0, help="trials of a study whose resident memory is printed (0 = none)")
@click.option("--keep", default=KEEP, help="where models and data are made")
def main(shape: str, threads: int, memory_trials: int, keep: str) -> None:
    """Measure, print and write the table."""
    model, task = make_material(Path(keep), shape)
    session = Session()

    def resource(name: str, **more: object) -> float:
        values: dict[str, object] = {
            "strategy": "lora", "task": str(task), "model": str(model), "per_label": 8, "epochs": 1, "warmup": 0.0,
            "evaluation_limit": 1, "bootstrap": 0, "threads": threads, "device": "cpu", **more,
        }  # fmt: skip
        return run(make_config(values), MemoryTracker(), session).metrics[f"resources/{name}"]

    resource("train_seconds")  # warm up
    rows: dict[str, Callable[[int], float]] = {
        "examples (LoRA, one epoch), from 8 per label": lambda n: resource("train_seconds", per_label=8 * n),
        "epochs (LoRA, 16 per label), from 1": lambda n: resource("train_seconds", per_label=16, epochs=n),
        "evaluation rows, from 125": lambda n: resource("evaluation_seconds", evaluation_limit=125 * n),
        "a trial outside training, studies from 13 trials": lambda n: trial_seconds(session, RandomScores(), 13 * n),
        "a trial (tiny-lm, 2 folds, 2 epochs), studies from 5": lambda n: trial_seconds(
            session, InProcess(session), 5 * n
        ),
    }
    lines = [
        "# Cost against size", "",
        f"`python -m benchmarks.scaling`: {shape} architecture, {threads} thread(s), median of {REPEATS} runs.",
        "Seconds (of studies: a trial, one run), and in brackets how many times the first column.", "",
        "| what grows | " + " | ".join(f"{n}x" for n in TIMES) + " |", "|---|" + "---|" * len(TIMES),
    ]  # fmt: skip
    for name, cost in rows.items():
        repeats = 1 if name.startswith("a trial") else REPEATS
        lines.append(_row(name, [median(cost(n) for _ in range(repeats)) for n in TIMES]))
        click.echo(lines[-1], err=True)
    text = "\n".join(lines) + "\n"
    (Path(__file__).parent / "scaling.md").write_text(text)
    click.echo(text)
    if memory_trials:
        resident = run_study(plan(session, memory_trials), InProcess(session))
        click.echo(f"resident memory after 5 trials {resident[4] / 1e6:.0f} MB, at the end {resident[-1] / 1e6:.0f} MB")


def _row(name: str, seconds: list[float]) -> str:
    return f"| {name} | " + " | ".join(f"{s:.3g} ({s / seconds[0]:.2f})" for s in seconds) + " |"


def plan(session: Session, trials: int) -> StudyPlan:
    """A small LoRA study on the built-in task."""
    values = {"strategy": "lora", "per_label": "8", "epochs": "2"}
    return plan_study(values, {}, Settings(trials=trials, folds=2), "scaling", session)


def trial_seconds(session: Session, executor: RandomScores | InProcess, trials: int) -> float:
    """Seconds a trial of a whole study."""
    planned, start = plan(session, trials), time.perf_counter()
    run_study(planned, executor)
    return (time.perf_counter() - start) / trials


def run_study(planned: StudyPlan, executor: RandomScores | InProcess) -> list[int]:
    """Run a study in a fresh folder with Optuna and MLflow on sqlite; return the resident memory after every trial."""
    resident: list[int] = []

    def note(_stage: str, _done: int, _total: int) -> None:
        resident.append(psutil.Process().memory_info().rss)

    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            parent = MlflowTracker.open("benchmark", "study", {}, tracking_uri=f"sqlite:///{folder}/mlflow.db")
            with open_study(f"sqlite:///{folder}/optuna.db", planned) as stored, tracked(parent):
                Driver(stored, planned, executor, Logbook(parent, planned), note).run()
        finally:
            os.chdir(before)
    return resident


if __name__ == "__main__":
    main()
