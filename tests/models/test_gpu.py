"""What a GPU computes is what the CPU computes."""

import pytest
import torch

from effft.config import make_config
from effft.runs.experiment import run
from effft.runs.session import Session
from effft.tracking.tracker import MemoryTracker

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.mark.parametrize("strategy", ["lora", "adaptive", "pbft", "icl"])
def test_a_run_on_a_gpu_has_the_numbers_of_the_cpu(strategy: str) -> None:
    found = {}
    for device in ("cpu", "cuda"):
        values = {"strategy": strategy, "per_label": 8, "evaluation_limit": 64, "bootstrap": 0, "precision": "fp32"}
        values |= {} if strategy == "icl" else {"steps": 3}
        tracker = MemoryTracker()
        metrics = run(make_config(values | {"device": device}), tracker, Session(keep=False)).metrics
        losses = [values["train/loss"] for _, values in tracker.history if "train/loss" in values]
        found[device] = [*losses, metrics["in_domain/negative_log_likelihood"], metrics["in_domain/outside_mass"]]
    assert found["cuda"] == pytest.approx(found["cpu"], rel=1e-3, abs=1e-5)
    assert len(found["cuda"]) > 2
