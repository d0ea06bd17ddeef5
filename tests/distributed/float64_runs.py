"""Runs in float64, in one process or in several launched together; the first writes what came out.

`python -m tests.distributed.float64_runs PLACE OUT`, alone or under a launcher.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import save_file

from effft.config import RunConfig, make_config
from effft.distributed.process_group import is_shard, join_process_group, process_group
from effft.models.backbone import Backbone
from effft.runs import fit, learners
from effft.runs.experiment import execute
from effft.runs.plan import prepare
from effft.runs.session import Session
from effft.strategies.learner import Learner
from effft.tracking.tracker import MemoryTracker

CASES: dict[str, tuple[str, dict[str, object]]] = {
    "vanilla": ("llama", {"batch_size": 3, "selection": "validation"}),  # steps of 3, 3, 3 and 1: fewer than processes
    "lora": ("llama", {"batch_size": 5, "weight_decay": 0.1}),
    "pbft": ("llama", {}),  # tied embeddings and LM head
    "bitfit": ("opt", {}),
    "probe": ("gpt2", {}),
    "adaptive": ("gpt_neox", {"layers": 1}),
    "lora+pbft": ("bert", {"lora_modules": "all"}),
    "adaptive+pbft": ("bart", {"layers": 1, "label_words": "not good,not bad"}),  # both halves, a row for each word
    "context_distillation": ("qwen3", {"teacher_shots": 4, "unlabelled": 3}),
    "icl": ("llama", {"shots": 4}),
}
"""Strategy -> backbone and settings, none with dropout: masks differ from process to process."""


class Exact(Session):
    """Backbones in float64."""

    def loaded_backbone(self, config: RunConfig, lm_head: bool) -> Backbone:
        backbone = super().loaded_backbone(config, lm_head)
        backbone.model.double()
        return backbone


@contextmanager
def in_float64() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def noted(found: list[Any], module: ModuleType, name: str) -> Iterator[None]:
    """While open, what `<module>.<name>` is called with (and returns) is kept."""
    real = getattr(module, name)

    def noting(*given: Any) -> Any:
        made = real(*given)
        found.append((given, made))
        return made

    setattr(module, name, noting)
    try:
        yield
    finally:
        setattr(module, name, real)


def whole(parameter: torch.Tensor) -> torch.Tensor:
    full: torch.Tensor = parameter.full_tensor() if is_shard(parameter) else parameter  # type: ignore[attr-defined]
    return full.detach().clone().contiguous()


def fitted(place: Path, strategy: str, kind: str, **values: object) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The moved parameters, and the metrics by step and seed of the training."""
    base = {"task": str(place / "task.yaml"), "model": str(place / kind), "per_label": 5, "epochs": 3, "bootstrap": 0}
    config = make_config({"threads": 1, "precision": "fp32", **base, "strategy": strategy, **values})
    made: list[Any] = []
    seeds: list[Any] = []
    tracker = MemoryTracker()
    with noted(made, learners, "Learner"), noted(seeds, fit, "private_randomness"):
        execute(prepare(config, Exact(keep=False)), tracker)
    learner: Learner = made[0][1]
    weights = {name: whole(p) for name, p in learner.trainable_parameters.items()}
    told = [(step, values) for step, values in tracker.history]
    return weights, {"history": told, "seeds": [given[0] for given, _ in seeds]}


def everything(place: Path, out: Path) -> None:
    with join_process_group("cpu") as here, in_float64():
        for strategy, (kind, values) in CASES.items():
            weights, told = fitted(place, strategy, kind, **values)
            here.must_agree(f"weights of {strategy}", str({n: w.sum().item().hex() for n, w in weights.items()}))
            if here.rank == 0:
                save_file(weights | {"none": torch.zeros(1)}, out / f"{strategy}.safetensors")
                (out / f"{strategy}.json").write_text(json.dumps(told))
        weights, told = fitted(place, "vanilla", "opt", selection="validation")  # has dropout
        here.must_agree("weights after dropout", str({n: w.sum().item().hex() for n, w in weights.items()}))
        (out / f"seed{here.rank}.json").write_text(json.dumps(told["seeds"]))
        assert process_group().size == int(os.environ.get("WORLD_SIZE", "1"))


if __name__ == "__main__":
    everything(Path(sys.argv[1]), Path(sys.argv[2]))
    sys.stdout.flush()
    os._exit(0)  # torch's threads aborted once as the interpreter ended, when all was done
