"""Rows with several labels, or none: what is drawn, trained, measured, saved and answered; and what is refused."""

import csv
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from backbones import WORDS, save_backbone
from helpers import EXAMPLES, small_task

from effft.cli.output import summary_lines
from effft.config import make_config
from effft.data.draw import draw_per_label, draw_rows, fold_numbers
from effft.data.examples import Example, ExampleSet
from effft.errors import InputError
from effft.models.backbone import load
from effft.runs.experiment import Result, execute
from effft.runs.fit import balanced_weights
from effft.runs.plan import prepare
from effft.runs.session import Session
from effft.serving.batch_prediction import answer_file, open_input
from effft.serving.load import SavedModel
from effft.strategies.learner import Learner
from effft.strategies.prompting import PromptEncoder
from effft.strategies.strategy import compose
from effft.tracking.tracker import MemoryTracker

ANIMALS = ("cat", "dog", "cats")
SESSION = Session()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 rows whose labels are the animals in them, as lists and as columns."""
    folder, rng = tmp_path_factory.mktemp("several"), random.Random(0)
    texts = list({" ".join(rng.choices(WORDS[:12], k=5)): None for _ in range(200)})[:60]
    labels = [[name for name in ANIMALS if name in text.split()] for text in texts]
    with (folder / "lists.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "labels"), *zip(texts, map(json.dumps, labels), strict=True)])
    with (folder / "columns.csv").open("w", newline="") as file:
        flags = [[int(name in own) for name in ANIMALS] for own in labels]
        csv.writer(file).writerows([("text", *ANIMALS), *((t, *f) for t, f in zip(texts, flags, strict=True))])
    save_backbone(folder / "bert", "bert")
    save_backbone(folder / "llama", "llama")
    return folder


def go(place: Path, strategy: str = "lora", keep: Path | None = None, **values: object) -> Result:
    given = {"data": str(place / "lists.csv"), "model": str(place / "bert"), "epochs": 8, "learning_rate": 0.02}
    given |= {"bootstrap": 200, "cross_validation": "3x2", "strategy": strategy}
    return execute(prepare(make_config({**given, **values}), SESSION), MemoryTracker(), keep=keep)


@pytest.mark.slow
def test_a_file_is_estimated_out_of_fold_and_its_model_answers_the_same(place: Path, tmp_path: Path) -> None:
    result = go(place, keep=tmp_path / "kept")
    metrics, table = result.metrics, result.tables["cross_validated"]
    assert (result.primary, metrics["resources/labels_used"]) == ("macro_f1", 60)
    low, value, high = (metrics[f"cross_validated/macro_f1{end}"] for end in ("_low", "", "_high"))
    assert 0 < low < value < high < 1
    assert value > metrics["cross_validated/macro_f1_majority"]
    names = dict(summary_lines(result, "", ""))
    assert "subset accuracy" in names["cross_validated, further"]
    assert all(animal in names["cross_validated recall"] for animal in ANIMALS)
    columns = go(place, data=str(place / "columns.csv"), label="cat,cats,dog")  # sorted, as lists are
    assert columns.metrics["cross_validated/macro_f1"] == value

    model = SavedModel.load(tmp_path / "kept")
    answers = model.answers([(text,) for text in table["text"]])
    assert all(set(answer["labels"]) <= set(ANIMALS) for answer in answers)  # type: ignore[call-overload]
    assert {answer["labels"] is None for answer in answers} == {False}
    right = [
        sorted(json.loads(str(known))) == answer["labels"]
        for known, answer in zip(table["label"], answers, strict=True)
    ]
    assert np.mean(right) > metrics["cross_validated/subset_accuracy"] - 0.1
    assert model.record.risk is not None
    surest = sorted(model.record.risk.confidence)
    model.threshold = surest[len(surest) // 2]
    withheld = [a["labels"] is None for a in model.answers([(text,) for text in table["text"]])]
    assert any(withheld)
    assert not all(withheld)
    with (tmp_path / "answers.jsonl").open("w") as file:
        answer_file(model, open_input(place / "lists.csv", model.record.read_task()), file, ".jsonl")
    lines = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    again = dict(zip(table["text"], answers, strict=True))  # the table is in the order of the draw
    known = {line["text"]: line["predicted_labels"] for line in lines}
    assert all(known[text] in (None, answer["labels"]) for text, answer in again.items())  # type: ignore[index]


def test_a_row_that_several_questions_show_is_one_label_used(place: Path) -> None:
    words = {"label_words": "good,bad", "demonstrations": "nearest", "shots": 4, "rows": "6"}
    plan = prepare(make_config({"data": str(place / "lists.csv"), "model": str(place / "llama"), "strategy": "icl",
                                "cross_validation": "none", **words}), SESSION)  # fmt: skip
    assert (len(plan.demonstrations), plan.labels_used) == (6 * len(ANIMALS), 6)


def test_the_loss_is_binary_cross_entropy_and_its_weights_balance_yes_and_no(place: Path) -> None:
    task = small_task(multi_label=True, patterns={})
    strategy, backbone = compose("vanilla"), load(str(place / "bert"), need_lm_head=False)
    learner = Learner(strategy, task, backbone, PromptEncoder(strategy, task, backbone, 64), torch.Generator())
    examples = [Example(e.texts, (e.labels[0], int(e.index < 1)), e.index) for e in EXAMPLES]
    batch = learner.collate(learner.items(examples))
    odds = learner.scores(batch)[..., 1]
    truth = torch.tensor([e.label for e in examples], dtype=torch.float)
    wanted = F.binary_cross_entropy_with_logits(odds, truth)
    torch.testing.assert_close(learner.loss(batch), wanted)
    learner.class_weights = balanced_weights([e.label for e in examples], 2)
    torch.testing.assert_close(learner.class_weights, torch.tensor([[1, 1], [0.6, 3]], dtype=torch.double))
    table = torch.where(truth > 0, learner.class_weights[:, 1], learner.class_weights[:, 0]).float()
    wanted = (F.binary_cross_entropy_with_logits(odds, truth, reduction="none") * table).sum() / table.sum()
    torch.testing.assert_close(learner.loss(batch), wanted)


@pytest.mark.parametrize(
    ("strategy", "values"),
    [
        ("zero_shot", {"calibration": "contextual"}),
        ("icl", {"shots": 4, "calibration": "batch"}),
        ("pbft", {"test": "lists.csv", "selection": "validation", "class_weights": "balanced", "rows": "40"}),
        pytest.param("lora+distill", {"teacher_shots": 2, "unlabelled": 4, "rows": "20"}, marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_a_verbalizer_asks_about_each_label(
    place: Path, tmp_path: Path, strategy: str, values: dict[str, object]
) -> None:
    values = {k: str(place / v) if k == "test" else v for k, v in values.items()}
    values |= {"cross_validation": "2x1"} if "test" not in values else {}
    values |= {"epochs": 1, "learning_rate": 1e-3}
    result = go(place, strategy, tmp_path / "kept", model=str(place / "llama"), **values)
    split = "in_domain" if "test" in values else "cross_validated"
    assert result.primary == "macro_f1"
    assert 0 <= result.metrics[f"{split}/macro_f1_low"] <= result.metrics[f"{split}/macro_f1_high"] <= 1
    table, model = result.tables[split], SavedModel.load(tmp_path / "kept")
    scores = model.scores([(str(text),) for text in table["text"]])
    assert scores.shape == (len(table["text"]), len(ANIMALS), 2)
    if strategy in ("zero_shot", "pbft"):  # else the folds' models are others
        columns = np.array([table[f"score_{name}"] for name in model.labels]).T
        np.testing.assert_allclose(scores[..., 1], columns, atol=1e-5, rtol=0)


def test_a_question_about_each_label_is_binary_cross_entropy_too(place: Path) -> None:
    task = small_task(multi_label=True, patterns={"ask": "{text} {label} ?"})
    strategy, backbone = compose("pbft"), load(str(place / "llama"), need_lm_head=True)
    learner = Learner(strategy, task, backbone, PromptEncoder(strategy, task, backbone, 64), torch.Generator())
    examples = [Example(e.texts, (e.labels[0], int(e.index < 2)), e.index) for e in EXAMPLES]
    items = learner.items(examples)
    assert len(items) == 2 * len(examples)
    batch = learner.collate(items)
    odds = learner.scores(batch) @ torch.tensor([-1.0, 1.0])
    truth = torch.tensor([e.label for e in examples], dtype=torch.float).flatten()
    torch.testing.assert_close(learner.loss(batch), F.binary_cross_entropy_with_logits(odds, truth))


ROWS = [Example((f"text {n}",), (n % 2, int(n % 5 == 0), int(n == 7)), n) for n in range(40)]
POOL = ExampleSet("train", tuple(ROWS), "rows")


def test_draws_nest_and_folds_spread_every_label() -> None:
    names = ("common", "rare", "once")
    drawn = {count: draw_rows(POOL, names, str(count), 3) for count in (4, 20, 30)}
    assert drawn[30][:20] == drawn[20]
    assert {label for example in drawn[4] for label in example.labels} == {0, 1, 2}
    shots = draw_per_label(ExampleSet("train", tuple(ROWS[8:]), "rows"), names[:2], 4, 0, validates=False).train
    assert all(sum(label in e.labels for e in shots) >= 4 for label in (0, 1))
    assert sum(not e.labels for e in shots) == 4
    numbers = fold_numbers(ROWS, 3, 4, 0)
    spread = np.array(
        [[sum(1 in e.labels for e, n in zip(ROWS, numbers, strict=True) if n == fold)] for fold in range(4)]
    )
    assert np.ptp(spread) <= 1


@pytest.mark.parametrize(
    ("content", "values", "sentence"),
    [
        ('a b,"[""x""]"\nc d,"[""x""]"\n', {}, "every row has the same labels"),
        ('a b,"[""x""]"\nc d,[]\n', {}, "one label only"),
        ('a b,"[""x""]"\nc d,"[""y""]"\ne f,"[""x"", ""y""]"\ng h,z\n', {}, "many|label"),
        ('a b,"[""x""]"\nc d,"[""x"", ""y""]"\n', {}, "label 'y' has one row"),
        ('a b,"[""x""]"\nc d,"[""x"", ""y""]"\ne f,"[""y""]"\n', {"ordinal": "x,y"}, "have no order"),
        ('a b,"[""x""]"\nc d,"[""x"", ""y""]"\ne f,"[""y""]"\n', {"metric": "accuracy"}, "unknown metric"),
        ('a b,"[""x""]"\nc d,"[""x"", ""y""]"\ne f,"[""y""]"\n', {"strategy": "pattern+classifier"}, "pattern"),
        ('a b,"[""x""]"\nc d,"[""x"", ""y""]"\ne f,"[""y""]"\n', {"strategy": "setfit"}, "pairs of one label"),
    ],
)
def test_bad_input_is_a_sentence(
    place: Path, tmp_path: Path, content: str, values: dict[str, str], sentence: str
) -> None:
    (tmp_path / "rows.csv").write_text("text,labels\n" + content)
    with pytest.raises(InputError, match=sentence):
        go(place, data=str(tmp_path / "rows.csv"), **values)


def test_columns_of_something_else_are_refused(place: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,a,b\nx y,1,0\nz u,0,2\nv w,1,1\n")
    with pytest.raises(InputError, match="line 3: column 'b' holds '2'"):
        go(place, data=str(tmp_path / "rows.csv"), label="a,b")
    with pytest.raises(InputError, match="no column 'c'"):
        go(place, data=str(tmp_path / "rows.csv"), label="a,c")
