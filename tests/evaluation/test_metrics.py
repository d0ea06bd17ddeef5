"""Metrics and their intervals: scikit-learn's values, whatever labels a set lacks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score, f1_score, mean_absolute_error

from effft.evaluation.metrics import METRICS, ORDINAL_METRICS, confusion_of, four_metrics, metrics_of_counts
from effft.evaluation.outcomes import ConfusionTable

LABELS = 5
SETS = st.lists(st.integers(0, LABELS - 1), min_size=1, max_size=40)


@settings(max_examples=200, deadline=None)
@given(SETS)
def test_kind_5_perfect_answers_score_one(labels: list[int]) -> None:
    truth = np.array(labels)
    assert four_metrics(truth, truth, LABELS) == dict.fromkeys(METRICS, pytest.approx(1.0))
    assert ConfusionTable(truth, truth, LABELS).intervals(20) == {
        f"{name}_{end}": pytest.approx(1.0) for name in METRICS for end in ("low", "high")
    }


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, LABELS - 1), st.integers(0, LABELS - 1)), min_size=1, max_size=40))
def test_the_bootstrap_computes_the_same_metrics(pairs: list[tuple[int, int]]) -> None:
    truth, answers = np.array(pairs).T
    expected = four_metrics(truth, answers, LABELS)
    assert expected["macro_f1"] == pytest.approx(f1_score(truth, answers, average="macro", zero_division=0.0))
    counts = confusion_of(truth, answers, LABELS)[None].astype(float)
    assert {name: value[0] for name, value in metrics_of_counts(counts).items()} == pytest.approx(expected)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, LABELS - 1), st.integers(0, LABELS - 1)), min_size=1, max_size=40))
def test_ordinal_metrics_are_those_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    truth, answers = np.array(pairs).T
    found = ConfusionTable(truth, answers, LABELS, ordinal=True)
    assert found.values["mean_absolute_error"] == pytest.approx(mean_absolute_error(truth, answers))
    kappa = found.values["quadratic_kappa"]
    if len({*truth, *answers}) > 1:
        places = list(range(LABELS))
        assert kappa == pytest.approx(cohen_kappa_score(truth, answers, weights="quadratic", labels=places))
    else:
        assert kappa == 1
    nothing_known = ConfusionTable(truth, np.full_like(truth, truth[0]), LABELS, ordinal=True).values["quadratic_kappa"]
    assert nothing_known == (1 if len(set(truth)) == 1 else pytest.approx(0))
    assert {f"{name}_low" for name in ORDINAL_METRICS} < set(found.intervals(20))
