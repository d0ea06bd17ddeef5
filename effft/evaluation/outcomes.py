"""Labels beside answers, counted: every metric of a split, and every interval, is a function of these counts."""

from abc import ABC, abstractmethod
from functools import cached_property

import numpy as np

from effft.evaluation.metrics import (
    MULTI_LABEL_METRICS,
    Array,
    Labels,
    confusion_of,
    f1_metrics,
    four_metrics,
    metrics_of_counts,
    ordinal_metrics,
)
from effft.tasks.task import Task

TINY = 1e-9
"""What a cell without rows counts in a posterior, whose parameters have to be above zero."""


class Outcomes(ABC):
    """What was answered to what, as counts of cells; a subclass for each kind of label.

    weights: rows in each cell, (cells,); a row that repeats of cross-validation answer differently counts in part for
    each answer. right, wrong: one pseudo-row that is answered rightly, or wrongly, spread over the labels; (cells,).
    spread: of so many pseudo-rows each label has one. places: the cell of every answer to a row, (repeats * rows,).
    """

    weights: Array
    places: Labels
    right: Array
    wrong: Array
    spread: int

    @property
    @abstractmethod
    def values(self) -> dict[str, float]:
        """The metrics of these rows."""

    @property
    @abstractmethod
    def references(self) -> dict[str, float]:
        """What answers that know nothing score, and how many labels occur."""

    @abstractmethod
    def metrics(self, weights: Array) -> dict[str, Array]:
        """The metrics of other weights of the cells, (draws, cells): (draws,) each."""

    @abstractmethod
    def recalls(self, weights: Array) -> Array:
        """Of the rows that have a label, the share answered with it, (draws, labels); NaN where no row has it."""

    @property
    @abstractmethod
    def rows_of_labels(self) -> Labels:
        """How many rows have each label, (labels,)."""

    def intervals(self, resamples: int, seed: int = 0) -> dict[str, float]:
        """95 % percentile bootstrap bounds (Efron 1979), '<metric>_low' and '<metric>_high' of every metric.

        Each metric depends on the counts only, so resampling rows is drawing those counts from a multinomial: exact,
        and the cost does not grow with the rows.
        """
        rng, total = np.random.default_rng(seed), self.weights.sum()
        return bounds(self.metrics(rng.multinomial(int(total), self.weights / total, size=resamples).astype(float)))

    def posterior(self, row_weight: float, resamples: int, pseudo_rows: int = 1, seed: int = 0) -> Array:
        """Counts that the rows could have given as well, as shares, (2, resamples, cells).

        The Bayesian bootstrap (Rubin 1981): weights of rows are drawn, not counts, and of a row that several repeats of
        cross-validation answer differently, each answer takes its share; so the draws cover rows and repeats. The first
        half has a pseudo-row that is answered rightly, the second one that is answered wrongly: for accuracy the outer
        ends of the two are the interval of Clopper and Pearson (1934), which holds near 0 and 1 too; with `spread`
        pseudo-rows they are so for the recall of a label.

        Args:
            row_weight: what a row counts.
            resamples: number of draws of each half.
            pseudo_rows: how many.
            seed: of the draws.
        """
        rng, rows = np.random.default_rng(seed), row_weight * self.weights + TINY
        halves = (rows + pseudo_rows * cells for cells in (self.right, self.wrong))
        return np.stack([rng.dirichlet(half, size=resamples) for half in halves])


class ConfusionTable(Outcomes):
    """Every row has one label: counts (label, answer).

    Args:
        labels: class indices, (rows,).
        answers: class indices, (rows,), or (repeats, rows).
        count: number of labels.
        ordinal: whether their order means something.
    """

    def __init__(self, labels: Labels, answers: Labels, count: int, ordinal: bool = False) -> None:
        self.labels, self.answers, self.count, self.ordinal = labels, answers, count, ordinal
        self.weights = np.mean([confusion_of(labels, row, count) for row in np.atleast_2d(answers)], axis=0).ravel()
        self.places = (labels * count + answers).ravel()
        self.spread, same = count, np.eye(count).ravel()
        self.right, self.wrong = same / count, (1 - same) / (count * max(1, count - 1))

    @property
    def values(self) -> dict[str, float]:
        """The four metrics, and those of ordinal labels."""
        known = {name: float(value[0]) for name, value in self.metrics(self.weights[None]).items()}
        repeated = self.answers.ndim > 1
        return known if repeated else known | four_metrics(self.labels, self.answers, self.count)

    @property
    def references(self) -> dict[str, float]:
        """Accuracy of the most frequent label and of guessing; macro F1, in which guessing depends on the shares."""
        shares = self.rows_of_labels / len(self.labels)
        most, occurring = float(shares.max()), float((shares > 0).sum())
        known = {"majority": most, "chance": 1 / self.count, "labels": occurring}
        guessed = float((2 * shares / (self.count * shares + 1)).mean())  # a label's rows and its answers: 1 / count
        return known | {"macro_f1_majority": 2 * most / (1 + most) / occurring, "macro_f1_chance": guessed}

    def metrics(self, weights: Array) -> dict[str, Array]:
        """As `values`."""
        tables = weights.reshape(-1, self.count, self.count)
        return metrics_of_counts(tables) | (ordinal_metrics(tables) if self.ordinal else {})

    def recalls(self, weights: Array) -> Array:
        """Diagonal over sum of the row."""
        tables = weights.reshape(-1, self.count, self.count)
        with np.errstate(invalid="ignore"):
            shares: Array = np.diagonal(tables, axis1=1, axis2=2) / tables.sum(axis=2)
        return shares

    @cached_property
    def rows_of_labels(self) -> Labels:
        """Counted in the labels."""
        return np.bincount(self.labels, minlength=self.count)


class LabelSets(Outcomes):
    """A row can have several labels, or none: counts of the different pairs of a set of labels and an answer.

    The pseudo-rows have all labels or none, and are answered with all or none. Spread over the labels they make
    intervals too short where labels are rare (docs/results.md).

    Args:
        labels: a 1 or 0 for each label, (rows, labels).
        answers: the same, or (repeats, rows, labels).
    """

    def __init__(self, labels: Labels, answers: Labels) -> None:
        self.labels, repeats = labels, answers.reshape(-1, *labels.shape)
        count = labels.shape[1]
        pseudo = np.repeat([[0, 0], [0, 1], [1, 0], [1, 1]], count, axis=1)
        pairs = np.concatenate([pseudo, *(np.hstack([labels, each]) for each in repeats)])
        cells, places = np.unique(pairs, axis=0, return_inverse=True)
        places = places.ravel()
        self.places = places[4:]
        self.weights = np.bincount(self.places, minlength=len(cells)) / len(repeats)
        self.spread, pseudo_cells = 2, np.eye(len(cells))[places[:4]]
        self.right, self.wrong = pseudo_cells[[0, 3]].mean(axis=0), pseudo_cells[[1, 2]].mean(axis=0)
        self.truth, self.given = cells[:, :count].astype(float), cells[:, count:].astype(float)

    @property
    def values(self) -> dict[str, float]:
        """MULTI_LABEL_METRICS."""
        return {name: float(value[0]) for name, value in self.metrics(self.weights[None]).items()}

    @property
    def references(self) -> dict[str, float]:
        """For each metric the better of two constant answers (the most frequent set, every label), and tossed coins."""
        sets, counts = np.unique(self.labels, axis=0, return_counts=True)
        rows, labels = self.labels.shape
        constant = [np.tile(answer, (rows, 1)) for answer in (sets[counts.argmax()], np.ones(labels, dtype=int))]
        known = [LabelSets(self.labels, answers).values for answers in constant]
        having = self.rows_of_labels[None].astype(float)
        coins = f1_metrics(having / 2, having, np.full((1, labels), rows / 2)) | {"subset_accuracy": [0.5**labels]}
        references = {f"{name}_majority": max(each[name] for each in known) for name in MULTI_LABEL_METRICS}
        references |= {f"{name}_chance": float(coins[name][0]) for name in MULTI_LABEL_METRICS}
        return references | {"labels": float((having > 0).sum())}

    def metrics(self, weights: Array) -> dict[str, Array]:
        """As `values`."""
        hits, truth, given = (weights @ each for each in (self.truth * self.given, self.truth, self.given))
        whole = weights @ (self.truth == self.given).all(axis=1).astype(float)
        return f1_metrics(hits, truth, given) | {"subset_accuracy": whole / weights.sum(axis=1)}

    def recalls(self, weights: Array) -> Array:
        """Hits over the rows that have the label."""
        with np.errstate(invalid="ignore"):
            shares: Array = weights @ (self.truth * self.given) / (weights @ self.truth)
        return shares

    @cached_property
    def rows_of_labels(self) -> Labels:
        """Counted in the labels."""
        counts: Labels = self.labels.sum(axis=0)
        return counts


def outcomes_of(task: Task, labels: Labels, answers: Labels) -> Outcomes:
    """Those of a task. answers: as the labels, or with the repeats of cross-validation first."""
    if task.multi_label:
        return LabelSets(labels, answers)
    return ConfusionTable(labels, answers, len(task.labels), task.ordinal)


def bounds(draws: dict[str, Array]) -> dict[str, float]:
    """The 95 % percentile bounds of each metric: '<metric>_low' and '<metric>_high'.

    Args:
        draws: (draws,) each; or (kinds, draws), for the outermost bounds of all kinds.
    """
    quantiles = {name: np.quantile(np.atleast_2d(v), [0.025, 0.975], axis=1) for name, v in draws.items()}
    ends = {name: (low.min(), high.max()) for name, (low, high) in quantiles.items()}
    return {f"{name}_{end}": float(ends[name][i]) for name in ends for i, end in enumerate(("low", "high"))}
