"""A step cut into micro-batches is the step; memory that runs short changes nothing but the cut."""

import random
from pathlib import Path

import pytest
import torch
from backbones import save_backbone
from helpers import EXAMPLES, learner_on
from hypothesis import given
from hypothesis import strategies as st

from effft.config import RunConfig
from effft.errors import RunError
from effft.models.forward.batching import cheapest_cut
from effft.strategies.batch import Item
from effft.strategies.learner import Learner
from effft.strategies.strategy import compose
from effft.training.loop import private_randomness, train
from effft.training.microbatch import MicroBatches
from effft.training.optimizer import Optimizer

ONE_BATCH, EACH_ALONE = 1 << 20, 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_backbone(tmp_path_factory.mktemp("llama"), "llama")


def items_of(learner: Learner, spec: str) -> list[Item]:
    """Some taught, some unlabelled, as in distillation; all labelled otherwise."""
    items = learner.items(EXAMPLES)
    if "distill" not in spec:
        return items
    taught = [item._replace(teacher=(-1.0 - i, -2.0)) for i, item in enumerate(items[2:])]
    return [*items[:2], *taught[:-1], taught[-1]._replace(label=-1)]


@pytest.mark.parametrize("spec", ["vanilla", "lora", "pbft", "bitfit", "lora+distill", "context_distillation"])
def test_micro_batches_add_up_to_the_padded_batch(folder: Path, spec: str) -> None:
    found = []
    for budget in (ONE_BATCH, EACH_ALONE, 20):
        learner = learner_on(folder, compose(spec), dtype=torch.float64)
        parts = MicroBatches(learner, budget)
        parts.overhead = 0 if budget < ONE_BATCH else 1 << 20
        optimizer = Optimizer(learner, 0.0)
        items = items_of(learner, spec)
        whole = learner.loss(learner.collate(items)).item()
        assert parts.backward(items, optimizer) == pytest.approx(whole, rel=1e-12)
        found.append({n: p.grad.clone() for n, p in learner.trainable_parameters.items() if p.grad is not None})
    for other in found[1:]:
        assert other.keys() == found[0].keys()
        for name, gradient in other.items():
            torch.testing.assert_close(gradient, found[0][name], rtol=1e-10, atol=1e-12)


WEIGHTS = torch.tensor([0.4, 2.5], dtype=torch.float64)


@pytest.mark.parametrize("spec", ["vanilla", "pbft", "lora+distill"])
def test_class_weights_are_those_of_the_whole_step(folder: Path, spec: str) -> None:
    """However the step is cut: torch's weighted mean over all its labelled examples."""
    found = []
    for budget in (ONE_BATCH, EACH_ALONE):
        learner = learner_on(folder, compose(spec), dtype=torch.float64)
        learner.class_weights = WEIGHTS
        parts, items = MicroBatches(learner, budget), items_of(learner, spec)
        parts.overhead = 0 if budget < ONE_BATCH else 1 << 20
        loss = parts.backward(items, Optimizer(learner, 0.0))
        found.append((loss, [p.grad.clone() for p in learner.trainable_parameters.values() if p.grad is not None]))
        if "distill" not in spec:
            batch = learner.collate(items)
            wanted = torch.nn.CrossEntropyLoss(weight=WEIGHTS)(learner.scores(batch), batch.labels)
            assert loss == pytest.approx(wanted.item(), rel=1e-12)
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-12)
    for one, other in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def losses(folder: Path, room: int) -> tuple[list[float], list[int]]:
    """Training where a batch of more than `room` padded tokens does not fit into memory."""
    learner = learner_on(folder, compose("vanilla"), dtype=torch.float64)

    def run_out_of_memory(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if inputs[0].numel() > room:
            raise torch.OutOfMemoryError("CUDA out of memory")

    learner.backbone.model.get_input_embeddings().register_forward_pre_hook(run_out_of_memory)
    config = RunConfig(steps=3, batch_size=6)
    with private_randomness(0):
        steps = list(train(learner, learner.items(EXAMPLES), config, 1e-3, random.Random(0)))
    return [s.loss for s in steps], [s.budget for s in steps]


@pytest.mark.slow
def test_short_memory_halves_the_budget_and_changes_no_update(folder: Path) -> None:
    full, at_ease = losses(folder, 1 << 20)
    tight, budgets = losses(folder, 24)
    assert tight == pytest.approx(full, rel=1e-10)
    assert max(budgets) < min(at_ease)


@pytest.mark.slow
def test_memory_too_short_for_one_example_is_a_sentence(folder: Path) -> None:
    with pytest.raises(RunError, match="even for one example of 12 tokens"):
        losses(folder, 4)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=12), st.integers(1, 300), st.integers(0, 80))
def test_the_cut_is_cheapest(lengths: list[int], budget: int, overhead: int) -> None:
    lengths.sort()
    runs = cheapest_cut(lengths, budget, overhead)
    assert [length for run in runs for length in lengths[run]] == lengths
    cost = sum(len(lengths[run]) * lengths[run][-1] + overhead for run in runs)
    for mask in range(1 << (len(lengths) - 1)):
        ends = [i + 1 for i in range(len(lengths) - 1) if mask >> i & 1] + [len(lengths)]
        other = [lengths[a:b] for a, b in zip([0, *ends], ends, strict=False)]
        if all(len(run) == 1 or len(run) * run[-1] <= budget for run in other):
            assert cost <= sum(len(run) * run[-1] + overhead for run in other)


def test_bf16_copies_follow_fp32_masters(folder: Path) -> None:
    """Updates smaller than a bf16 step add up in the master; frozen parameters are bf16 and do not move."""
    from effft.models.precision import master_of, store_in_bf16

    learner = learner_on(folder, compose("adaptive").with_parameters({"layers": 1}))
    exact = {n: p.detach().clone() for n, p in learner.trainable_parameters.items()}
    learner.remainders = store_in_bf16(learner.backbone.model)
    frozen = {n: p.clone() for n, p in learner.backbone.model.named_parameters() if not p.requires_grad}
    moving = learner.trainable_parameters
    for name, parameter in moving.items():
        if not name.startswith("head."):
            assert torch.equal(master_of(parameter.data, learner.remainders[id(parameter)]), exact[name])
    config = RunConfig(steps=20, batch_size=6, schedule="constant", warmup=0, clip_norm=0)
    steps = list(train(learner, learner.items(EXAMPLES), config, 1e-5, random.Random(0)))
    assert steps[-1].loss < steps[0].loss
    for name, parameter in moving.items():
        if not name.startswith("head."):
            master = master_of(parameter.data, learner.remainders[id(parameter)])
            assert master.dtype == torch.float32
            assert not torch.equal(master, exact[name])
            assert torch.equal(parameter, master.to(torch.bfloat16))
    assert all(
        torch.equal(p, frozen[n]) and p.dtype == torch.bfloat16
        for n, p in learner.backbone.model.named_parameters()
        if n in frozen
    )
