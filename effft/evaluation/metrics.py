"""Numbers from labels and scores, of one set of answers or of many confusion tables at once.

They are scikit-learn's to the last bit, in a few lines: importing it would take a third of a second of every run.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Labels = NDArray[np.int64]

METRICS = {
    "accuracy": "share of right answers",
    "balanced_accuracy": "mean over labels of the share of right answers",
    "mcc": "Matthews correlation, -1 to 1, 0 at chance",
    "macro_f1": "mean F1 over the labels that occur or are answered",
}
"""What is measured where every row has one label."""

ORDINAL_METRICS = {
    "quadratic_kappa": "Cohen's kappa with squared distances as weights, 1 where all is right, 0 at chance",
    "mean_absolute_error": "mean distance of the answer from the label, in steps of the order; lower is better",
}
"""What is measured beside these where the order of the labels means something."""

RANGES = {"mcc": (-1, 1), "quadratic_kappa": (-1, 1)}
"""Least and highest value of a primary metric; of others 0 and 1."""

MULTI_LABEL_METRICS = {
    "macro_f1": "mean F1 over the labels that occur or are answered",
    "micro_f1": "F1 of all yes and no of all labels together",
    "subset_accuracy": "share of rows whose labels are all right",
}
"""What is measured where a row can have several labels."""

FURTHER_METRICS = (*ORDINAL_METRICS, "micro_f1", "subset_accuracy")
"""Metrics that only some tasks have."""

WORST_SLICE = "worst_slice_accuracy"
"""The lowest accuracy of the slices of a split, or of the labels where it has none (Sagawa et al. 2020, 1911.08731)."""

BINS = 15
"""Bins of the calibration error (Guo et al. 2017, arXiv 1706.04599)."""


def four_metrics(labels: Labels, answers: Labels, count: int) -> dict[str, float]:
    """The METRICS of `answers` against `labels`, both (examples,) class indices below `count`.

    Macro F1 is the mean over the labels in truth or answers, as in scikit-learn. The correlation is 0 where it is not
    defined (one label in truth or answers), but for answers that are all right, which score 1 in every metric.
    """
    table = confusion_of(labels, answers, count)
    rows, columns, hits = table.sum(axis=1), table.sum(axis=0), table.diagonal()
    recalls = [float((answers[labels == c] == c).mean()) for c in range(count) if (labels == c).any()]
    known = rows + columns > 0
    return {
        "accuracy": float((labels == answers).mean()),
        "balanced_accuracy": float(np.mean(recalls)),
        "mcc": _correlation(rows.astype(float), columns.astype(float), float(hits.sum())),
        "macro_f1": float((2.0 * hits[known] / (rows + columns)[known]).mean()),
    }


def _correlation(rows: Array, columns: Array, hits: float) -> float:
    """The Matthews correlation (Gorodkin 2004) from the rows of each label, the answers with it, and the right ones."""
    total = columns.sum()
    spread = (total**2 - np.dot(columns, columns)) * (total**2 - np.dot(rows, rows))
    if hits == total:
        return 1.0
    return float((hits * total - np.dot(rows, columns)) / np.sqrt(spread)) if spread else 0.0


def calibration_error(labels: Labels, probabilities: Array) -> float:
    """Expected calibration error: mean over 15 bins of |confidence - accuracy|, weighted by bin size."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [abs(float(confidence[bins == b].sum() - right[bins == b].sum())) for b in np.unique(bins)]
    return sum(gaps) / len(labels)


def proper_scores(labels: Labels, probabilities: Array) -> dict[str, float]:
    """Mean negative log-likelihood (nats) and Brier score (squared distance over all labels, 0 to 2)."""
    chosen = np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12)
    distance = ((probabilities - np.eye(probabilities.shape[1])[labels]) ** 2).sum(axis=1)
    return {"negative_log_likelihood": float(-np.log(chosen).mean()), "brier": float(distance.mean())}


def probability_metrics(labels: Labels, probabilities: Array) -> dict[str, float]:
    """What probabilities are worth: (rows,) class indices and (rows, labels) probabilities.

    Where rows can have several labels, (rows, labels) of 1 and 0 and (rows, labels, 2), every label of a row counts as
    an answer between no and yes.
    """
    labels, probabilities = labels.ravel(), probabilities.reshape(-1, probabilities.shape[-1])
    return {
        "calibration_error": calibration_error(labels, probabilities),
        **proper_scores(labels, probabilities),
        "risk_coverage_area": risk_coverage_area(labels, probabilities),
    }


def risk_coverage_area(labels: Labels, probabilities: Array) -> float:
    """Mean error of the surest answers over every coverage (Geifman et al. 2019, arXiv 1805.08206): lower is better."""
    order = np.argsort(-probabilities.max(axis=1), kind="stable")
    wrong = (probabilities.argmax(axis=1) != labels)[order]
    return float((np.cumsum(wrong) / np.arange(1, len(labels) + 1)).mean())


def softmax(scores: Array) -> Array:
    """Probabilities over the last axis."""
    shifted = np.exp(scores - scores.max(axis=-1, keepdims=True))
    result: Array = shifted / shifted.sum(axis=-1, keepdims=True)
    return result


def confusion_of(labels: Labels, answers: Labels, count: int) -> NDArray[np.int64]:
    """Counts (label, answer), shape (count, count)."""
    return np.bincount(labels * count + answers, minlength=count * count).reshape(count, count)


def metrics_of_counts(tables: Array) -> dict[str, Array]:
    """METRICS of many confusion tables at once: (resamples, labels, answers) -> (resamples,) each."""
    total = tables.sum(axis=(1, 2))
    hits = np.diagonal(tables, axis1=1, axis2=2)
    rows, columns = tables.sum(axis=2), tables.sum(axis=1)
    right = hits.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        balanced = np.nanmean(np.where(rows > 0, hits / rows, np.nan), axis=1)
        f1 = np.nanmean(2 * hits / (rows + columns), axis=1)  # 0 / 0 where a label is neither in truth nor answers
        top = right * total - (rows * columns).sum(axis=1)
        bottom = np.sqrt((total**2 - (columns**2).sum(axis=1)) * (total**2 - (rows**2).sum(axis=1)))
        mcc = np.where(right == total, 1.0, np.where(bottom > 0, top / bottom, 0.0))
    return {"accuracy": right / total, "balanced_accuracy": balanced, "mcc": mcc, "macro_f1": f1}


def ordinal_metrics(tables: Array) -> dict[str, Array]:
    """ORDINAL_METRICS of many confusion tables at once: (resamples, labels, answers) -> (resamples,) each.

    Quadratic kappa (Cohen 1968) is 1 - the squared distances over those that answers independent of the labels would
    have; 0 where these have none (one label in truth and answers alike), unless all is right.
    """
    total, places = tables.sum(axis=(1, 2)), np.arange(tables.shape[1])
    distance = np.abs(places[:, None] - places)
    rows, columns = tables.sum(axis=2), tables.sum(axis=1)
    observed = (tables * distance**2).sum(axis=(1, 2))
    expected = np.einsum("ni,ij,nj->n", rows, distance**2, columns) / total
    with np.errstate(divide="ignore", invalid="ignore"):
        kappa = np.where(observed == 0, 1.0, np.where(expected > 0, 1 - observed / expected, 0.0))
    return {"quadratic_kappa": kappa, "mean_absolute_error": (tables * distance).sum(axis=(1, 2)) / total}


def f1_metrics(hits: Array, labels: Array, answers: Array) -> dict[str, Array]:
    """Macro and micro F1 from counts of each label, all (resamples, labels): hits, rows that have it, answers with it.

    Macro F1 is the mean over the labels in truth or answers; where there is none, all is right and both are 1.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        each = 2 * hits / (labels + answers)
        known = labels + answers > 0
        macro = np.where(known, each, 0.0).sum(axis=1) / known.sum(axis=1)
        micro = 2 * hits.sum(axis=1) / (labels + answers).sum(axis=1)
    nothing = ~known.any(axis=1)
    return {"macro_f1": np.where(nothing, 1.0, macro), "micro_f1": np.where(nothing, 1.0, micro)}
