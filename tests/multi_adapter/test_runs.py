"""Plans side by side: one whose answers are no numbers has failed, and the others go on."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from place import make_place

from effft.config import make_config
from effft.data.examples import Example
from effft.data.few_shot import FewShotDraw
from effft.errors import RunError
from effft.multi_adapter.runs import MultiAdapterRuns, shared_backbone
from effft.runs.plan import prepare_validation
from effft.runs.session import Session


@pytest.mark.parametrize("poisoned", [False, True])
def test_scores_that_are_no_numbers_are_a_failure(tmp_path: Path, poisoned: bool) -> None:
    place = make_place(tmp_path, "llama")
    values = {"task": str(place / "task.yaml"), "model": str(place / "llama"), "per_label": 2, "steps": 2}
    session = Session()
    plan = prepare_validation(make_config({**values, "strategy": "lora", "precision": "fp32"}), session)
    backbone = shared_backbone(plan)
    if poisoned:  # no training text holds the word, so that the losses are numbers
        (row,) = backbone.tokenizer("good", add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            backbone.model.get_input_embeddings().weight[row] = float("nan")
        draw = FewShotDraw(plan.few_shot.train, (Example(("good dog",), 1, 0),))
        plan = replace(plan, few_shot=draw)
    runs = MultiAdapterRuns(backbone, width=2)
    runs.enter("one", plan)
    results = [result for _ in range(2) for result in runs.advance()]
    assert [result.key for result in results] == ["one"]
    assert isinstance(results[0].failure, RunError) == poisoned
    assert (results[0].value == results[0].value) != poisoned
