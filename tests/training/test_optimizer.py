"""The update of bf16 copies, a piece at a time, is the update of the masters as a whole."""

from pathlib import Path

import pytest
import torch
from backbones import save_backbone
from helpers import EXAMPLES, learner_on

from effft.models.memory import out_of_memory
from effft.models.precision import store_in_bf16
from effft.strategies.strategy import compose
from effft.training import optimizer as module
from effft.training.optimizer import Optimizer


def moved(folder: Path, chunk: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    monkeypatch.setattr(module, "CHUNK", chunk)
    learner = learner_on(folder, compose("vanilla"))
    learner.masters = store_in_bf16(learner.backbone.model)
    optimizer = Optimizer(learner, 0.1)
    for _ in range(3):
        learner.loss(learner.collate(learner.items(EXAMPLES))).backward()
        optimizer.step(1e-2, optimizer.norm(), 0.5)
        assert all(p.grad is None for p in optimizer.copies)  # gradients of copies are not held through the update
        optimizer.zero()
    for name, parameter in learner.trainable_parameters.items():
        if not name.startswith("head."):
            assert torch.equal(parameter, learner.masters[id(parameter)].bfloat16())
    return {n: p.detach().float().clone() for n, p in learner.trainable_parameters.items()}


def test_pieces_change_no_update(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_backbone(tmp_path, "opt")
    whole, pieces = moved(folder, 1 << 30, monkeypatch), moved(folder, 100, monkeypatch)
    for name, value in whole.items():
        torch.testing.assert_close(pieces[name], value, rtol=1e-2, atol=1e-6)  # a bf16 step is 0.4 %


def test_what_torch_says_when_memory_is_short() -> None:
    with pytest.raises(RuntimeError) as real:
        torch.empty(1 << 50, dtype=torch.uint8)  # a petabyte, of the CPU's own allocator
    assert out_of_memory(real.value)
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(RuntimeError) as other:
        torch.ones(2, 3) @ torch.ones(2, 3)
    assert not out_of_memory(other.value)
