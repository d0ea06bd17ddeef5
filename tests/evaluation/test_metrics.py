"""Metrics and their intervals: scikit-learn's values, whatever labels a set lacks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import (
    accuracy_score,
    cohen_kappa_score,
    f1_score,
    matthews_corrcoef,
    mean_absolute_error,
    recall_score,
)

from effft.evaluation.metrics import METRICS, ORDINAL_METRICS, confusion_of, four_metrics, metrics_of_counts
from effft.evaluation.outcomes import ConfusionTable, LabelSets, bounds
from effft.evaluation.statistics import chance_remark, reference_scores

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
@pytest.mark.slow
def test_the_bootstrap_computes_the_same_metrics(pairs: list[tuple[int, int]]) -> None:
    truth, answers = np.array(pairs).T
    expected = four_metrics(truth, answers, LABELS)
    assert expected["accuracy"] == accuracy_score(truth, answers)
    assert expected["macro_f1"] == f1_score(truth, answers, average="macro", zero_division=0.0)
    assert expected["mcc"] == (1.0 if (truth == answers).all() else matthews_corrcoef(truth, answers))
    counts = confusion_of(truth, answers, LABELS)[None].astype(float)
    assert {name: value[0] for name, value in metrics_of_counts(counts).items()} == pytest.approx(expected)


@settings(max_examples=80, deadline=None)
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


def test_what_knowing_nothing_scores_in_macro_f1_where_one_label_is_rare() -> None:
    truth = np.repeat([0, 1], [9000, 1000])
    most, coins = np.zeros_like(truth), np.random.default_rng(0).integers(0, 2, len(truth))
    known = ConfusionTable(truth, most, 2).references
    majority, chance = reference_scores("macro_f1", known.get) or (np.nan, np.nan)
    assert majority == pytest.approx(f1_score(truth, most, average="macro", zero_division=0.0))
    assert chance == pytest.approx(f1_score(truth, coins, average="macro"), abs=0.01)
    assert chance_remark(majority, majority - 0.01, majority + 0.01, majority, chance) == "at majority"


ROW = st.lists(st.integers(0, 1), min_size=6, max_size=6)


@settings(max_examples=100, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=30))
@pytest.mark.slow
def test_metrics_of_several_labels_are_those_of_scikit_learn(rows: list[list[int]]) -> None:
    truth, answers = np.hsplit(np.array(rows), 2)
    found, known = LabelSets(truth, answers), (truth | answers).any(axis=0)
    each = [f1_score(truth[:, n], answers[:, n], zero_division=0.0) for n in range(3) if known[n]]
    whole = f1_score(truth.ravel(), answers.ravel(), zero_division=0.0)
    assert found.values["macro_f1"] == pytest.approx(np.mean(each) if each else 1)
    assert found.values["micro_f1"] == pytest.approx(whole if each else 1)
    assert found.values["subset_accuracy"] == pytest.approx(accuracy_score(truth, answers))
    having = truth.any(axis=0)
    recalls = [recall_score(truth[:, n], answers[:, n]) for n in range(3) if having[n]]
    assert found.recalls(found.weights[None])[0][having] == pytest.approx(recalls)
    twice = LabelSets(truth, np.stack([answers, answers]))
    assert twice.values == pytest.approx(found.values)


@settings(max_examples=30, deadline=None)
@given(st.integers(5, 300), st.floats(0, 1), st.integers(2, 5))
@pytest.mark.slow
def test_the_outer_ends_of_the_posterior_are_clopper_and_pearson_s(rows: int, share: float, count: int) -> None:
    right = round(share * rows)
    labels = np.arange(rows) % count
    found = ConfusionTable(labels, np.where(np.arange(rows) < right, labels, (labels + 1) % count), count)
    accuracy = np.stack([found.metrics(half)["accuracy"] for half in found.posterior(1.0, 20_000)])
    recall = np.stack([found.recalls(half)[:, 0] for half in found.posterior(1.0, 20_000, found.spread)])
    of_label = labels == 0
    for draws, hits, of in ((accuracy, right, rows), (recall, sum(of_label[:right]), sum(of_label))):
        ends = bounds({"share": draws})
        exact = binomtest(int(hits), int(of)).proportion_ci(0.95, method="exact")
        assert (ends["share_low"], ends["share_high"]) == pytest.approx((exact.low, exact.high), abs=0.025)


def test_bootstrapped_sets_are_bootstrapped_rows() -> None:
    """The intervals of counted pairs are those of resampled rows."""
    rng = np.random.default_rng(0)
    truth = (rng.random((200, 3)) < 0.4).astype(int)
    answers = np.where(rng.random((200, 3)) < 0.8, truth, 1 - truth)
    found = LabelSets(truth, answers).intervals(4000)
    picks = [rng.integers(0, 200, 200) for _ in range(2000)]
    drawn = [LabelSets(truth[p], answers[p]).values["macro_f1"] for p in picks]
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert (found["macro_f1_low"], found["macro_f1_high"]) == (
        pytest.approx(low, abs=0.01),
        pytest.approx(high, abs=0.01),
    )
