"""A packed trial is the lone trial: losses, gradient norms, weights, scores; whatever else is in the pack."""

from pathlib import Path

import pytest
import torch
from backbones import save_backbone
from packed.material import Outcome, Trial, alone, member, packed, shared, trials


def check(found: Outcome, wanted: Outcome, within: float = 1e-8) -> None:
    assert found.losses == pytest.approx(wanted.losses, abs=within, rel=within)
    assert found.norms == pytest.approx(wanted.norms, abs=within, rel=within)
    assert found.weights.keys() == wanted.weights.keys()
    for name, weight in wanted.weights.items():
        torch.testing.assert_close(found.weights[name], weight, atol=within, rtol=within)
    torch.testing.assert_close(found.scores, wanted.scores, atol=1e-6, rtol=1e-6)  # predict gives fp32


@pytest.mark.parametrize("spec", ["lora", "context_distillation"])
@pytest.mark.parametrize("kind", ["opt", "gpt2", "llama"])
def test_a_packed_trial_is_the_lone_trial(kind: str, spec: str, tmp_path: Path) -> None:
    folder = save_backbone(tmp_path, kind)
    backbone, five = shared(folder, spec), trials(spec)
    for found, trial in zip(packed(backbone, [member(backbone, t) for t in five]), five, strict=True):
        check(found, alone(folder, trial))


def test_who_else_is_in_the_pack_and_how_it_is_cut_changes_nothing(tmp_path: Path) -> None:
    """Two places for five trials of different length: they wait, enter and leave; tiny passes; a pack of one."""
    folder = save_backbone(tmp_path, "gpt2")
    backbone = shared(folder, "lora")
    five = [
        Trial(t.config.model_copy(update={"steps": steps}), t.strategy)
        for t, steps in zip(trials("lora"), (3, 20, 7, 1, 12), strict=True)
    ]
    wanted = packed(backbone, [member(backbone, t) for t in five])
    for width, budget in ((2, 0), (3, 8), (1, 0)):
        for found, one in zip(
            packed(backbone, [member(backbone, t) for t in five], width, budget), wanted, strict=True
        ):
            check(found, one, 1e-10)
    check(wanted[1], alone(folder, five[1]))
