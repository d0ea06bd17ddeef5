"""Scores that are no numbers end with a sentence, never with label 0."""

from pathlib import Path

import pytest
import torch
from backbones import save_backbone
from helpers import EXAMPLES, learner_on

from effft.errors import RunError
from effft.strategies.scoring import predict
from effft.strategies.strategy import compose


@pytest.mark.parametrize("strategy", ["zero_shot", "icl", "probe", "lora", "pbft"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_that_are_not_finite_are_no_answers(tmp_path: Path, strategy: str, value: float) -> None:
    learner = learner_on(
        save_backbone(tmp_path, "llama"), compose(strategy), demos=EXAMPLES[:2] if strategy == "icl" else ()
    )
    with torch.no_grad():
        next(learner.backbone.layout.blocks[-1].parameters()).fill_(value)
    for features in (None, learner.frozen_features):
        with pytest.raises(RunError, match="of 6 prompts are not finite"):
            predict(learner, learner.items(EXAMPLES), frozen_features=features)
