"""Smoothed answers: what they are of any scores, and that of few rows they tell two classifiers apart better."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from effft.evaluation.metrics import metrics_of_counts
from effft.evaluation.smoothing import smoothed

EIGHTHS = st.integers(-400, 400).map(lambda eighths: eighths / 8)  # floats that are scaled and shifted without rounding
SCORES = arrays(float, st.tuples(st.integers(1, 9), st.integers(2, 5)), elements=EIGHTHS)


@given(SCORES, st.randoms(use_true_random=False), st.integers(-6, 6).map(lambda power: 2.0**power), st.integers(-9, 9))
def test_shares_follow_the_margins_and_no_scale(
    scores: "np.ndarray", random: "np.random.Random", scale: float, shift: int
) -> None:
    labels = np.array([random.randrange(scores.shape[1]) for _ in scores])
    rivals, shares = smoothed(labels, scores)
    rows = np.arange(len(labels))
    margins = scores[rows, labels] - scores[rows, rivals]
    assert (rivals != labels).all()
    met = np.unique([labels, scores.argmax(axis=1)])
    for row, (label, rival) in enumerate(zip(labels, rivals, strict=True)):
        others = [one for one in (met if len(met) > 1 else range(scores.shape[1])) if one != label]
        assert scores[row, rival] == max(scores[row, others])
    assert ((shares >= 0) & (shares <= 1)).all()
    assert (np.diff(shares[np.argsort(margins, kind="stable")]) >= 0).all()
    assert (shares[margins > 0] >= 0.5).all()
    assert (shares[margins < 0] <= 0.5).all()
    assert smoothed(labels, scale * scores + shift)[1] == pytest.approx(shares)


@given(SCORES, st.randoms(use_true_random=False))
def test_labels_that_no_row_is_about_change_nothing(scores: "np.ndarray", random: "np.random.Random") -> None:
    labels = np.array([random.randrange(scores.shape[1]) for _ in scores])
    met = np.unique([labels, scores.argmax(axis=1)])
    assume(len(met) > 1)

    def metrics(labels: "np.ndarray", scores: "np.ndarray") -> dict[str, float]:
        rivals, shares = smoothed(labels, scores)
        cells = np.zeros((scores.shape[1],) * 2)
        np.add.at(cells, (labels, labels), shares)
        np.add.at(cells, (labels, rivals), 1 - shares)
        return {name: float(value[0]) for name, value in metrics_of_counts(cells[None]).items()}

    assert metrics(labels, scores) == pytest.approx(metrics(np.searchsorted(met, labels), scores[:, met]))


def test_few_rows_tell_the_better_classifier_more_often_than_its_answers_do() -> None:
    """Two classifiers, right in 69 and 76 of 100 rows, on the same 32 rows, 2,000 times; one is ten times as sure."""
    rng, labels = np.random.default_rng(0), np.zeros(32, dtype=int)
    found = []
    for _ in range(2000):
        common, own = rng.normal(size=32), rng.normal(size=(2, 32))
        margins = np.array([[0.5], [0.7]]) + 0.8 * common + 0.6 * own
        scores = [
            np.stack([size * margin, np.zeros(32)], axis=1) for size, margin in zip((10, 1), margins, strict=True)
        ]
        right = (margins > 0).mean(axis=1)
        share = [smoothed(labels, each)[1].mean() for each in scores]
        found.append((right[1] > right[0], right[1] == right[0], share[1] > share[0]))
    by_answers, ties, by_shares = np.mean(found, axis=0)
    assert by_shares > by_answers + ties / 2 + 0.02, (by_shares, by_answers, ties)


@pytest.mark.parametrize("offset", [0.5, 1.0, 1.5])
def test_of_many_rows_it_is_the_plain_metric(offset: float) -> None:
    """The normal distribution's margins are right in Φ(offset) of all rows; the bias falls with the rows."""
    margins = np.random.default_rng(0).normal(offset, size=2**20)
    scores, bias = np.stack([margins, np.zeros(len(margins))], axis=1), []
    for rows in (2**4, 2**10, 2**16):
        parts = scores.reshape(-1, rows, 2)[: 2**10]
        shares = np.mean([smoothed(np.zeros(rows, dtype=int), part)[1].mean() for part in parts])
        bias.append(abs(shares - (parts[..., 0] > 0).mean()))
    assert bias[1] < bias[0] / 4, bias
    assert bias[2] < bias[0] / 16, bias
