"""A linear head solved, not trained by steps: logistic regression on the pooled states of the training texts."""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from effft.errors import RunError
from effft.strategies.batch import Item, weights_of
from effft.strategies.learner import Learner

FOLDS = 5
STRENGTHS = tuple(10.0**power for power in range(-3, 4))
"""Inverse strengths of the L2 penalty that are tried, for states of variance 1 a dimension on average."""

Rows = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]
"""States (rows, width), labels (rows,) and weights (rows,); of several labels a row a column for each."""

Head = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Weights (labels, width) and biases (labels,)."""


def solve_head(learner: Learner, items: Sequence[Item], seed: int, validation: Sequence[Item] = ()) -> float:
    """Give the learner's head the weights of a multinomial logistic regression with an L2 penalty.

    States are centred and divided by one number, the root of their mean variance, which leaves their geometry alone
    (a number for each dimension did no better); both are then folded into weights and bias. The penalty is the one
    with the smallest cross-entropy on `validation`, or else out of fold, in stratified folds of the items. A label
    without items scores below the others. Labels that can stand together are solved one by one.

    Args:
        learner: its head is set; its class weights count.
        items: labelled prompts.
        seed: of the folds.
        validation: labelled prompts that choose the penalty.

    Returns:
        The cross-entropy on the items, a mean.

    Raises:
        RunError: a state is infinite or NaN.
    """
    assert learner.head is not None
    raw = _states(learner, items)
    mean, scale = raw.mean(axis=0), math.sqrt(raw.var(axis=0).mean()) or 1.0
    rows = _rows(learner, items, (raw - mean) / scale)
    judges = [_rows(learner, validation, (_states(learner, validation) - mean) / scale)] if validation else []
    if learner.task.multi_label:  # the log-odds of yes, label by label
        count = len(learner.task.labels)
        each = [_solve(_of_label(rows, n), [_of_label(one, n) for one in judges], 2, seed) for n in range(count)]
        weight, bias = (np.stack([values[1] - values[0] for values in found]) for found in zip(*each, strict=True))
        losses = [_loss(*found, _of_label(rows, n)) for n, found in enumerate(each)]
    else:
        weight, bias = _solve(rows, judges, len(learner.task.labels), seed)
        losses = [_loss(weight, bias, rows)]
    with torch.no_grad():
        learner.head.linear.weight.copy_(torch.from_numpy(weight / scale))
        learner.head.linear.bias.copy_(torch.from_numpy(bias - weight @ mean / scale))
    return sum(losses) / float(rows[2].sum())


def _solve(rows: Rows, judges: Sequence[Rows], count: int, seed: int) -> Head:
    """Weights and biases at the penalty with the smallest cross-entropy on `judges`, or else out of fold."""
    splits = [(rows, judge) for judge in judges] or [
        (_part(rows, train), _part(rows, held)) for train, held in _folds(rows[1], seed)
    ]
    losses = [sum(_loss(*_fit(fitted, c, count), judged) for fitted, judged in splits) for c in STRENGTHS]
    return _fit(rows, STRENGTHS[int(np.argmin(losses))] if splits else 1.0, count)


def _of_label(rows: Rows, label: int) -> Rows:
    """The rows as ones of no or yes to one of several labels."""
    states, labels, weights = rows
    return states, labels[:, label], weights[:, label]


def _states(learner: Learner, items: Sequence[Item]) -> NDArray[np.float64]:
    """(items, width), finite, as the head reads them."""
    assert learner.head is not None
    states: NDArray[np.float64] = learner.head.direction(learner.pooled_states(items).double()).numpy()
    if not np.isfinite(states).all():
        raise RunError(
            "the states that the classifier reads are not finite; nothing was updated yet, so try --precision "
            "fp32, or another --model."
        )
    return states


def _rows(learner: Learner, items: Sequence[Item], states: NDArray[np.float64]) -> Rows:
    labels, given = torch.tensor([item.label for item in items]), learner.class_weights
    weights = torch.ones_like(labels) if given is None else weights_of(labels, given.cpu())
    return states, labels.numpy(), weights.double().numpy()


def _part(rows: Rows, chosen: NDArray[np.int64]) -> Rows:
    states, labels, weights = rows
    return states[chosen], labels[chosen], weights[chosen]


def _folds(labels: NDArray[np.int64], seed: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(rows that train, rows held out) of each fold; none where no label has two rows."""
    from sklearn.model_selection import StratifiedKFold

    folds = min(FOLDS, int(np.bincount(labels).max()))
    if folds < 2:
        return []
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # a label with fewer rows than folds
        return list(StratifiedKFold(folds, shuffle=True, random_state=seed % 2**32).split(labels, labels))


def _fit(rows: Rows, strength: float, count: int) -> Head:
    """The head at one inverse strength of the penalty."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    states, labels, sizes = rows
    weight, bias = np.zeros((count, states.shape[1])), np.zeros(count)
    present = np.unique(labels)
    if len(present) > 1:
        with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
            model: Any = LogisticRegression(C=strength, max_iter=1000).fit(states, labels, sizes)
        halves = np.array([[-0.5], [0.5]]) if len(present) == 2 else np.eye(len(present))  # two labels have one row
        weight[present], bias[present] = halves @ model.coef_, halves @ model.intercept_
    lowest = (states @ weight.T + bias)[:, present].min()
    bias[np.setdiff1d(np.arange(count), present)] = lowest - math.log(2 * len(labels))
    return weight, bias


def _loss(weight: NDArray[np.float64], bias: NDArray[np.float64], rows: Rows) -> float:
    """The weighted sum of the cross-entropies."""
    states, labels, sizes = rows
    losses: Tensor = F.cross_entropy(
        torch.from_numpy(states @ weight.T + bias), torch.from_numpy(labels), reduction="none"
    )
    return float(losses.numpy() @ sizes)
