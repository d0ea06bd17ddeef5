"""`pattern=all`: the mean over the patterns of a task, and their spread."""

from pathlib import Path

import numpy as np
import pytest
import torch
from backbones import save_backbone
from helpers import EXAMPLES, learner_on
from place import Copying, go, make_place

from effft.errors import InputError
from effft.serving.load import SavedModel
from effft.strategies.scoring import predict
from effft.strategies.strategy import compose


@pytest.mark.parametrize("name", ["zero_shot", "icl", "pattern+classifier"])
@pytest.mark.parametrize("score", ["auto", "pmi"])
def test_scores_are_the_mean_over_patterns(tmp_path: Path, name: str, score: str) -> None:
    folder, strategy = save_backbone(tmp_path, "bert"), compose(name)
    if "label_score" in strategy.parameters:
        strategy = strategy.with_parameters({"label_score": score})
    demos = EXAMPLES[:2] if name == "icl" else ()

    def scores(pattern: str) -> torch.Tensor:
        learner = learner_on(folder, strategy.with_parameters({"pattern": pattern}), demos=demos)
        return predict(learner, learner.items(EXAMPLES[2:]))

    each = torch.stack([scores(pattern) for pattern in ("minimal", "slot", "early")])
    assert not torch.allclose(each[0], each[1])
    torch.testing.assert_close(scores("all"), each.mean(dim=0))


@pytest.mark.parametrize("strategy", ["zero_shot", "icl", "adaptive+pbft", "lora+distill"])
@pytest.mark.slow
def test_a_run_reads_every_pattern_and_tells_their_spread(tmp_path: Path, strategy: str) -> None:
    make_place(tmp_path, "bert")
    tracker = Copying(to=tmp_path / "model")
    shots = {"shots": 4} if strategy == "icl" else {"teacher_shots": 4} if "distill" in strategy else {}
    result = go(tmp_path, tracker, strategy, "bert", pattern="all", **shots)
    table = tracker.tables["patterns"]
    rows = [i for i, split in enumerate(table["split"]) if split == "in_domain"]
    assert [table["pattern"][i] for i in rows] == ["minimal", "question"]
    accuracies = [float(str(table["accuracy"][i])) for i in rows]
    assert result.metrics["in_domain/accuracy_pattern_sd"] == pytest.approx(np.std(accuracies, ddof=1))
    assert "in_domain/mcc_pattern_sd" in tracker.latest
    assert tracker.parameters["pattern"] == "all"
    assert "all patterns" in result.name
    model, predictions = SavedModel.load(tmp_path / "model"), result.tables["in_domain"]
    scores = model.score_texts([(str(text),) for text in predictions["text"]])
    logged = np.array([predictions[f"score_{label}"] for label in model.labels], dtype=float).T
    np.testing.assert_allclose(scores, logged, atol=1e-5)


@pytest.mark.slow
def test_one_epoch_of_training_reads_every_example_in_every_pattern(tmp_path: Path) -> None:
    make_place(tmp_path, "bert")
    first, both = Copying(to=tmp_path / "a"), Copying(to=tmp_path / "b")
    one = go(tmp_path, first, "adaptive+pbft", "bert", log_model=False)
    two = go(tmp_path, both, "adaptive+pbft", "bert", pattern="all", log_model=False)
    assert both.parameters["steps"] == 2 * int(str(first.parameters["steps"]))
    assert two.metrics["resources/train_tokens"] > 2 * one.metrics["resources/train_tokens"]


def test_patterns_that_cannot_be_averaged_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="goes on after its answer slot"):
        learner_on(save_backbone(tmp_path, "llama"), compose("zero_shot").with_parameters({"pattern": "all"}))
    with pytest.raises(InputError, match="training with label_score=pmi reads one pattern"):
        compose("pbft").with_parameters({"pattern": "all", "label_score": "pmi"})
