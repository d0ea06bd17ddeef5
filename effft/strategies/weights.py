"""What trains of a learner as values: read, put back, averaged, and mixed with where it began."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from effft.models.precision import master_of, remainder_of
from effft.strategies.learner import Learner

Weights = dict[str, Tensor]
"""Name of a parameter that trains -> its values."""


def weights_of(learner: Learner) -> Weights:
    """A copy; of a parameter in bf16 the fp32 values that it is rounded from."""
    return {
        name: master_of(p.data, learner.remainders[id(p)]) if id(p) in learner.remainders else p.detach().clone()
        for name, p in learner.trainable_parameters.items()
    }


def set_weights(learner: Learner, weights: Weights) -> None:
    """Put them in place."""
    with torch.no_grad():
        for name, parameter in learner.trainable_parameters.items():
            parameter.copy_(weights[name])
            if id(parameter) in learner.remainders:
                learner.remainders[id(parameter)].copy_(remainder_of(weights[name], parameter.data))


def mean(several: Sequence[Weights]) -> Weights:
    """The mean of each parameter: a soup (Wortsman et al. 2022, arXiv 2203.05482)."""
    return {name: torch.stack([one[name] for one in several]).mean(dim=0) for name in several[0]}


def between(start: Weights, end: Weights, share: float) -> Weights:
    """The point on the line from `start` (share 0) to `end` (share 1), exact at both (WiSE-FT, arXiv 2109.01903)."""
    return {name: torch.lerp(start[name], end[name], share) for name in start}


def each_member(learner: Learner) -> Iterator[Learner]:
    """The learner once as each member of its ensemble; as it is, where it is none."""
    for weights in learner.members:
        set_weights(learner, weights)
        yield learner
    if not learner.members:
        yield learner
