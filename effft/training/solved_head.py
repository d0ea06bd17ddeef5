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

from effft.strategies.batch import Item
from effft.strategies.learner import Learner

FOLDS = 5
STRENGTHS = tuple(10.0**power for power in range(-3, 4))
"""Inverse strengths of the L2 penalty that are tried, for states of variance 1 a dimension on average."""

Rows = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]
"""States (rows, width), labels (rows,) and weights (rows,)."""


def solve_head(learner: Learner, items: Sequence[Item], seed: int, validation: Sequence[Item] = ()) -> float:
    """Give the learner's head the weights of a multinomial logistic regression with an L2 penalty.

    States are centred and divided by one number, the root of their mean variance, which leaves their geometry alone
    (a number for each dimension did no better); both are then folded into weights and bias. The penalty is the one
    with the smallest cross-entropy on `validation`, or else out of fold, in stratified folds of the items. A label
    without items scores below the others.

    Args:
        learner: its head is set; its class weights count.
        items: labelled prompts.
        seed: of the folds.
        validation: labelled prompts that choose the penalty.

    Returns:
        The cross-entropy on the items, a mean.
    """
    assert learner.head is not None
    raw = _states(learner, items)
    mean, scale = raw.mean(axis=0), math.sqrt(raw.var(axis=0).mean()) or 1.0
    rows = _rows(learner, items, (raw - mean) / scale)
    if validation:
        splits = [(rows, _rows(learner, validation, (_states(learner, validation) - mean) / scale))]
    else:
        splits = [(_part(rows, train), _part(rows, held)) for train, held in _folds(rows[1], seed)]
    count = len(learner.task.labels)
    losses = [sum(_loss(*_fit(fitted, c, count), judged) for fitted, judged in splits) for c in STRENGTHS]
    strength = STRENGTHS[int(np.argmin(losses))] if splits else 1.0
    weight, bias = _fit(rows, strength, count)
    with torch.no_grad():
        learner.head.linear.weight.copy_(torch.from_numpy(weight / scale))
        learner.head.linear.bias.copy_(torch.from_numpy(bias - weight @ mean / scale))
    return _loss(weight, bias, rows) / float(rows[2].sum())


def _states(learner: Learner, items: Sequence[Item]) -> NDArray[np.float64]:
    states: NDArray[np.float64] = learner.pooled_states(items).double().numpy()
    return states


def _rows(learner: Learner, items: Sequence[Item], states: NDArray[np.float64]) -> Rows:
    labels = np.array([item.label for item in items])
    given = learner.class_weights
    return states, labels, np.ones(len(labels)) if given is None else given.double().cpu().numpy()[labels]


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
        return list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(labels, labels))


def _fit(rows: Rows, strength: float, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights (labels, width) and biases (labels,)."""
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
