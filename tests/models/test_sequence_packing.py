"""Prompts packed into one row are the padded batch: the same scores, the same gradients."""

from functools import partial
from pathlib import Path
from typing import Any

import backbones
import pytest
import torch
from backbones import save_backbone
from helpers import EXAMPLES, learner_on
from hypothesis import given
from hypothesis import strategies as st

from effft.models.backbone import can_pack_sequences
from effft.models.forward import last_block as answering
from effft.models.forward.attention import NARROW
from effft.models.forward.batching import even_cut
from effft.models.forward.sequence_packing import ROUND, PackedSequences
from effft.strategies.learner import Learner
from effft.strategies.scoring import predict
from effft.strategies.strategy import compose

GROUPED = {**backbones.COMMON, "num_key_value_heads": 2, "intermediate_size": 48}
MORE = {
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", GROUPED),
    "mistral": ("MistralConfig", "MistralForCausalLM", GROUPED | {"sliding_window": None}),
}
DECODERS = ("opt", "gpt2", "llama", "gpt_neox", "qwen2", "qwen3", "mistral")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    with pytest.MonkeyPatch.context() as patch:
        for kind, options in MORE.items():
            patch.setitem(backbones.CONFIGS, kind, options)
        kinds = (*DECODERS, "bert")
        return {kind: save_backbone(tmp_path_factory.mktemp(kind), kind, std=0.05, width=NARROW) for kind in kinds}


def exact_norms(learner: Learner) -> Learner:
    """Torch's RMSNorm in place of ours."""
    for module in learner.backbone.model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = partial(_rms_norm, module)
    return learner


def _rms_norm(module: Any, states: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.rms_norm(states, module.weight.shape, module.weight, module.variance_epsilon)


def passed(learner: Learner, packs: bool) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Loss and gradients of one batch."""
    assert learner.packs_sequences
    learner.packs_sequences = packs
    batch = learner.collate(learner.frozen_features(learner.items(EXAMPLES)))
    assert (batch.packing is not None) == packs
    loss = learner.loss(batch)
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach(), {n: p.grad for n, p in learner.trainable_parameters.items() if p.grad is not None}


@pytest.mark.parametrize("spec", ["vanilla", "pbft", "lora+pbft", "bitfit", "adaptive", "probe"])
@pytest.mark.parametrize("kind", [*DECODERS, "bert"])
def test_close_prompts_are_the_padded_batch(kind: str, spec: str, folders: dict[str, Path]) -> None:
    if kind == "qwen2" and "pbft" in spec:
        pytest.skip("transformers gives this type a tokenizer of its own, which has no label words here")
    strategy = compose(spec)
    if spec == "adaptive":
        strategy = strategy.with_parameters({"layers": 1})
    padded, expected = passed(exact_norms(learner_on(folders[kind], strategy, dtype=torch.float64)), packs=False)
    loss, found = passed(learner_on(folders[kind], strategy, dtype=torch.float64), packs=True)
    torch.testing.assert_close(loss, padded, rtol=1e-12, atol=0)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-10, atol=1e-12, msg=name)
    assert expected


@pytest.mark.parametrize("spec", ["pbft", "distill+lora", "adaptive+pbft"])
@pytest.mark.parametrize("kind", [*DECODERS, "bert"])
def test_label_words_alone_give_the_same_loss(kind: str, spec: str, folders: dict[str, Path]) -> None:
    """And the same gradients as the whole vocabulary; so do gradients of the rows that are there, kept to them."""
    if kind == "qwen2":
        pytest.skip("transformers gives this type a tokenizer of its own, which has no label words here")
    found = []
    for alone, rows in ((True, True), (True, False), (False, False)):
        learner = learner_on(folders[kind], compose(spec), dtype=torch.float64)
        assert learner.can_project_label_words
        learner.can_project_label_words, learner.backbone.model.get_input_embeddings().sparse = alone, rows
        items = [item._replace(teacher=(-1.0, -0.1 * i)) for i, item in enumerate(learner.items(EXAMPLES), start=1)]
        loss = learner.loss(learner.collate(items if "distill" in spec else learner.frozen_features(items)))
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = {n: p.grad for n, p in learner.trainable_parameters.items() if p.grad is not None}
        assert any(g.is_sparse for g in gradients.values()) == (rows and spec == "pbft")
        found.append((loss.detach(), {n: g.to_dense() for n, g in gradients.items()}))
        assert "forward" not in vars(learner.backbone.model.get_output_embeddings())
    *few, (whole, expected) = found
    for loss, gradients in few:
        torch.testing.assert_close(loss, whole, rtol=1e-12, atol=0)
        for name, gradient in expected.items():
            torch.testing.assert_close(gradients[name], gradient, rtol=1e-10, atol=1e-12, msg=name)
    assert any(g.abs().max() > 0 for g in expected.values())


@pytest.mark.parametrize("kind", ["opt", "bert"])
def test_the_scores_are_those_of_each_prompt_alone(kind: str, folders: dict[str, Path]) -> None:
    learner = learner_on(folders[kind], compose("pbft"), dtype=torch.float64)
    items = learner.items(EXAMPLES)
    alone = torch.cat([learner.scores(learner.collate([item])) for item in items]).detach()
    torch.testing.assert_close(predict(learner, items, budget=1 << 20), alone.float())


@pytest.mark.parametrize("spec", ["vanilla", "icl"])
def test_the_last_block_makes_the_answers_alone(spec: str, folders: dict[str, Path]) -> None:
    strategy = compose(spec)
    if "shots" in strategy.parameters:
        strategy = strategy.with_parameters({"shots": 4})
    learner = learner_on(folders["opt"], strategy, demos=EXAMPLES[:4] if spec == "icl" else ())
    *lower, last = learner.backbone.layout.blocks
    rows: dict[str, list[int]] = {"lower": [], "last": []}
    for name, block in (("lower", lower[-1]), ("last", last)):
        block.fc2.register_forward_hook(lambda _m, _a, out, name=name: rows[name].append(len(out)))
    items = learner.items(EXAMPLES)
    predict(learner, items)
    tokens = sum(item.length for item in items)
    *starts, read = rows["lower"]
    assert rows["last"] == [*starts, len(items) + -len(items) % answering.ROUND]
    assert len(starts) == (spec == "icl")
    assert read > rows["last"][-1]
    assert spec == "icl" or read == tokens + -tokens % ROUND
    assert "forward" not in vars(last)


def test_narrow_models_and_windows_are_padded(folders: dict[str, Path], tmp_path: Path) -> None:
    assert not learner_on(save_backbone(tmp_path, "llama"), compose("vanilla")).packs_sequences
    learner = learner_on(folders["mistral"], compose("vanilla"))
    assert can_pack_sequences(learner.backbone)
    learner.backbone.model.config.sliding_window = 4
    assert not can_pack_sequences(learner.backbone)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_what_is_spread_comes_back(lengths: list[int]) -> None:
    packing = PackedSequences(lengths, torch.device("cpu"))
    assert packing.tokens - sum(lengths) == packing.filler < ROUND
    assert packing.tokens % ROUND == 0
    states = torch.randn(1, 2, packing.tokens, 3, requires_grad=True)
    groups = packing.to_groups(states)
    assert sum(len(group.members) for group in packing.groups) == len(lengths) + (packing.filler > 0)
    back = packing.from_groups([group.transpose(1, 2) for group in groups])
    assert torch.equal(back, states.transpose(1, 2))
    weights = torch.randn_like(back)
    (back * weights).sum().backward()
    assert states.grad is not None
    assert torch.equal(states.grad, weights.transpose(1, 2))


@given(st.lists(st.integers(1, 60), min_size=1, max_size=30), st.integers(1, 300))
def test_runs_are_within_the_budget_and_even(lengths: list[int], budget: int) -> None:
    runs = even_cut(lengths, budget)
    assert [n for run in runs for n in lengths[run]] == lengths
    sizes = [sum(lengths[run]) for run in runs]
    assert all(size <= budget or run.stop - run.start == 1 for size, run in zip(sizes, runs, strict=True))
    if sum(lengths) <= budget:
        assert len(runs) == 1
