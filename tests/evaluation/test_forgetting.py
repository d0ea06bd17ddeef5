"""Forgetting: the loss is that of transformers, nothing is forgotten where nothing moved, and training costs some."""

from pathlib import Path

import pytest
import torch
from backbones import save_backbone
from helpers import learner_on
from place import make_place
from transformers import AutoModelForCausalLM, AutoTokenizer

from effft.config import make_config
from effft.evaluation import forgetting
from effft.evaluation.forgetting import language_loss
from effft.runs.experiment import Result, run
from effft.runs.session import Session
from effft.strategies.strategy import compose
from effft.tracking.tracker import MemoryTracker

TEXT = (Path(forgetting.__file__).parent / "neutral_text.md").read_text()


@pytest.mark.parametrize(
    ("kind", "strategy"), [("llama", "lora+pbft"), ("opt", "pbft"), ("gpt2", "prompt_tuning+pbft")]
)
def test_the_loss_is_that_of_transformers(tmp_path: Path, kind: str, strategy: str) -> None:
    folder = save_backbone(tmp_path, kind, positions=256)
    learner = learner_on(folder, compose(strategy))
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    rows = [tokenizer(" ".join(part.split()), return_tensors="pt").input_ids for part in TEXT.split("\n\n")]
    with torch.no_grad():
        losses = [model(ids, labels=ids).loss.item() * (ids.shape[1] - 1) for ids in rows]
    expected = sum(losses) / sum(ids.shape[1] - 1 for ids in rows)
    with learner.as_backbone():
        assert language_loss(learner) == pytest.approx(expected, rel=1e-5)


def go(place: Path, model: Path, strategy: str, **values: object) -> Result:
    base = {"task": str(place / "task.yaml"), "model": str(model), "per_label": 8, "epochs": 2, "bootstrap": 0}
    config = make_config({**base, "learning_rate": 1e-2, "strategy": strategy, "forgetting": True, **values})
    return run(config, MemoryTracker(), Session(keep=False))


def test_what_does_not_move_forgets_nothing(tmp_path: Path, shared: Path) -> None:
    place, model = make_place(tmp_path), shared / "models" / "stories260K"
    assert go(place, model, "zero_shot").metrics["forgetting"] == 0
    assert go(place, model, "lora+pbft", interpolation=0).metrics["forgetting"] == 0
    assert go(place, model, "pbft").metrics["forgetting"] > 0.1


@pytest.mark.parametrize(("strategy", "why"), [("lora", "reads no LM head"), ("pbft", "does not know most words")])
def test_a_note_says_why_it_is_not_measured(tmp_path: Path, strategy: str, why: str) -> None:
    found = go(make_place(tmp_path, "llama"), tmp_path / "llama", strategy)
    assert "forgetting" not in found.metrics
    assert any(note.startswith("forgetting is not measured") and why in note for note in found.notes)
