"""A packed trial is the lone trial: losses, gradient norms, weights, scores; whatever else is in the pack."""

from pathlib import Path

import pytest
import torch
from backbones import save_backbone
from helpers import EXAMPLES
from multi_adapter.trials import Outcome, Trial, alone, member, packed, shared, trials

from effft.models.backbone import can_pack_sequences
from effft.models.forward import attention
from effft.models.lora import save_adapter


def check(found: Outcome, wanted: Outcome, within: float = 1e-8) -> None:
    assert found.losses == pytest.approx(wanted.losses, abs=within, rel=within)
    assert found.norms == pytest.approx(wanted.norms, abs=within, rel=within)
    assert found.weights.keys() == wanted.weights.keys()
    for name, weight in wanted.weights.items():
        torch.testing.assert_close(found.weights[name], weight, atol=within, rtol=within)
    torch.testing.assert_close(found.scores, wanted.scores, atol=1e-6, rtol=1e-6)  # predict gives fp32


SLOW = [
    pytest.param(kind, spec, marks=pytest.mark.slow)
    for kind in ("opt", "gpt2", "llama", "gpt_neox", "qwen3", "bert", "roberta", "modernbert")
    for spec in ("lora", "context_distillation", "bitfit", "bitfit+distill")
    if (kind, spec) != ("gpt2", "context_distillation")
]


@pytest.mark.parametrize("width", [32, attention.NARROW], ids=["padded", "packed"])
@pytest.mark.parametrize(("kind", "spec"), [("gpt2", "context_distillation"), *SLOW])
def test_a_packed_trial_is_the_lone_trial(kind: str, spec: str, width: int, tmp_path: Path) -> None:
    """Both where prompts are padded, and where they are packed."""
    if width >= attention.NARROW and kind not in attention.SUPPORTED_TYPES:
        pytest.skip("prompts of this model type are padded at any width")
    folder = save_backbone(tmp_path, kind, width=width, std=0.2 if width == 32 else 0.05)
    backbone, five = shared(folder, spec), trials(spec)
    assert can_pack_sequences(backbone) == (width == attention.NARROW and kind in attention.SUPPORTED_TYPES)
    for found, trial in zip(packed(backbone, [member(backbone, t) for t in five]), five, strict=True):
        check(found, alone(folder, trial))


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gpt2", "llama", "bert"])
def test_peft_loads_a_packed_trial(kind: str, tmp_path: Path) -> None:
    """The weights that come out of a pack, written in peft's format, give a peft model the scores of the pack."""
    import transformers
    from peft import PeftModel

    folder, trial = save_backbone(tmp_path / "base", kind), trials("context_distillation")[1]
    backbone = shared(folder, "context_distillation")
    one = member(backbone, trial)
    (found, _) = packed(backbone, [one, member(backbone, trials("context_distillation")[0])])
    part = trial.strategy.parameters
    save_adapter(tmp_path / "adapter", found.weights, {"r": part["rank"], "lora_alpha": part["alpha"]})
    language = "AutoModelForMaskedLM" if kind == "bert" else "AutoModelForCausalLM"
    theirs = getattr(transformers, language).from_pretrained(folder, dtype=torch.float64)
    model = PeftModel.from_pretrained(theirs, str(tmp_path / "adapter"), autocast_adapter_dtype=False).eval()
    items = one.learner.items(EXAMPLES)
    batch = one.learner.collate(items)
    with torch.no_grad():
        logits = model(**batch.inputs).logits[torch.arange(len(items)), batch.answers]
    scores = logits.log_softmax(dim=-1)[:, one.learner.label_ids]
    torch.testing.assert_close(scores, found.scores.double(), atol=1e-6, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["lora", "context_distillation"])
def test_bf16_differs_by_rounding(spec: str, tmp_path: Path) -> None:
    """In bf16 both round, in another order: 20 steps apart, losses are as near as bf16 (8 bits) lets them be."""
    folder = save_backbone(tmp_path, "llama", std=0.05)
    backbone, five = shared(folder, spec, torch.bfloat16), [slower(t) for t in trials(spec)]
    for found, trial in zip(packed(backbone, [member(backbone, t) for t in five]), five, strict=True):
        wanted = alone(folder, trial, precision="bf16")
        assert found.losses == pytest.approx(wanted.losses, abs=0.02)
        assert all(weight.dtype == torch.float32 for weight in found.weights.values())


def slower(trial: Trial) -> Trial:
    """A fifth of its learning rate: what bf16 rounds must not grow exponentially."""
    rate = (trial.config.learning_rate or 0.0) / 5
    return Trial(trial.config.model_copy(update={"learning_rate": rate}), trial.strategy)
