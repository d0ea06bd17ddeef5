"""Operations are counted as torch's own counter counts them, attention apart."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from effft.config import RunConfig
from effft.models.backbone import load
from effft.models.flops import count_too, counted
from effft.runs.experiment import execute
from effft.runs.plan import prepare
from effft.runs.session import Session
from effft.tracking.tracker import MemoryTracker
from tests.backbones import save_backbone


@pytest.mark.parametrize("frozen", [False, True])
def test_forwards_and_backwards_as_torch_counts(frozen: bool) -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    model[0].weight.requires_grad_(not frozen)
    model[0].bias.requires_grad_(not frozen)
    states = torch.randn(5, 3, 8)
    with counted(model, None) as ours, FlopCounterMode(display=False) as theirs:
        model(states).sum().backward()
    assert ours.total == theirs.get_total_flops() > 0
    with counted(model) as ours, torch.no_grad():
        model(states)
    assert ours.total == 2 * 15 * (8 * 16 + 16 * 4)
    assert not any(part._forward_hooks for part in model.modules())
    with counted() as ours:
        model(states)
        count_too(model, model[0])
        model(states)
    count_too(model)
    model(states)
    assert ours.total == 2 * 15 * (8 * 16 + 16 * 4)


@pytest.mark.parametrize("kind", ["opt", "gpt2", "llama"])
def test_a_backbone_s_linear_maps(kind: str, tmp_path: Path) -> None:
    model = load(str(save_backbone(tmp_path, kind)), need_lm_head=True).model
    model.requires_grad_(True)
    ids = torch.arange(12).view(2, 6)
    with counted(model) as ours, FlopCounterMode(display=False) as theirs:
        model(input_ids=ids).logits.sum().backward()
    products = ("mm", "addmm")  # attention takes bmm or its own operation
    wanted = sum(n for op, n in theirs.get_flop_counts()["Global"].items() if str(op).split(".")[-1] in products)
    assert ours.total == wanted


@pytest.mark.slow
def test_a_run_says_what_it_computed(tmp_path: Path) -> None:
    def run(strategy: str, epochs: int) -> dict[str, float]:
        config = RunConfig(
            strategy=strategy, task="agreement", per_label=4, epochs=epochs, evaluation_limit=8, bootstrap=0,
            head_start="random" if strategy == "vanilla" else None,
        )  # fmt: skip
        return execute(prepare(config, session), MemoryTracker()).metrics

    session = Session()
    once, twice, icl = run("vanilla", 1), run("vanilla", 2), run("icl", 1)
    assert twice["resources/train_flops"] == 2 * once["resources/train_flops"]
    assert twice["resources/evaluation_flops"] == once["resources/evaluation_flops"]
    assert 0 < once["resources/train_matmul_share"] < 1.5
    assert 0 < icl["resources/evaluation_matmul_share"] < 1.5
