"""The jobs of `benchmarks.plain` done by effft; one job a process, one JSON line. Searches run without MLflow."""

import json
import math
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from typing import Any

from benchmarks.material import SHOTS, UNLABELLED, PeakMemory, complete_trials
from effft.config import RunConfig, make_config
from effft.runs.experiment import execute
from effft.runs.plan import prepare
from effft.runs.session import Session
from effft.tracking.tracker import MemoryTracker


def main() -> None:
    """Work, and tell what `benchmarks.plain` tells."""
    job = json.loads(sys.argv[1])
    with PeakMemory() as memory:
        told = search(job) if job["work"] == "search" else train(job)
    print(json.dumps(told | {"peak_bytes": memory.peak}))


def common(job: dict[str, Any]) -> dict[str, Any]:
    """What every job gives."""
    device = "cuda" if job["cuda"] else "cpu"
    return {"task": job["task"], "model": job["model"], "per_label": job["per_label"], "device": device}


def config_of(job: dict[str, Any]) -> RunConfig:
    """The job as effft is asked for it."""
    values = common(job) | {
        "strategy": job["work"], "evaluation_limit": job["evaluation"], "bootstrap": 0, "threads": job["threads"],
    }  # fmt: skip
    if job["work"] != "icl":
        values |= {"batch_size": 32, "epochs": job["epochs"], "learning_rate": job["rate"], "warmup": 0.0}
    if job["work"] == "context_distillation":
        values |= {"unlabelled": UNLABELLED, "teacher_shots": SHOTS}
    if "rank" in job:
        values |= {"rank": job["rank"], "alpha": 2 * job["rank"]}
    return make_config(values)


def train(job: dict[str, Any]) -> dict[str, Any]:
    """One run."""
    tracker = MemoryTracker()
    plan = prepare(config_of(job), Session(keep=False))
    metrics = execute(plan, tracker).metrics
    losses = [values["train/loss"] for _, values in tracker.history if "train/loss" in values]
    return {
        "train": metrics["resources/train_seconds"],
        "evaluation": metrics["resources/evaluation_seconds"],
        "train_flops": metrics["resources/train_flops"],
        "evaluation_flops": metrics["resources/evaluation_flops"],
        "accuracy": metrics["in_domain/accuracy"],
        "train_share": metrics["resources/train_matmul_share"],
        "evaluation_share": metrics["resources/evaluation_matmul_share"],
        "losses": losses if job["work"] != "icl" else [],
        "precision": plan.resolved.precision,
    }


def search(job: dict[str, Any]) -> dict[str, Any]:
    """A study: the product's driver, executor and storage.

    With a number of trials instead of their list, effft's own sampler proposes and its own pruner stops.
    """
    from effft.search.driver import Driver
    from effft.search.mlflow_log import Logbook
    from effft.search.planning import plan_study
    from effft.search.settings import Settings
    from effft.search.storage import open_study
    from effft.search.study import open_executor

    given, seed = job["trials"], job.get("seed", 0)
    values = common(job) | {"strategy": "lora", "threads": max(1, job["threads"] // job["workers"]), "seed": seed}
    asked = {"batch_size": 32, "epochs": job["epochs"], "warmup": 0.0, "weight_decay": 0.0, "lora_modules": "attention"}
    asked |= {"alpha_ratio": 2, "learning_rate": "1e-5:1e-1:log", "rank": "1:64:log2"}
    settings = Settings(len(given) if isinstance(given, list) else given, len(job["folds"]), workers=job["workers"])
    if isinstance(given, list):
        settings = replace(settings, pruner="none")
    fixed, ranges = ({name: str(value) for name, value in given.items()} for given in (values, asked))
    with tempfile.TemporaryDirectory() as folder:
        start, began = time.perf_counter(), datetime.now()
        session = Session()
        plan = plan_study(fixed, ranges, settings, "benchmark", session)
        if isinstance(given, list):
            guesses = ({"learning_rate": rate, "log2_rank": int(math.log2(rank))} for rate, rank in given)
            plan = replace(plan, guesses=tuple(guesses))
        with (
            open_study(f"sqlite:///{folder}/optuna.db", plan) as stored,
            closing(open_executor(plan, session)) as executor,
        ):
            Driver(stored, plan, executor, Logbook(MemoryTracker(), plan), lambda *_: None).run()
        seconds = time.perf_counter() - start
    known = complete_trials(stored.trials, began, "learning_rate")
    return {"search": seconds, "losses": [trial.value for trial in stored.trials], "known": known}


if __name__ == "__main__":
    main()
