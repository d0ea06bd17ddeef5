"""The same search done by effft: its driver, executor and storage, without MLflow; one JSON line."""

import json
import math
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace

from benchmarks.sampling import PeakMemory
from effft.runs.session import Session
from effft.search.driver import Driver
from effft.search.executors import open_executor
from effft.search.mlflow_log import Logbook
from effft.search.settings import Settings
from effft.search.storage import open_study
from effft.search.study import plan_study
from effft.tracking.tracker import MemoryTracker


def main() -> None:
    """Search, and tell what `benchmarks.plain_search` tells."""
    job = json.loads(sys.argv[1])
    values = {
        "strategy": "lora", "task": job["task"], "model": job["model"], "per_label": job["per_label"],
        "batch_size": 32, "epochs": job["epochs"], "warmup": 0.0, "weight_decay": 0.0, "lora_modules": "attention",
        "threads": max(1, job["threads"] // job["workers"]), "device": "cuda" if job["cuda"] else "cpu",
    }  # fmt: skip
    fixed = {name: values.pop(name) for name in ("batch_size", "epochs", "warmup", "weight_decay", "lora_modules")}
    asked = fixed | {"alpha_ratio": 2, "learning_rate": "1e-5:1e-1:log", "rank": "1:64"}
    settings = Settings(
        len(job["trials"]), len(job["folds"]), pruner="none", workers=job["workers"], executor=job["executor"]
    )
    with PeakMemory() as memory, tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        session = Session()
        plan = plan_study(_texts(values), _texts(asked), settings, "benchmark", session)
        asked_for = ({"learning_rate": rate, "log2_rank": int(math.log2(rank))} for rate, rank in job["trials"])
        plan = replace(plan, guesses=tuple(asked_for))
        with (
            open_study(f"sqlite:///{folder}/optuna.db", plan) as stored,
            closing(open_executor(plan, session)) as executor,
        ):
            Driver(stored, plan, executor, Logbook(MemoryTracker(), plan), lambda *_: None).run()
        seconds = time.perf_counter() - start
    losses = [trial.value for trial in stored.trials]
    print(json.dumps({"search": seconds, "losses": losses, "peak_bytes": memory.peak}))


def _texts(values: Mapping[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in values.items()}


if __name__ == "__main__":
    main()
