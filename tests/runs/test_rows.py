"""All rows of a file without a test file: what is drawn, what is estimated, what is kept and said."""

import csv
import random
import re
from pathlib import Path

import numpy as np
import pytest
from backbones import WORDS, save_backbone
from sklearn.metrics import accuracy_score, recall_score

from effft.cli.output import summary_lines
from effft.config import make_config
from effft.errors import InputError
from effft.runs.experiment import Result, execute, run
from effft.runs.plan import prepare
from effft.runs.session import Session
from effft.serving.load import SavedModel
from effft.tracking.tracker import MemoryTracker

TASK = """
name: own
fields: [text]
labels: [rare, common]
label_words: {rare: " No", common: " Yes"}
patterns: {minimal: "{text} ?"}
train: rows.csv
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 rows, 56 of one label and 8 of the other, and no test file."""
    folder, rng = tmp_path_factory.mktemp("own"), random.Random(0)
    texts = list({" ".join(rng.choices(WORDS[4:14], k=4)): None for _ in range(200)})[:64]
    with (folder / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [("text", "label"), *((t, "rare" if i % 8 == 0 else "common") for i, t in enumerate(texts))]
        )
    (folder / "task.yaml").write_text(TASK)
    (folder / "ood.yaml").write_text(TASK + "ood: {same: rows.csv}\n")
    save_backbone(folder / "bert", "bert")
    save_backbone(folder / "llama", "llama")
    return folder


SESSION = Session()


def go(
    place: Path, strategy: str, task: str = "task", model: str = "bert", **values: object
) -> tuple[Result, MemoryTracker]:
    given = {"task": str(place / f"{task}.yaml"), "model": str(place / model), "epochs": 1, "bootstrap": 200}
    tracker = MemoryTracker()
    return run(make_config({**given, "strategy": strategy, **values}), tracker, SESSION), tracker


@pytest.mark.parametrize("calibration", ["none", "batch", "contextual"])
def test_the_kept_model_answers_as_the_estimate_says(place: Path, tmp_path: Path, calibration: str) -> None:
    given = {"task": str(place / "task.yaml"), "model": str(place / "llama"), "strategy": "zero_shot"}
    config = make_config({**given, "calibration": calibration, "bootstrap": 0})
    table = execute(prepare(config, SESSION), MemoryTracker(), keep=tmp_path / "kept").tables["cross_validated"]
    scores = np.array([table["score_rare"], table["score_common"]]).T
    kept = SavedModel.load(tmp_path / "kept").scores([(str(text),) for text in table["text"]])
    np.testing.assert_allclose(kept, scores, atol=1e-6, rtol=0)


@pytest.mark.slow
def test_a_run_uses_all_rows_and_estimates_out_of_fold(place: Path) -> None:
    result, tracker = go(place, "probe", epochs=4, learning_rate=0.1)
    metrics = result.metrics
    assert metrics["resources/labels_used"] == metrics["cross_validated/examples"] == 64
    assert not [key for key in metrics if key.startswith(("in_domain", "validation"))]
    low, high = metrics["cross_validated/accuracy_low"], metrics["cross_validated/accuracy_high"]
    assert 0 < low < metrics["cross_validated/accuracy"] < high < 1
    assert tracker.latest["cross_validated/accuracy"] == metrics["cross_validated/accuracy"]
    assert {d["context"]: d["rows"] for d in tracker.datasets} == {"train": 64, "cross_validated": 64}
    assert len(tracker.tables["predictions/cross_validated"]["answer"]) == 64
    again, _ = go(place, "probe", epochs=4, learning_rate=0.1)
    assert again.metrics["cross_validated/mcc"] == metrics["cross_validated/mcc"]
    assert "rows" not in tracker.tag_values or tracker.tag_values["rows"] == "all"


@pytest.mark.parametrize(("strategy", "model", "more", "used"), [
    ("icl", "llama", {"shots": 4, "rows": 30}, 4),
    ("zero_shot", "llama", {"rows": 30}, 0),
    ("icl", "llama", {"shots": 4, "rows": 30, "selection": "validation"}, 4),
    ("lora", "bert", {"rows": 30, "cross_validation": "3x2", "selection": "validation"}, 30),
    ("probe", "bert", {"per_label": 5}, 10),
    ("context_distillation", "llama", {"rows": 20, "teacher_shots": 4, "cross_validation": "3x1"}, 20),
])  # fmt: skip
@pytest.mark.slow
def test_every_kind_of_strategy_is_cross_validated(
    place: Path, strategy: str, model: str, more: dict[str, object], used: int
) -> None:
    result, _ = go(place, strategy, "ood", model, **more)
    metrics = result.metrics
    assert metrics["resources/labels_used"] == used
    gap = metrics["cross_validated/macro_f1"] - metrics["ood/same/macro_f1"]
    assert metrics["ood/same/gap"] == pytest.approx(gap)


@pytest.mark.slow
def test_the_estimate_is_what_the_predictions_say(place: Path) -> None:
    """One repeat: scikit-learn's numbers on the logged out-of-fold answers."""
    result, tracker = go(place, "probe", cross_validation="4x1")
    table = tracker.tables["predictions/cross_validated"]
    truth, answers = np.array(table["label"]), np.array(table["answer"])
    assert result.metrics["cross_validated/accuracy"] == pytest.approx(accuracy_score(truth, answers))
    recalls = recall_score(truth, answers, average=None, labels=["rare", "common"])
    for name, recall in zip(("rare", "common"), recalls, strict=True):
        assert result.metrics[f"cross_validated/slice/label.{name}/accuracy"] == pytest.approx(recall)


@pytest.mark.slow
def test_few_rows_of_a_label_are_named_with_their_own_interval(place: Path) -> None:
    result, _ = go(place, "probe", rows=40)
    assert [note for note in result.notes if note.startswith("label 'rare' has only 5 rows: its recall is")]


def test_no_estimate_where_none_is_wanted(place: Path) -> None:
    result, _ = go(place, "probe", cross_validation="none")
    assert not [key for key in result.metrics if key.startswith("cross_validated")]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"rows": 65}, "rows=65: .*only 64 distinct rows"),
        ({"rows": 8}, "label 'rare' has 1 of the 8 training rows; cross-validation needs 2"),
        ({"cross_validation": "99x1"}, "64 training rows make at most 64 folds"),
        ({"cross_validation": "1x1"}, "at least 2 folds"),
        ({"rows": 0}, "rows=0: must be all, or a whole number of at least 1"),
        ({"rows": 8, "per_label": 4}, "give one of --per-label and --rows"),
        ({"rows": 4, "selection": "validation"}, "rows=4: 4 rows cannot be cut into 5 parts"),
    ],
)
def test_what_cannot_be_is_said_before_anything_trains(place: Path, values: dict[str, object], sentence: str) -> None:
    given = {"task": str(place / "task.yaml"), "model": str(place / "bert"), "strategy": "probe"}
    with pytest.raises(InputError, match=sentence):
        prepare(make_config(given | values), SESSION)


@pytest.mark.slow
def test_macro_f1_where_one_label_is_most_rows_and_no_metric_is_named(place: Path) -> None:
    result, _ = go(place, "probe", cross_validation="2x1")
    assert result.primary == "macro_f1"
    assert "88 % of the training rows are 'common', so macro F1 is the metric (--metric)." in result.notes
    assert go(place, "probe", cross_validation="2x1", metric="mcc")[0].primary == "mcc"
    panel = dict(summary_lines(result, "", ""))
    assert re.fullmatch(r"rare \d\.\d\d \(8\), common \d\.\d\d \(56\)", panel["cross_validated recall"])


@pytest.mark.slow
def test_balanced_weights_move_answers_to_the_rare_label(place: Path) -> None:
    plain, balanced = (
        go(place, "probe", cross_validation="2x1", epochs=20, learning_rate=0.05, class_weights=weights)[0].tables
        for weights in ("none", "balanced")
    )
    counts = [table["cross_validated"]["answer"].count("rare") for table in (plain, balanced)]
    assert counts[0] < 8 < counts[1]
