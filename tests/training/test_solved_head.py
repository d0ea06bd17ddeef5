"""A solved head: the optimum of its objective, the penalty that its folds choose, every label answered."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from backbones import save_backbone
from helpers import EXAMPLES, learner_on

from effft.config import make_config
from effft.errors import InputError
from effft.runs.plan import on_part, prepare, prepare_validation
from effft.runs.session import Session
from effft.strategies.learner import Learner
from effft.strategies.scoring import predict
from effft.strategies.strategy import compose
from effft.training.solved_head import STRENGTHS, solve_head


@pytest.fixture(scope="module")
def learner(tmp_path_factory: pytest.TempPathFactory) -> Learner:
    return learner_on(save_backbone(tmp_path_factory.mktemp("llama"), "llama"), compose("probe"))


@pytest.mark.parametrize("weights", [None, torch.tensor([3.0, 0.5])])
def test_the_head_is_the_optimum_for_one_of_the_penalties(learner: Learner, weights: torch.Tensor | None) -> None:
    """The gradient of cross-entropy plus penalty vanishes, in the coordinates where states have variance 1."""
    learner.class_weights = weights
    items = learner.items(EXAMPLES)
    loss = solve_head(learner, items, seed=0)
    learner.class_weights = None
    states = learner.pooled_states(items).double()
    scale = states.var(dim=0, correction=0).mean().sqrt()
    labels = torch.tensor([item.label for item in items])
    sizes = torch.ones(len(items)).double() if weights is None else weights.double()[labels]
    weight = (learner.head.linear.weight.double() * scale).detach().requires_grad_()
    scores = (states - states.mean(dim=0)) / scale @ weight.T
    scores = scores + (learner.head.linear.bias + learner.head.linear.weight @ states.mean(dim=0).float()).double()
    cost = torch.nn.functional.cross_entropy(scores, labels, reduction="none") @ sizes
    assert cost.item() / sizes.sum().item() == pytest.approx(loss, rel=1e-3)
    (gradient,) = torch.autograd.grad(cost, weight)
    # of a difference of two rows w the penalty is w^2 / (2 C), so that each row pulls with 2 w / C
    strength = -(2 * weight * gradient).sum() / (gradient * gradient).sum()
    assert min(abs(np.log10(strength.item()) - np.log10(STRENGTHS))) < 0.05
    torch.testing.assert_close(gradient, -2 * weight / strength, rtol=0.05, atol=1e-3)


def test_equal_seeds_equal_heads_and_states_do_not_matter_where_they_were_kept(learner: Learner) -> None:
    items = learner.items(EXAMPLES)
    heads = []
    for given in (items, items, learner.frozen_features(items)):
        solve_head(learner, given, seed=3)
        heads.append(learner.head.linear.weight.clone())
    assert torch.equal(heads[0], heads[1])
    assert torch.equal(heads[0], heads[2])


@pytest.mark.parametrize("kept", [(0,), (1,), (0, 1)])
def test_a_label_without_items_is_never_the_answer(learner: Learner, kept: tuple[int, ...]) -> None:
    items = [item for item in learner.items(EXAMPLES) if item.label in kept][:3]
    solve_head(learner, items, seed=0)
    answers = predict(learner, items).argmax(dim=1).tolist()
    assert set(answers) <= set(kept)


def test_validation_chooses_the_penalty(learner: Learner) -> None:
    """With the training rows themselves as validation the weakest penalty wins."""
    items = learner.items(EXAMPLES)
    weakest = solve_head(learner, items, 0, items)
    assert weakest <= solve_head(learner, items, 0)
    assert weakest < 0.01


def test_a_head_that_is_solved_has_no_start(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="head_start"):
        compose("probe").with_parameters({"head_start": "probe"})


@pytest.mark.parametrize(
    ("values", "warm"),
    [
        ({"strategy": "vanilla", "per_label": 8}, True),
        ({"strategy": "vanilla", "per_label": 32}, False),
        ({"strategy": "vanilla", "rows": 20}, True),
        ({"strategy": "vanilla", "per_label": 8, "head_start": "random"}, False),
        ({"strategy": "lora", "per_label": 8}, False),
        ({"strategy": "lora", "per_label": 8, "head_start": "probe"}, True),
        ({"strategy": "pbft", "per_label": 8}, False),
    ],
)
def test_full_fine_tuning_on_few_examples_starts_at_a_probe(values: dict[str, object], warm: bool) -> None:
    assert prepare(make_config(values), Session()).starts_at_probe == warm


@pytest.mark.parametrize(("rows", "warm"), [(60, True), (68, False)])
def test_the_start_is_decided_by_all_rows_drawn_also_where_some_are_held_out(rows: int, warm: bool) -> None:
    config, session = make_config({"strategy": "vanilla", "rows": rows, "selection": "validation"}), Session()
    plan = prepare(config, session)
    assert len(plan.draw.train) < 64
    fewer = on_part(plan, replace(plan.draw, train=plan.draw.train[:20]), seed=1)
    fold = prepare_validation(config, session, (0, 4, 0))
    assert [one.starts_at_probe for one in (plan, fewer, fold)] == [warm] * 3
