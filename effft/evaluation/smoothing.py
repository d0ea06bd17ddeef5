"""Smoothed answers: of few rows they tell better than answers which of two classifiers is right more often."""

import numpy as np

from effft.evaluation.metrics import Array, Labels

BANDWIDTH = 0.5
"""Margin that is one standard deviation, in root mean squares of all margins, where there are `ROWS` of them. 0 would
count answers as they are, much more than 1 tells weak classifiers from strong ones too little
(docs/results.md#choosing)."""

ROWS = 16
"""A fold of 64 rows. The bandwidth falls with the cube root of the rows, so that the bias does (Azzalini 1981, "A note
on the estimation of a distribution function and quantiles by a kernel method")."""


def smoothed(labels: Labels, scores: Array) -> tuple[Labels, Array]:
    """The rival of each row and the share in which the row counts as right.

    The rival is the best-scored label beside the row's own, of those that any row has or is answered with: in macro F1
    a label that no row is about would count as a whole one with nothing right. The share is the normal distribution
    function of the margin (score of the own label minus that of the rival), so a row that was nearly answered otherwise
    counts in part for each of the two labels. Such an estimate is a little biased and varies much less (Glick 1978,
    "Additive estimators for probabilities of correct classification"; Snapinn and Knoke 1985, "An evaluation of
    smoothed classification error-rate estimators"). As the scale is that of the margins themselves, how sure of itself
    a classifier is in general changes nothing.

    Args:
        labels: class indices, (rows,).
        scores: log-probabilities or logits, (rows, labels).
    """
    from scipy.special import ndtr

    rows, answers = np.arange(len(labels)), scores.argmax(axis=1)
    met = np.isin(np.arange(scores.shape[1]), np.concatenate([labels, answers]))
    others = scores.copy()
    others[rows, labels] = -np.inf
    if met.sum() > 1:
        others[:, ~met] = -np.inf
    rivals: Labels = others.argmax(axis=1)
    margins = scores[rows, labels] - scores[rows, rivals]
    scale = BANDWIDTH * np.cbrt(ROWS / len(rows)) * np.sqrt(np.mean(margins**2))
    shares: Array = ndtr(margins / scale) if scale else np.full(len(rows), 0.5)
    return rivals, shares
