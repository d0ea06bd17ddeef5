"""`predict --abstain`: a saved model withholds what it is not sure of, or says why it cannot promise."""

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from place import Copying, go, make_place

from effft.cli.app import app
from effft.serving.load import SavedModel
from effft.serving.manifest import read_manifest
from effft.strategies.risk import RiskCurve


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_place(tmp_path_factory.mktemp("dogs"), "bert")
    values = {"cross_validation": "4x2", "epochs": 8, "learning_rate": 0.05, "rows": "60", "per_label": None}
    go(folder, Copying(to=folder / "model"), "probe", "bert", **values)
    return folder


def predicted(saved: Path, *more: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["predict", "--model", str(saved / "model"), *more])
    return done.exit_code, done.stdout, done.stderr + str(done.exception or "")


@pytest.mark.slow
def test_the_least_sure_answers_are_withheld(saved: Path) -> None:
    risk = read_manifest(saved / "model").risk
    assert risk is not None
    curve = RiskCurve(**dict(risk))
    error = curve.smallest
    assert error is not None
    code, out, _ = predicted(saved, "--input", str(saved / "test.csv"), "--abstain", str(error))
    assert code == 0
    rows = list(csv.DictReader(out.splitlines()))
    names = [name for name in rows[0] if name.endswith("label_name")]
    threshold = curve.threshold(error)
    assert threshold is not None
    for row in rows:
        sure = max(float(value) for name, value in row.items() if "probability_" in name)
        assert (row[names[0]] == "") is (sure < threshold)
    assert 0 < sum(row[names[0]] == "" for row in rows) < len(rows)


def test_one_text_answers_null(saved: Path) -> None:
    model = SavedModel.load(saved / "model")
    model.threshold = 1.01
    assert model.answers([["the dog"]])[0]["label_name"] is None
    code, out, _ = predicted(saved, "--text", "the dog", "--abstain", "0.99")
    assert code == 0
    assert json.loads(out)["label_name"] in ("without", "with_dog")


def test_an_empty_text_is_a_sentence(saved: Path) -> None:
    code, _, said = predicted(saved, "--text", " ")
    assert code != 0
    assert "--text number 1 is empty" in said


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        ("0.0001", "is possible"),
        ("0.02", "rows cannot promise it with 90 % certainty"),
        ("2", "above 0 and below 1"),
        ("x", "above 0"),
    ],
)
def test_what_cannot_be_promised_is_a_sentence(saved: Path, error: str, sentence: str) -> None:
    code, _, said = predicted(saved, "--text", "the dog", "--abstain", error)
    assert code != 0
    assert sentence in said
