"""A saved model that is the mean of several."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from place import Copying, go

from effft.adapted_model import AdaptedModel
from effft.cli.app import app
from effft.errors import InputError
from effft.evaluation.metrics import softmax
from effft.serving.export import export
from effft.serving.load import SavedModel, mean_scores
from effft.serving.manifest import read_manifest
from effft.serving.model_card import card
from effft.serving.save import save_average

KINDS = ("llama", "bert")
TEXTS = [["the dog runs"], ["a cat"], ["no dog here at all"], ["old cats see"]]


@pytest.fixture(scope="module")
def members(place: Path) -> list[Path]:
    for name, backbone in (("probe", "bert"), ("lora", "llama")):
        go(place, Copying(to=place / f"mean-of-{name}"), name, backbone)
    return [place / "mean-of-probe", place / "mean-of-lora"]


def averaged(members: list[Path], folder: Path, weight: float = 0.7) -> Path:
    save_average(folder, list(zip(members, (weight, 1 - weight), strict=True)), "mean of two", {"in_domain/mcc": 0.5})
    return folder


@pytest.mark.slow
def test_it_answers_with_the_mean_of_the_probabilities(members: list[Path], tmp_path: Path) -> None:
    model = SavedModel.load(averaged(members, tmp_path / "mean"))
    first, second = (softmax(SavedModel.load(one).scores(TEXTS)) for one in members)
    assert softmax(model.scores(TEXTS)) == pytest.approx(0.7 * first + 0.3 * second, abs=1e-12)
    assert AdaptedModel(tmp_path / "mean").predict_proba([row[0] for row in TEXTS]) == pytest.approx(
        0.7 * first + 0.3 * second, abs=1e-12
    )
    assert model.score_texts([]).shape == (0, 2)


@pytest.mark.slow
def test_it_is_predicted_with_and_described_and_not_exported(members: list[Path], tmp_path: Path) -> None:
    folder = averaged(members, tmp_path / "mean")
    done = CliRunner().invoke(app, ["predict", "--model", str(folder), "--text", "the dog"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["label_name"] in ("without", "with_dog")
    said = card(read_manifest(folder))
    assert "the mean of the probabilities of 2 models" in said
    assert "`members/0` 0.70, `members/1` 0.30" in said
    with pytest.raises(InputError, match="mean of 2 models"):
        export(folder, tmp_path / "out", False)
    assert export(folder / "members/0", tmp_path / "out", False)
    with pytest.raises(InputError, match="choose it with more --minutes"):
        SavedModel.load(folder).abstain(0.1)


@pytest.mark.slow
def test_what_was_changed_or_does_not_add_up_is_refused(members: list[Path], tmp_path: Path) -> None:
    folder = averaged(members, tmp_path / "mean")
    (path := folder / "members/1/effft.json").write_text(path.read_text() + " ")
    with pytest.raises(InputError, match=r"members/1/effft\.json was changed"):
        SavedModel.load(folder)
    for place, (old, new) in enumerate([('"members/1"', '"../1"'), ("0.7", "0.6"), ("0.7", "1.2")]):
        record = averaged(members, tmp_path / str(place)) / "effft.json"
        text = record.read_text()
        record.write_text(text.replace(f": {old}", f": {new}"))
        assert record.read_text() != text
        with pytest.raises(InputError, match="cannot be read as format 1"):
            read_manifest(record.parent)


@given(st.lists(st.lists(st.floats(-50, 50), min_size=3, max_size=3), min_size=1, max_size=4), st.integers(0, 99))
def test_a_mean_is_between_its_members(rows: list[list[float]], seed: int) -> None:
    """And answers with probabilities; of equal members it is each of them."""
    rng = np.random.default_rng(seed)
    each, weights = [np.array(rows), rng.normal(size=(len(rows), 3))], rng.dirichlet([1.0, 1.0]).tolist()
    chances, mean = [softmax(one) for one in each], np.exp(mean_scores(each, weights))
    assert mean.sum(axis=-1) == pytest.approx(1)
    assert (mean >= np.minimum(*chances) - 1e-12).all()
    assert (mean <= np.maximum(*chances) + 1e-12).all()
    assert np.exp(mean_scores([each[0]] * 2, weights)) == pytest.approx(chances[0])
