"""The scikit-learn classifier: texts in, classes out, and scikit-learn's own checks as far as they apply to texts."""

import pickle
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from backbones import WORDS, save_backbone
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import validate_data

import effft
from effft.classifier import Classifier
from effft.errors import InputError

TEXTS = [f"{' '.join(WORDS[n % 7 : n % 7 + 4])} {'dog' if n % 2 else 'cat'}" for n in range(28)]
LABELS = ["woof" if n % 2 else "meow" for n in range(28)]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_backbone(tmp_path_factory.mktemp("backbones") / "llama", "llama"))


@pytest.mark.slow
def test_it_fits_predicts_and_comes_back_from_a_pickle(llama: str, tmp_path: Path) -> None:
    classifier = effft.Classifier("vanilla", llama, epochs=3, threads=1).fit(TEXTS, LABELS)
    assert list(classifier.classes_) == ["meow", "woof"]
    assert classifier.score(TEXTS, LABELS) > 0.9
    chances = classifier.predict_proba(np.array(TEXTS))
    assert chances.shape == (len(TEXTS), 2)
    assert np.allclose(chances.sum(axis=1), 1)
    again = pickle.loads(pickle.dumps(classifier))
    assert np.array_equal(again.predict_proba(TEXTS), chances)
    assert effft.load(classifier.adaptation_.save(tmp_path / "saved")).predict(TEXTS[:2]) == LABELS[:2]
    same = clone(classifier).fit(TEXTS, LABELS)
    assert np.array_equal(same.predict_proba(TEXTS), chances)
    other = clone(classifier).set_params(random_state=1).fit(TEXTS, LABELS)
    assert not np.array_equal(other.predict_proba(TEXTS), chances)


@pytest.mark.parametrize("labels", [[0, 1], [1.0, -2.0], [True, False], ["", " "], ["10", "9"], ["[1]", "[2]"]])
def test_labels_of_any_kind_come_back_as_they_are(llama: str, labels: list[Any]) -> None:
    classifier = Classifier("probe", llama, steps=1, threads=1).fit(TEXTS[:8], labels * 4)
    assert set(classifier.predict(TEXTS)) <= set(labels)
    assert classifier.predict_proba([]).shape == (0, 2)
    assert list(classifier.classes_) == sorted(labels)


def test_rows_of_two_texts(llama: str) -> None:
    pairs = list(pairwise(TEXTS))
    classifier = Classifier("probe", llama, steps=1, threads=1).fit(pairs, LABELS[1:])
    assert len(classifier.predict(pairs[:3])) == 3
    frame = pd.DataFrame(pairs, columns=["premise", "hypothesis"])
    chances = classifier.fit(frame, LABELS[1:]).predict_proba(frame)
    assert np.array_equal(classifier.predict_proba(pairs), chances)
    with pytest.raises(ValueError, match="X has the columns hypothesis, premise; fit read premise, hypothesis"):
        classifier.predict(frame[["hypothesis", "premise"]])


def test_a_seed_is_the_same_number_in_numpy(llama: str) -> None:
    first, second = (
        Classifier("bitfit", llama, random_state=state, steps=1, threads=1).fit(TEXTS, LABELS).predict_proba(TEXTS)
        for state in (5, np.int64(5))
    )
    assert np.array_equal(first, second)


def test_what_is_wrong_is_said(llama: str) -> None:
    with pytest.raises(InputError, match="Did you mean 'epochs'"):
        Classifier(epoch=3)
    with pytest.raises(NotFittedError):
        Classifier().predict(TEXTS)
    with pytest.raises(InputError, match="1 class only"):
        Classifier().fit(TEXTS, ["x"] * len(TEXTS))
    with pytest.raises(InputError, match="0 class only"):
        Classifier().fit([], [])
    with pytest.raises(ValueError, match="one label for each row"):
        Classifier().fit(TEXTS, ["x", "y"])
    for nothing in (None, np.nan, pd.NA):
        with pytest.raises(InputError, match="y has no label in row 27"):
            Classifier().fit(TEXTS, pd.Series([*LABELS[:-1], nothing], dtype=object))
    with pytest.raises(InputError, match="calibration=batch: a saved model keeps that of"):
        Classifier("icl", llama, calibration="batch", label_words="No,Yes", shots=2).fit(TEXTS, LABELS)
    with pytest.raises(InputError, match="'icl' trains nothing, so --epochs has no meaning"):
        Classifier("icl", llama, epochs=5).fit(TEXTS, LABELS)
    with pytest.raises(InputError, match="unknown parameter 'log_model'"):
        Classifier(log_model=True)
    with pytest.raises(InputError, match="rank=0: must be at least 1"):
        Classifier(rank=0).fit(TEXTS, LABELS)


@pytest.mark.slow
def test_cross_validation_and_search_of_scikit_learn(llama: str) -> None:
    classifier = Classifier("vanilla", llama, epochs=3, threads=1)
    assert cross_val_score(classifier, TEXTS, LABELS, cv=2).mean() > 0.7
    search = GridSearchCV(classifier, {"strategy": ["vanilla", "probe"], "epochs": [1]}, cv=2).fit(TEXTS, LABELS)
    assert search.best_params_["strategy"] in ("vanilla", "probe")


class OnNumbers(Classifier):
    """Reads a row of numbers as a text, so that scikit-learn's checks, which are made of numbers, can be run."""

    def _read(self, X: Any, y: Any = "no_validation", reset: bool = True) -> Any:  # noqa: N803 - scikit-learn's name
        checked = validate_data(self, X, y, reset=reset)
        rows, labels = (checked, None) if y is None or isinstance(y, str) else checked
        return [" ".join([*("cat" if v > 0 else "dog" for v in row), repr(row.tolist())]) for row in rows], labels

    def fit(self, X: Any, y: Any = None) -> "OnNumbers":  # noqa: N803
        return super().fit(*self._read(X, y)) if y is not None else super().fit(X, y)

    def predict_proba(self, X: Any) -> Any:  # noqa: N803
        if not hasattr(self, "adaptation_"):
            return super().predict_proba(X)
        return super().predict_proba(self._read(X, reset=False)[0])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.one_d_array, tags.input_tags.string = True, False, False
        return tags


@pytest.mark.slow
def test_the_checks_of_scikit_learn(llama: str) -> None:
    """All of them; those of sparse, complex and missing numbers test `OnNumbers`, which validates."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        own = check_estimator(Classifier("probe", llama), on_skip=None)
        done = check_estimator(OnNumbers("probe", llama, threads=1), on_skip=None)
    assert [check["status"] for check in own] == ["passed"]  # scikit-learn tests the rest with numbers alone
    assert {check["check_name"] for check in done if check["status"] not in ("passed", "skipped")} == set()
    assert len(done) > 45
