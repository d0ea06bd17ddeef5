"""Runs of every type of peft's adapters on four architectures: saved, loaded, read by peft, merged; or refused."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from peft import PeftModel
from place import Copying, go

from effft.data.examples import Example
from effft.errors import InputError, RunError
from effft.serving.export import export
from effft.serving.load import SavedModel
from effft.strategies.peft_types import TYPES

KINDS = ("llama", "opt", "bert", "gpt2")

OPTIONS = {"trainable_tokens": {"token_indices": [5, 6, 7, 9]}}


def check_type(place: Path, tmp_path: Path, kind: str, model: str, head: str, precision: str) -> None:
    saved, share = tmp_path / "saved", 1e-5 if precision == "fp32" else 0.05
    values = {"steps": 4, "learning_rate": 0.02, "bootstrap": 0, "peft_options": OPTIONS.get(kind), "peft_type": kind}
    result = go(place, Copying(to=saved), f"peft{head}", model, precision=precision, **values)
    table = result.tables["in_domain"]
    logged = np.array([table["score_without"], table["score_with_dog"]]).T
    mine, rows = SavedModel.load(saved, "cpu"), [(str(text),) for text in table["text"]]
    np.testing.assert_allclose(mine.scores(rows), logged, atol=1e-5)
    learner, adapter = mine.learner, mine.learner.backbone.adapter
    batch = learner.collate(learner.items([Example(row, 0, 0) for row in rows[:4]]))
    kind_of_model = {"": "AutoModel", "+pbft": "AutoModelForMaskedLM" if model == "bert" else "AutoModelForCausalLM"}
    base = getattr(transformers, kind_of_model[head]).from_pretrained(saved / "base")
    theirs = PeftModel.from_pretrained(base, str(saved / "adapter")).eval()
    with torch.no_grad():
        found = theirs(**batch.inputs)
        if head:
            expected = learner.backbone.answer_logits(batch.inputs, batch.answers)
            given = found.logits[torch.arange(len(batch.labels)), batch.answers + adapter.returned]
        else:
            mask = batch.inputs["attention_mask"].bool()
            expected = learner.backbone.hidden(batch.inputs)[mask]
            given = found.last_hidden_state[:, adapter.returned :][mask]
    assert (given - expected).abs().max() <= share * expected.abs().max()
    check_merge(saved, tmp_path / "merged", kind, mine, rows)


def check_merge(saved: Path, to: Path, kind: str, mine: SavedModel, rows: list[tuple[str]]) -> None:
    before, facts = mine.scores(rows), TYPES[kind]
    without_biases = kind == "beft" and mine.learner.backbone.model.config.model_type == "llama"
    if facts.virtual or not facts.merges or without_biases:
        with pytest.raises(RunError, match=r"cannot be merged here: (?!the model would)"):
            export(saved, to, merge=True)
        return
    export(saved, to, merge=True)
    if mine.record.precision == "fp32":  # in bf16 the weights are rounded
        mine.learner.backbone.adapter.merge()
        np.testing.assert_allclose(mine.scores(rows), before, atol=1e-4, rtol=1e-4)


CELLS = list(product(["llama", "opt", "bert", "gpt2"], ["", "+pbft"], ["fp32", "bf16"]))
CASES = [
    pytest.param(kind, *cell, marks=() if 3 * place == number % 48 else pytest.mark.everywhere)
    for number, kind in enumerate(TYPES)
    for place, cell in enumerate(CELLS)
]
"""Every type in every cell; those without the mark are every third type in one cell, another for each."""


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "model", "head", "precision"), CASES)
def test_every_type_everywhere(place: Path, tmp_path: Path, kind: str, model: str, head: str, precision: str) -> None:
    if model == "gpt2" and not TYPES[kind].conv1d:
        with pytest.raises(InputError, match="of the class Conv1D, on which this type does not work"):
            check_type(place, tmp_path, kind, model, head, precision)
        return
    if TYPES[kind].bf16 == "never" and precision == "bf16":
        with pytest.raises(InputError, match="does not work in bf16; give --precision fp32"):
            check_type(place, tmp_path, kind, model, head, precision)
        return
    check_type(place, tmp_path, kind, model, head, precision)
