"""What a study costs outside training: `python -m benchmarks.driver`; seconds a trial, and resident memory.

The units are answered at once for the overhead (ask, tell, MLflow); they are real trainings for the memory.
"""

import argparse
import json
import os
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import psutil

from effft.runs.session import Session
from effft.search.driver import Driver
from effft.search.mlflow_log import Logbook
from effft.search.settings import Settings, StudyPlan
from effft.search.spaces import first_guesses
from effft.search.storage import enqueue_guesses, open_storage, open_study
from effft.search.study import plan_study
from effft.search.units import InProcess, Unit, UnitResult
from effft.tracking.tracker import tracked


class Instant:
    """An executor that answers at once, with noise."""

    width = 1

    def __init__(self) -> None:
        self.rng = random.Random(0)

    def run(self, units: Sequence[Unit]) -> list[UnitResult]:
        """A number for each."""
        resources = dict.fromkeys(
            ("peak_memory_bytes", "train_seconds", "evaluation_seconds", "trainable_parameters", "tokens_per_second"),
            1.0,
        )
        return [UnitResult(self.rng.random(), resources) for _ in units]

    def close(self) -> None:
        """Nothing to do."""


class Timed(Driver):
    """Notes wall and processor seconds, and the resident memory, after every trial."""

    def run(self) -> None:
        """Trial by trial."""
        self.wall: list[float] = []
        self.processor: list[float] = []
        self.resident: list[int] = []
        for _ in range(self.plan.settings.trials):
            start, used = time.perf_counter(), time.process_time()
            self.work([self.ask()])
            self.wall.append(time.perf_counter() - start)
            self.processor.append(time.process_time() - used)
            self.resident.append(psutil.Process().memory_info().rss)


def timed(plan: StudyPlan, executor: Instant | InProcess, storage: str = "", tracking: str = "") -> Timed:
    """A whole study in a fresh folder, kept in files there or in the databases named."""
    from effft.tracking.mlflow_tracker import MlflowTracker

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        study = open_study(open_storage(storage or f"sqlite:///{folder}/optuna.db"), plan)
        enqueue_guesses(study, first_guesses(plan.defaults, plan.space))
        place = tracking or f"sqlite:///{folder}/mlflow.db"
        parent = MlflowTracker.open("benchmark", "study", {}, tracking_uri=place)
        with tracked(parent):
            driver = Timed(study, plan, executor, Logbook(parent, plan), lambda *_: None)
            driver.run()
        os.chdir(Path(__file__).parent)
        return driver


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=105)
    parser.add_argument("--memory-trials", type=int, default=40)
    parser.add_argument("--storage", default="", help="Optuna's database ('' = a fresh sqlite file)")
    parser.add_argument("--tracking-uri", default="", help="MLflow's store ('' = a fresh sqlite file)")
    asked = parser.parse_args()
    session = Session()
    values = {"strategy": "lora", "per_label": "8", "epochs": "2"}
    plan = plan_study(values, {}, Settings(trials=asked.trials, folds=4), "overhead", session)
    driver = timed(plan, Instant(), asked.storage, asked.tracking_uri)
    found = {
        "wall_first_5": fmean(driver.wall[:5]), "wall_last_5": fmean(driver.wall[-5:]),
        "processor_first_5": fmean(driver.processor[:5]), "processor_last_5": fmean(driver.processor[-5:]),
    }  # fmt: skip
    if asked.memory_trials > 5:
        small = replace(plan, settings=Settings(trials=asked.memory_trials, folds=2))
        resident = timed(small, InProcess(session)).resident
        found |= {
            "resident_after_5": resident[4],
            "resident_at_end": resident[-1],
            "growth": resident[-1] / resident[4] - 1,
        }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
