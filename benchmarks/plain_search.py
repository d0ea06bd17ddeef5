"""A search as a careful user would write it: Optuna asks, every fold is a fresh model in a Trainer; one JSON line."""

import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
import torch
from transformers import DataCollatorWithPadding, set_seed

from benchmarks.plain import OrderedTrainer, Rows, arguments, build, read
from benchmarks.sampling import PeakMemory


def validate(job: dict[str, Any], fold: dict[str, list[int]]) -> float:
    """The accuracy on one fold after training on the others."""
    set_seed(0)
    model, tokenizer = build(job)
    path = Path(job["task"]).parent / "train.csv"
    train, held = (Rows(tokenizer, read(path, fold[part])) for part in ("train", "validation"))
    collator = DataCollatorWithPadding(tokenizer)
    trainer = OrderedTrainer(model=model, args=arguments(job), train_dataset=train, data_collator=collator)
    trainer.train()
    found = trainer.predict(held)
    return float((found.predictions.argmax(-1) == found.label_ids).mean())


def main() -> None:
    """Search, and tell seconds, peak memory and the values of the trials."""
    job = json.loads(sys.argv[1])
    torch.set_num_threads(job["threads"])
    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def objective(trial: optuna.Trial) -> float:
        own = {"rate": trial.suggest_float("rate", 1e-5, 1e-1, log=True), "rank": trial.suggest_int("rank", 1, 64)}
        return fmean(validate(job | own, fold) for fold in job["folds"])

    with PeakMemory() as memory, tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        study = optuna.create_study(direction="maximize", storage=f"sqlite:///{folder}/optuna.db")
        for rate, rank in job["trials"]:
            study.enqueue_trial({"rate": rate, "rank": rank})
        study.optimize(objective, n_trials=len(job["trials"]))
        seconds = time.perf_counter() - start
    print(json.dumps({"search": seconds, "losses": [t.value for t in study.trials], "peak_bytes": memory.peak}))


if __name__ == "__main__":
    main()
