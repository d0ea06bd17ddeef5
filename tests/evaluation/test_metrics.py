"""Metrics and their intervals: scikit-learn's values, whatever labels a set lacks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from effft.evaluation.metrics import METRICS, confusion_of, four_metrics, intervals, metrics_of_counts

LABELS = 5
SETS = st.lists(st.integers(0, LABELS - 1), min_size=1, max_size=40)


@settings(max_examples=200, deadline=None)
@given(SETS)
def test_kind_5_perfect_answers_score_one(labels: list[int]) -> None:
    truth = np.array(labels)
    assert four_metrics(truth, truth, LABELS) == dict.fromkeys(METRICS, pytest.approx(1.0))
    assert intervals(truth, truth, LABELS, 20) == {
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
