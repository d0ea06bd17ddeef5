"""Numbers from labels and scores (scikit-learn), bootstrap intervals, calibration, reference rows."""

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
"""What a task may name as its metric."""

BINS = 15
"""Bins of the calibration error (Guo et al. 2017, arXiv 1706.04599)."""


def four_metrics(labels: Labels, answers: Labels, count: int) -> dict[str, float]:
    """The METRICS of `answers` against `labels`, both (examples,) class indices below `count`.

    Macro F1 is the mean over the labels in truth or answers, as in scikit-learn. The correlation is 0 where it is not
    defined (one label in truth or answers), but for answers that are all right, which score 1 in every metric.
    """
    from sklearn import metrics

    recalls = [float((answers[labels == c] == c).mean()) for c in range(count) if (labels == c).any()]
    if (labels == answers).all():
        mcc = 1.0
    else:
        mcc = float(metrics.matthews_corrcoef(labels, answers)) if len(set(labels)) > 1 else 0.0
    return {
        "accuracy": float(metrics.accuracy_score(labels, answers)),
        "balanced_accuracy": float(np.mean(recalls)),  # as scikit-learn defines it, without its warnings
        "mcc": mcc,
        "macro_f1": float(metrics.f1_score(labels, answers, average="macro", zero_division=0.0)),
    }


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


def risk_coverage_area(labels: Labels, probabilities: Array) -> float:
    """Mean error of the surest answers over every coverage (Geifman et al. 2019, arXiv 1805.08206): lower is better."""
    order = np.argsort(-probabilities.max(axis=1), kind="stable")
    wrong = (probabilities.argmax(axis=1) != labels)[order]
    return float((np.cumsum(wrong) / np.arange(1, len(labels) + 1)).mean())


def softmax(scores: Array) -> Array:
    """Probabilities over the labels, (examples, labels)."""
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    result: Array = shifted / shifted.sum(axis=1, keepdims=True)
    return result


def confusion_of(labels: Labels, answers: Labels, count: int) -> NDArray[np.int64]:
    """Counts (label, answer), shape (count, count)."""
    return np.bincount(labels * count + answers, minlength=count * count).reshape(count, count)


def intervals(labels: Labels, answers: Labels, count: int, resamples: int, seed: int = 0) -> dict[str, float]:
    """95 % percentile bootstrap bounds (Efron 1979), '<metric>_low' and '<metric>_high' for each of METRICS.

    Each metric depends on the confusion counts only, so resampling examples is drawing those counts from a
    multinomial: exact, and the cost does not grow with the examples.
    """
    table = confusion_of(labels, answers, count).ravel()
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(table.sum(), table / table.sum(), size=resamples).reshape(-1, count, count)
    bounds: dict[str, float] = {}
    for name, values in metrics_of_counts(drawn.astype(np.float64)).items():
        low, high = np.quantile(values, [0.025, 0.975])
        bounds |= {f"{name}_low": float(low), f"{name}_high": float(high)}
    return bounds


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
