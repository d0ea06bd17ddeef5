"""Soups, the way from start to end, ensembles: at their ends they are the plain run, bit for bit."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from effft.config import make_config
from effft.errors import InputError
from effft.progress import silent
from effft.runs.experiment import Result, run
from effft.runs.fit import adapt, training_items
from effft.runs.learners import build_learner
from effft.runs.plan import prepare
from effft.runs.session import Session
from effft.strategies.scoring import predict
from effft.strategies.weights import between, mean, set_weights, weights_of
from effft.tracking.tracker import MemoryTracker


def go(place: Path, strategy: str, tracker: MemoryTracker | None = None, **values: object) -> Result:
    given = {"task": str(place / "task.yaml"), "model": str(place / "llama"), "per_label": 8, "epochs": 2}
    config = make_config({**given, "learning_rate": 1e-2, "bootstrap": 0, "strategy": strategy, **values})
    return run(config, tracker or MemoryTracker(), Session(keep=False))


def answers(result: Result) -> list[object]:
    """The scores of the in-domain and OOD rows."""
    return [table[name] for table in result.tables.values() for name in table if name.startswith("score_")]


@pytest.mark.parametrize(
    ("strategy", "precision", "selection"),
    [("vanilla", "bf16", "last"), ("lora+pbft", "fp32", "last"), ("setfit", "fp32", "last"),
     ("bitfit", "bf16", "validation")],
)  # fmt: skip
@pytest.mark.slow
def test_one_of_one_at_the_end_is_the_plain_run(place: Path, strategy: str, precision: str, selection: str) -> None:
    usual = {"precision": precision, "selection": selection, "steps": 3 if strategy == "setfit" else 0}
    one_of_one = go(place, strategy, **usual, interpolation=1, soup=1, ensemble=1)
    assert answers(one_of_one) == answers(go(place, strategy, **usual))


@pytest.mark.parametrize("strategy", ["lora", "pbft"])
def test_without_a_step_on_the_way_it_is_untrained(place: Path, strategy: str) -> None:
    start = go(place, strategy, interpolation=0)
    plan = prepare(start.config, Session(keep=False))
    learner, _ = build_learner(plan, None)
    scores = predict(learner, learner.items(plan.evaluated["in_domain"].examples)).double()
    known = start.tables["in_domain"]
    assert torch.equal(scores, torch.tensor([known["score_without"], known["score_with_dog"]]).double().T)
    assert answers(start) != answers(go(place, strategy))


@pytest.mark.slow
def test_folds_choose_a_share_that_gives_the_same_run(place: Path) -> None:
    tracker = MemoryTracker()
    chosen = go(place, "vanilla", tracker, interpolation="folds", soup=2)
    table = tracker.tables["interpolation"]
    assert table["share"] == [0, 0.25, 0.5, 0.75, 1]
    values = table["cross_validated/mcc"]
    share = table["share"][values.index(max(values))]
    assert answers(chosen) == answers(go(place, "vanilla", interpolation=share, soup=2))


def test_an_ensemble_answers_with_the_mean_of_its_members(place: Path) -> None:
    plan = prepare(go(place, "lora", ensemble=2).config, Session())
    learner, _ = build_learner(plan, None)
    items = learner.items(plan.draw.train)
    one, plain = weights_of(learner), predict(learner, items)
    learner.members = [one, one]
    assert torch.equal(predict(learner, items), plain)
    other = {name: values + 0.1 for name, values in one.items()}
    learner.members = [one, other]
    both = predict(learner, items)
    learner.members = ()
    set_weights(learner, other)
    assert torch.allclose(both, (plain + predict(learner, items)) / 2, atol=1e-6)


def test_each_member_of_an_ensemble_learns_every_label_and_every_pattern(place: Path) -> None:
    given = {"task": str(place / "task.yaml"), "model": str(place / "llama"), "ensemble": 2, "learning_rate": 0.1}
    plan = prepare(make_config({**given, "strategy": "probe", "head_solver": "gradient", "rows": 16}), Session())
    learner, _ = build_learner(plan, None)
    items = training_items(plan, learner, None)
    adapt(plan, learner, items, MemoryTracker(), silent, None)
    for member in learner.members:
        learner.members = [member]
        assert set(predict(learner, items).argmax(dim=-1).tolist()) == {0, 1}
    plan = prepare(make_config({**given, "strategy": "pbft", "pattern": "all", "per_label": 2, "epochs": 1}), Session())
    learner, _ = build_learner(plan, None)
    start, word = weights_of(learner), learner.encoder.tokenizer.convert_tokens_to_ids("Question")
    adapt(plan, learner, training_items(plan, learner, None), MemoryTracker(), silent, None)
    (words,) = [name for name in start if name.endswith("embed_tokens.weight")]
    assert not any(torch.equal(member[words][word], start[words][word]) for member in learner.members)


@pytest.mark.parametrize("values", [{"ensemble": 2}, {"soup": 2}], ids=str)
def test_two_differ_from_one(place: Path, values: dict[str, object]) -> None:
    """Members of an ensemble read other parts of the examples, trainings of a soup another order."""
    assert answers(go(place, "vanilla", **values)) != answers(go(place, "vanilla"))


def test_an_ensemble_is_not_saved(place: Path) -> None:
    with pytest.raises(InputError, match="ensemble=2: several models are not saved as one"):
        go(place, "lora", ensemble=2, log_model=True)


@pytest.mark.parametrize("value", ["1.5", "all", "nan"])
def test_a_share_is_from_0_to_1(value: str) -> None:
    with pytest.raises(InputError, match=f"interpolation={value}: must be a share from 0 to 1, or folds"):
        make_config({"interpolation": value})


@pytest.mark.parametrize(("strategy", "values"), [("vanilla", {"interpolation": "folds"}), ("vanilla+pet", {})])
def test_every_training_of_a_run_counts(place: Path, strategy: str, values: dict[str, object]) -> None:
    """Those of the folds that choose how far to go, and that of the model that answers texts, as their seconds do."""
    first = go(place, "vanilla").metrics if strategy == "vanilla" else go(place, "pbft", pattern="all").metrics
    whole = go(place, strategy, **values, **({"unlabelled": 4} if strategy != "vanilla" else {})).metrics
    for name in ("resources/train_tokens", "resources/train_flops"):
        assert whole[name] > (4 if strategy == "vanilla" else 1) * first[name]


@given(st.lists(st.floats(-(2**100), 2**100, width=32), min_size=2, max_size=6), st.integers(1, 4))
def test_ends_are_exact_and_the_mean_of_equals_is_equal(values: list[float], count: int) -> None:
    start, end = {"p": torch.tensor(values)}, {"p": torch.tensor(values[::-1])}
    assert torch.equal(between(start, end, 0)["p"], start["p"])
    assert torch.equal(between(start, end, 1)["p"], end["p"])
    assert torch.allclose(mean([start] * count)["p"], start["p"])
