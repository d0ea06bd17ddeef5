"""What the rows that were validated on say of the score of each arm, and of the differences between arms."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from effft.evaluation.cross_validation import ROW_WEIGHT
from effft.evaluation.metrics import WORST_SLICE, Labels
from effft.evaluation.outcomes import Outcomes, outcomes_of
from effft.evaluation.statistics import RESAMPLES, Array
from effft.tasks.task import Task

Unit = tuple[int, int]  # Seed and fold of one training; the seed cuts the folds.
Answers = Mapping[str, Sequence[Any]]  # The columns of what a unit was validated on, as of a `JobResult`.

CHUNK = 100  # Draws that are in memory at a time.
LEAST = 0.1  # Of all Dirichlet weights together: of few folds no weights give a mean so much variance.


class Pooled:
    """The answers of an arm on all its units together, one metric over all rows: each row counts once.

    Args:
        measured: on each unit.
        task: of the rows.
        metric: one of the task.
        smooth: a row counts in its share as right, else as answered with its rival, where these are known.
    """

    def __init__(self, measured: Mapping[Unit, Answers], task: Task, metric: str, smooth: bool = False) -> None:
        from scipy.sparse import csr_array

        smooth = smooth and all("share" in own for own in measured.values())

        def column(name: str) -> list[Any]:
            return [value for own in measured.values() for value in own[name]]

        def read(name: str) -> Labels:
            return np.array([task.read(str(value)) for value in column(name)])

        labels, answers = read("label"), read("answer")
        self.rows, self.metric = np.array(column("row")), metric
        self.units = np.repeat(np.arange(len(measured)), [len(own["row"]) for own in measured.values()])
        _, place, times = np.unique(self.rows, return_inverse=True, return_counts=True)
        self.shares = 1 / times[place]
        self.found: Outcomes = outcomes_of(task, labels, answers)
        if metric == WORST_SLICE:
            slices = [own for each in measured.values() for own in each.get("slices", [[one] for one in each["label"]])]
            names = sorted({name for own in slices for name in own})
            self.slices = np.array([[name in own for name in names] for own in slices], dtype=float)
            self.right = (np.array(column("share")) if smooth else (labels == answers).astype(float))[:, None]
        places, parts = [self.found.places], [np.ones(len(labels))]
        if smooth:
            share = np.array(column("share"))
            places = [outcomes_of(task, labels, other).places for other in (labels, read("rival"))]
            parts = [share, 1 - share]
        rows, shape = np.tile(np.arange(len(labels)), len(parts)), (len(labels), len(self.found.weights))
        self.cells = csr_array((np.concatenate(parts), (rows, np.concatenate(places))), shape=shape)

    def scores(self, weights: Array, pseudo: Array | float = 0.0) -> Array:
        """The metric where the answers weigh so much, (draws, answers): (draws,).

        pseudo: counts of cells to add, (draws, cells).
        """
        weights = weights * self.shares
        if self.metric == WORST_SLICE:  # each has its part of a pseudo-row
            parts, ones = pseudo / self.slices.shape[1], np.ones_like(self.found.right)
            hits, rows = (np.sum(parts * cells, axis=-1)[..., None] for cells in (np.sign(self.found.right), ones))
            with np.errstate(invalid="ignore"):
                shares = (weights @ (self.slices * self.right) + hits) / (weights @ self.slices + rows)
            worst: Array = np.nanmin(shares, axis=1)
            return worst
        counts = weights @ self.cells + pseudo
        return self.found.metrics(counts)[self.metric]

    @property
    def score(self) -> float:
        """The metric."""
        return float(self.scores(np.ones((1, len(self.rows))))[0])


def smoothed_metric(task: Task, metric: str, measured: Mapping[Unit, Answers]) -> float:
    """The smoothed metric of the answers on all these units together."""
    return Pooled(measured, task, metric, smooth=True).score


def posterior(arms: Sequence[Pooled], folds: int = 0) -> Array:
    """Draws of the scores that the arms could have as well, (2, arms, draws).

    The law of the out-of-fold estimate of a run (`Outcomes.posterior`): rows are drawn by the Bayesian bootstrap, the
    same for all arms, and each arm has a pseudo-row of its own, which is answered rightly in [0] and wrongly in [1].

    Args:
        arms: on the same units, in the same order.
        folds: Of how many parts a unit validates one. Where given, units are drawn too, as their models differ and so
            will that of all rows: n Dirichlet weights that give a mean the variance 1 / n + 1 / (folds - 1) of a unit,
            as units share their rows (Nadeau and Bengio 2003, "Inference for the generalization error", section 3).
    """
    rows, units = np.unique(np.concatenate([arm.rows for arm in arms])), 1 + int(arms[0].units.max())
    places = [np.searchsorted(rows, arm.rows) for arm in arms]
    rng, drawn = np.random.default_rng(0), list[Array]()
    for _ in range(RESAMPLES // CHUNK):
        of_rows, of_units = rng.gamma(ROW_WEIGHT, size=(CHUNK, len(rows))), np.ones((CHUNK, units))
        if folds and units > 1:
            total = max(1 / (1 / units + 1 / (folds - 1)) - 1, LEAST)
            of_units = units * rng.dirichlet(np.full(units, total / units), size=CHUNK)
        drawn.append(np.array([
            [
                arm.scores(of_rows[:, place] * of_units[:, arm.units], rng.gamma(cells, size=(CHUNK, len(cells))))
                for arm, place in zip(arms, places, strict=True)
                for cells in [arm.found.wrong if wrong else arm.found.right]
            ]
            for wrong in (False, True)
        ]))  # fmt: skip
    return np.concatenate(drawn, axis=2)


def bounds_of(draws: Array) -> Array:
    """The outer ends of the 95 % intervals of both kinds of draws, (2, arms)."""
    ends = np.quantile(draws, [0.025, 0.975], axis=2)
    return np.stack([ends[0].min(axis=0), ends[1].max(axis=0)])


def mixed(draws: Array) -> Array:
    """Draws in which each arm has one of its two pseudo-rows, (arms, draws).

    So an arm can be the best in some that is right wherever another one is, but for a row.
    """
    wrong = np.random.default_rng(1).integers(2, size=draws.shape[1:])
    found: Array = np.where(wrong, draws[1], draws[0])
    return found
