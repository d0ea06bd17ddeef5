"""A result at chance says so with its likely cause; what a set lacks is said."""

from pathlib import Path

import pytest
from backbones import save_backbone
from helpers import EXAMPLES, learner_on

from effft.config import make_config
from effft.evaluation.remarks import chance_note, missing_labels_note
from effft.runs.experiment import execute
from effft.runs.plan import prepare
from effft.runs.session import Session
from effft.strategies.strategy import compose
from effft.tracking.tracker import MemoryTracker

TASK = """
name: films
fields: [text]
labels: [bad, good, unused]
metric: macro_f1
train: train.csv
in_domain: test.csv
"""


def test_kind_11_a_model_that_cannot_read_says_so_before_training(tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text(TASK)
    texts = [
        f"This {name} was rather {word}" for name in ("meal", "film", "book", "song") for word in ("dull", "superb")
    ]
    lines = [f"{text},{('bad', 'good')[number % 2]}" for number, text in enumerate(texts)]
    lines += [f"Nobody knows number {number},unused" for number in range(4)]
    (tmp_path / "train.csv").write_text("\n".join(["text,label", *lines]))
    (tmp_path / "test.csv").write_text("\n".join(["text,label", *(line.replace("This", "That") for line in lines[:8])]))
    values = {"strategy": "probe", "task": str(tmp_path / "task.yaml"), "per_label": "2", "epochs": "1"}
    plan = prepare(make_config(values), Session(keep=False))
    assert any("tiny-lm does not know" in note for note in plan.notes)
    notes = execute(plan, MemoryTracker()).notes
    assert any("in_domain macro_f1 is at chance. A likely cause: the model does not know" in note for note in notes)
    assert "in_domain has no example of 'unused'; its means over labels are over the others." in notes


@pytest.mark.parametrize(
    ("accuracy", "low", "high", "cause", "changes"),
    [
        (0.1, 0.05, 0.2, "swapped", {}),
        (0.1, 0.05, 0.2, "too small", {"balanced_accuracy_high": 0.55}),  # an unbalanced set, the rare label always
        (0.1, 0.05, 0.2, "too small", {"labels": 1}),  # a set of one label
        (0.0, 0.0, 0.0, "swapped", {"examples": 8}),
        (0.0, 0.0, 0.0, "too small", {"examples": 5}),  # 1 in 32 by luck
        (0.5, 0.4, 0.6, "too small", {}),
        (0.9, 0.8, 1.0, None, {}),
    ],
)
def test_the_cause_follows_the_numbers(
    tmp_path: Path, accuracy: float, low: float, high: float, cause: str | None, changes: dict[str, float]
) -> None:
    learner = learner_on(save_backbone(tmp_path, "llama"), compose("probe"))
    metrics = {"accuracy": accuracy, "accuracy_low": low, "accuracy_high": high}
    metrics |= {"majority": 0.5, "chance": 0.5, "labels": 2, "examples": 60, "balanced_accuracy_high": high} | changes
    prompts = [item.prompt for item in learner.items(EXAMPLES)]
    notes = chance_note(learner, "in_domain", "accuracy", metrics, prompts)
    without = {key: value for key, value in metrics.items() if not key.endswith(("_low", "_high"))}
    assert "swapped" not in "".join(chance_note(learner, "in_domain", "accuracy", without, prompts))
    assert len(notes) == (cause is not None)
    assert all(cause in note for note in notes)


def test_only_some_of_many_missing_labels_are_named() -> None:
    (note,) = missing_labels_note("ood/far", [f"label{i}" for i in range(20)], {0})
    assert note.count("'") == 10
    assert "and 14 more" in note
    assert missing_labels_note("ood/far", ["a", "b"], {0, 1}) == []
