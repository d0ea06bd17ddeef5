"""Every strategy in processes of its own: equal arguments give equal numbers to the last bit, other seeds others."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from effft.strategies.strategy import NAMED, compose

STRATEGIES = (*NAMED, "lora+pbft", "adaptive+pbft", "bitfit+pbft", "lora+distill", "pattern+classifier")
SCRIPT = """
import json, sys
from effft.config import make_config
from effft.runs.experiment import run
from effft.runs.session import Session
from effft.tracking.tracker import MemoryTracker
place, strategies, changes = json.loads(sys.argv[1])
clock = ("seconds", "per_second", "memory_mb", "matmul_share")
found = {}
for strategy in strategies:
    own = {"shots": 4} if strategy == "icl" else {"teacher_shots": 4, "unlabelled": 8} if "distill" in strategy else {}
    base = {"task": place + "/task.yaml", "model": place + "/llama", "per_label": 8, "epochs": 2, }
    config = make_config({**base, "bootstrap": 50, "strategy": strategy, **own, **changes})
    tracker = MemoryTracker()
    result = run(config, tracker, Session(keep=False))
    numbers = {k: v.hex() for k, v in result.metrics.items() if not k.endswith(clock)}
    scores = {n: {c: [repr(v) for v in col] for c, col in t.items()} for n, t in result.tables.items()}
    losses = [values["train/loss"].hex() for _, values in tracker.history if "train/loss" in values]
    found[strategy] = {"numbers": numbers, "scores": scores, "losses": losses, "draw": tracker.texts["draw.txt"]}
print(json.dumps(found))
"""


def measured(place: Path, hash_seed: str, **changes: object) -> dict[str, Any]:
    """Everything that a new process measures; Python's hashes differ from one to the next."""
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(Path(__file__).parents[2])}
    words = [sys.executable, "-c", SCRIPT, json.dumps([str(place), STRATEGIES, changes])]
    done = subprocess.run(words, env=environment, cwd=place, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def first(place: Path) -> dict[str, Any]:
    return measured(place, "1")


@pytest.mark.slow
def test_bit_for_bit(place: Path, first: dict[str, Any]) -> None:
    again = measured(place, "2")
    assert list(first) == list(STRATEGIES)
    for strategy in STRATEGIES:
        assert len(first[strategy]["scores"]["in_domain"]["score_with_dog"]) == 60
        for part in ("draw", "losses", "scores", "numbers"):
            assert again[strategy][part] == first[strategy][part], (strategy, part)


@pytest.mark.slow
def test_another_data_seed_draws_other_examples(place: Path, first: dict[str, Any]) -> None:
    other = measured(place, "1", data_seed=1)
    for strategy in STRATEGIES:
        assert other[strategy]["draw"] != first[strategy]["draw"]
        same = other[strategy]["scores"]["in_domain"] == first[strategy]["scores"]["in_domain"]
        assert same == (strategy == "zero_shot"), strategy  # it alone reads no example


@pytest.mark.slow
def test_another_seed_trains_otherwise_on_the_same_examples(place: Path, first: dict[str, Any]) -> None:
    other = measured(place, "1", seed=1)
    for strategy in STRATEGIES:
        assert other[strategy]["draw"] == first[strategy]["draw"]
        same = other[strategy]["scores"]["in_domain"] == first[strategy]["scores"]["in_domain"]
        moved = compose(strategy).takes_steps
        assert same != moved or strategy == "probe", strategy  # whose folds move, and its penalty perhaps
