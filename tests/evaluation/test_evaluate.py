"""The table of a split: a row per example, a column for every text, whatever the fields are called."""

from pathlib import Path

import numpy as np
import pytest
import torch
from backbones import save_backbone
from helpers import EXAMPLES, small_task

from effft.data.examples import Example
from effft.evaluation.cross_validation import evaluate_out_of_fold
from effft.evaluation.evaluate import evaluate
from effft.evaluation.metrics import probability_metrics, softmax
from effft.models.backbone import load
from effft.strategies.learner import Learner
from effft.strategies.prompting import PromptEncoder
from effft.strategies.strategy import compose


def test_a_field_never_hides_a_column(tmp_path: Path) -> None:
    backbone, strategy = load(str(save_backbone(tmp_path, "llama"))), compose("probe")
    task = small_task(fields=["row", "text_row", "score_not"], patterns={})
    examples = [type(e)((e.texts[0], "the cat", "dogs"), e.label, e.index) for e in EXAMPLES]
    learner = Learner(strategy, task, backbone, PromptEncoder(strategy, task, backbone, 64), torch.Generator())
    table = evaluate(learner, "in_domain", examples, "accuracy", resamples=0).table
    texts = list(table)[:4] + [column for column in table if column.startswith("score_")]
    assert texts == ["row", "text_row", "text_text_row", "text_score_not", "score_not", "score_are"]
    assert table["row"] == [e.index for e in EXAMPLES]
    assert table["text_row"] == [e.texts[0] for e in EXAMPLES]


def test_out_of_fold_probabilities_are_worth_what_one_model_gives() -> None:
    """Not what the average of the repeats gives, as accuracy is of one model too."""
    truth, scores = np.array([e.label for e in EXAMPLES]), np.random.default_rng(0).normal(size=(3, len(EXAMPLES), 2))
    found = evaluate_out_of_fold(small_task(), EXAMPLES, scores, 0).metrics
    worth = [probability_metrics(truth, softmax(repeat)) for repeat in scores]
    for name in worth[0]:
        assert found[f"cross_validated/{name}"] == pytest.approx(np.mean([one[name] for one in worth])), name


@pytest.mark.parametrize(("slices", "worst"), [(["topic"], 0.25), ([], 0.75)])
def test_the_worst_slice_out_of_fold_is_of_the_slices_of_the_training_rows(slices: list[str], worst: float) -> None:
    """Of two repeats the mean: the rows of topic a are wrong in one, and half of them in the other."""
    task = small_task(train={"file": "rows.csv", "slices": slices})
    examples = [Example((f"text {n}",), n % 2, n, (("topic", "a" if n < 4 else "b"),)) for n in range(12)]
    truth, wrong = np.array([e.label for e in examples]), np.zeros((2, 12), dtype=int)
    wrong[0, :4] = wrong[1, :2] = 1
    scores = np.eye(2)[truth ^ wrong]
    found = evaluate_out_of_fold(task, examples, scores, 0).metrics
    assert found["cross_validated/worst_slice_accuracy"] == pytest.approx(worst)
