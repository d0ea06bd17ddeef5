"""The same jobs done by effft; one job a process, one JSON line."""

import json
import sys

from benchmarks.material import SHOTS, UNLABELLED
from benchmarks.sampling import PeakMemory
from effft.config import make_config
from effft.runs.experiment import execute
from effft.runs.plan import prepare
from effft.runs.session import Session
from effft.tracking.tracker import MemoryTracker


def main() -> None:
    """Work, and tell what `benchmarks.plain` tells."""
    job = json.loads(sys.argv[1])
    values = {
        "strategy": job["work"], "task": job["task"], "model": job["model"], "per_label": job["per_label"],
        "batch_size": 32, "epochs": job["epochs"], "learning_rate": job["rate"], "warmup": 0.0,
        "evaluation_limit": job["evaluation"], "bootstrap": 0, "threads": job["threads"],
        "device": "cuda" if job["cuda"] else "cpu",
    }  # fmt: skip
    if job["work"] == "context_distillation":
        values |= {"unlabelled": UNLABELLED, "teacher_shots": SHOTS}
    if job["work"] == "icl":
        values = {k: v for k, v in values.items() if k not in ("batch_size", "epochs", "learning_rate", "warmup")}
    tracker = MemoryTracker()
    with PeakMemory() as memory:
        plan = prepare(make_config(values), Session(keep=False))
        result = execute(plan, tracker)
    found = {key.removeprefix("resources/"): value for key, value in result.metrics.items()}
    losses = [values["train/loss"] for _, values in tracker.history if "train/loss" in values]
    told = {
        "train": found["train_seconds"],
        "evaluation": found["evaluation_seconds"],
        "losses": losses if job["work"] != "icl" else [],
        "peak_bytes": memory.peak,
        "precision": plan.resolved.precision,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
