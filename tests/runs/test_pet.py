"""PET: a classifier learns from a model with label words that trained on the same rows, in all patterns."""

from pathlib import Path

import pytest
import torch

from effft.config import make_config
from effft.data.examples import UNLABELLED
from effft.errors import InputError
from effft.runs.experiment import Result, run
from effft.runs.fit import training_items
from effft.runs.learners import build_learner
from effft.runs.plan import on_part, prepare
from effft.runs.session import Session
from effft.tracking.tracker import MemoryTracker


def values_of(place: Path, strategy: str, **values: object) -> dict[str, object]:
    base = {"task": str(place / "task.yaml"), "model": str(place / "llama"), "per_label": 4, "epochs": 2}
    return {**base, "learning_rate": 1e-2, "unlabelled": 20, "strategy": strategy, "bootstrap": 0, **values}


def go(place: Path, strategy: str, **values: object) -> Result:
    return run(make_config(values_of(place, strategy, **values)), MemoryTracker(), Session(keep=False))


def test_the_answers_are_those_of_a_run_of_that_model(place: Path) -> None:
    """The unlabelled texts carry the scores that `lora+pbft --pattern all` gives them after training on the rows."""
    plan = prepare(make_config(values_of(place, "lora+pet")), Session())
    assert plan.expert is not None
    assert (plan.expert.strategy.name, plan.expert.draw.train) == ("lora+pbft", plan.draw.train)
    learner, _ = build_learner(plan, None)
    items = training_items(plan, learner, None)
    rest = [item for item in items if item.label == UNLABELLED]
    assert (len(items) - len(rest), len(rest)) == (8, 20)
    assert not {e.texts for e in plan.unlabelled} & {e.texts for e in (*plan.draw.train, *plan.draw.validation)}
    (place / "rest.csv").write_text("text,label\n" + "".join(f"{e.texts[0]},without\n" for e in plan.unlabelled))
    task = (place / "task.yaml").read_text().replace("test.csv, slices: [length]", "rest.csv")
    (place / "rest.yaml").write_text(task)
    values = values_of(place, "lora+pbft", pattern="all", task=str(place / "rest.yaml"))
    del values["unlabelled"]
    table = run(make_config(values), MemoryTracker(), Session(keep=False)).tables["in_domain"]
    expected = torch.tensor([table["score_without"], table["score_with_dog"]]).T
    assert torch.allclose(torch.tensor([item.teacher for item in rest]), expected, atol=1e-4)


def test_the_label_words_of_the_model_that_answers_can_be_given(place: Path) -> None:
    plan = prepare(make_config(values_of(place, "lora+pet", label_words="old,new")), Session())
    assert plan.expert is not None
    assert plan.expert.strategy.parameters["label_words"] == "old,new"
    with pytest.raises(InputError, match="one word per label is needed"):
        prepare(make_config(values_of(place, "lora+pet", label_words="old")), Session())


def test_a_fold_has_a_model_of_its_own_that_reads_its_rows_alone(place: Path) -> None:
    plan = prepare(make_config(values_of(place, "vanilla+pet")), Session())
    part = on_part(plan, plan.draw.__class__(plan.draw.train[:5], ()), 1)
    assert part.expert is not None
    assert part.expert.draw.train == plan.draw.train[:5]


@pytest.mark.slow
def test_the_answers_are_learned_and_the_same_each_time(place: Path) -> None:
    one, other = (go(place, "vanilla+pet", kl_weight=weight).tables["in_domain"] for weight in (0, 1))
    assert one["score_without"] != other["score_without"]
    assert go(place, "vanilla+pet", kl_weight=1).tables["in_domain"] == other


@pytest.mark.parametrize(
    ("strategy", "values", "sentence"),
    [
        ("pbft+pet", {}, "what learns from it a new classifier; take vanilla[+]pet or lora[+]pet"),
        ("probe+pet", {}, "a new classifier"),
        ("lora+pet", {"per_label": None, "rows": "all"}, "there is no text without a label.* lower --rows"),
        ("lora+pet", {"unlabelled": 0}, "there is no text without a label; raise --unlabelled"),
    ],
)
def test_what_cannot_be_is_a_sentence(place: Path, strategy: str, values: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        prepare(make_config(values_of(place, strategy, **values)), Session())
