"""How often the surest answers are wrong, out of fold, and from which confidence on few errors can be promised."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FAILURE = 0.1
"""Share of the draws of training rows for which a promise may be broken."""

STARTS = 2
"""Sequences of tests that share it."""

POINTS = 200
"""Points that a risk curve keeps at most."""


@dataclass(frozen=True)
class RiskCurve:
    """Of the training rows, `answered` have at least so much `confidence` out of fold, and `wrong` of these are wrong.

    A row that the repeats answer differently counts in part. The surest come first.
    """

    confidence: tuple[float, ...]
    answered: tuple[float, ...]
    wrong: tuple[float, ...]

    @property
    def rows(self) -> float:
        """All of them."""
        return self.answered[-1]

    def threshold(self, error: float, rows: float | None = None) -> float | None:
        """The confidence from which on at most this share of the answers is wrong; None where that cannot be promised.

        The promise holds in 1 - FAILURE of the draws of training rows. Thresholds are tested by the exact binomial
        test of "the share is larger", one after another until the first that does not reject it (fixed-sequence
        testing; Angelopoulos et al. 2021, arXiv 2110.01052), because among many thresholds one is found
        where few rows happen to be right (Geifman and El-Yaniv 2017, arXiv 1705.08500). One sequence begins at the
        fewest rows that could reject it, the other halfway to all rows.

        Args:
            error: share of wrong answers among those given.
            rows: as if the curve had been found on so many.
        """
        factor = (rows or self.rows) / self.rows
        answered, wrong = factor * np.array(self.answered), factor * np.array(self.wrong)
        rejected = binomial_tail(answered, wrong, error) <= FAILURE / STARTS
        first, found = math.log(FAILURE / STARTS) / math.log1p(-error), []
        for start in (first, (first + answered[-1]) / 2):
            place = int(np.searchsorted(answered, start - 1e-9))
            failed = np.flatnonzero(~rejected[place:])
            end = place + int(failed[0]) if len(failed) else len(rejected)
            found += [self.confidence[end - 1]] if end > place else []
        return min(found, default=None)

    def rows_needed(self, error: float) -> int | None:
        """About how many rows would promise it if the surest stayed as often wrong; None for more than 10,000 times."""
        for factor in 1.1 ** np.arange(1, 98):
            if self.threshold(error, factor * self.rows) is not None:
                return int(-(-factor * self.rows // 10) * 10)
        return None

    @property
    def smallest(self) -> float | None:
        """The smallest whole percentage that can be promised, as a share; None for none."""
        return next((share / 100 for share in range(1, 100) if self.threshold(share / 100) is not None), None)


def binomial_tail(answered: NDArray[np.float64], wrong: NDArray[np.float64], error: float) -> NDArray[np.float64]:
    """The probability of at most so many wrong answers where each is wrong with probability `error`.

    The beta function carries it to counts that are not whole.
    """
    from scipy.special import betainc

    right = np.maximum(answered - wrong, 1e-9)
    return np.asarray(betainc(right, wrong + 1, 1 - error))


def risk_curve(scores: Tensor, labels: Tensor) -> RiskCurve:
    """The curve of out-of-fold scores, (repeats, rows, labels): every repeat counts a row in part.

    Of rows that can have several labels, (repeats, rows, labels, 2), an answer is the whole set: as sure as all of its
    parts together, as if they were independent, and wrong where one is.
    """
    sure, answers = scores.double().log_softmax(dim=-1).exp().max(dim=-1)
    sure, right = (each.reshape(*scores.shape[:2], -1) for each in (sure, answers == labels))
    sure, wrong = sure.prod(dim=-1).flatten(), ~right.all(dim=-1).flatten()
    order = sure.argsort(descending=True, stable=True)
    confidence, wrong = sure[order], wrong[order].cumsum(0) / len(scores)
    answered = torch.arange(1, len(order) + 1) / len(scores)
    last = [i for i in range(len(order)) if i + 1 == len(order) or confidence[i] > confidence[i + 1]]
    chosen = last[:: -(-len(last) // POINTS)]
    chosen += [] if chosen[-1] == last[-1] else last[-1:]
    return RiskCurve(*(tuple(values[chosen].tolist()) for values in (confidence, answered, wrong)))
