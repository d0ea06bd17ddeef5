"""What a step of a pack computes at once for trials that differ: the loss of every row, the update of every trial."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from effft.multi_adapter.stacked_parameters import StackedParameters
from effft.strategies.batch import Batch, Counts, Item
from effft.strategies.parts import DistillKL, Part

FIRST, SECOND, EPSILON = 0.9, 0.999, 1e-8
"""AdamW's constants, torch's defaults, as a lone run has them."""


class LossTerms(NamedTuple):
    """What a row's cross-entropy and KL count in the loss of its trial's step, and the temperature of its KL."""

    ce: float
    kl: float
    temperature: float


def terms_of(loss: Part, whole: Counts, item: Item) -> LossTerms:
    """As `Learner.loss` weighs them; whole: the counts of the trial's step."""
    labelled, taught = float(item.label >= 0), float(item.teacher is not None)
    if not isinstance(loss, DistillKL) or not whole.taught:
        return LossTerms(labelled / max(1, whole.labelled), 0.0, 1.0)
    ce, kl = (1 - loss.kl_weight) / whole.examples, loss.kl_weight / whole.examples
    return LossTerms(labelled * ce, taught * kl, loss.temperature)


def row_losses(scores: Tensor, batch: Batch, terms: Sequence[LossTerms]) -> Tensor:
    """The part of each row in its trial's loss, (rows,); a trial's parts add up to `Learner.loss` of its step."""
    ce, kl, temperature = torch.tensor(terms, dtype=scores.dtype, device=scores.device).unbind(1)
    losses = ce * F.cross_entropy(scores, batch.labels, reduction="none", ignore_index=-1)
    if batch.teacher is not None and any(term.kl for term in terms):
        heat = temperature.unsqueeze(1)
        student = (scores / heat).log_softmax(dim=-1)
        teacher = (batch.teacher.nan_to_num().to(scores.dtype) / heat).log_softmax(dim=-1)
        apart = F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=1)
        losses = losses + kl * temperature.square() * apart
    return losses


class MemberUpdate(NamedTuple):
    """One trial's own in an update. step: which it is (from 1); scale: of its gradient."""

    step: int
    rate: float
    scale: float
    decay: float


@torch.no_grad()
def adamw(stacked: StackedParameters, moves: Sequence[MemberUpdate]) -> None:
    """AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) on all trials at once, each at its own rate."""
    values, mean, square = stacked.values, stacked.mean, stacked.square
    table = torch.tensor(moves, dtype=torch.float64)
    step, rate, scale, decay = (column.unsqueeze(1) for column in table.unbind(1))
    size, sharpness = rate / (1 - FIRST**step), (1 - SECOND**step).sqrt()
    gradient = stacked.gradient.to(values.dtype) * scale.to(values)
    mean.lerp_(gradient, 1 - FIRST)
    square.mul_(SECOND).addcmul_(gradient, gradient, value=1 - SECOND)
    if decay.any():
        values.mul_(1 - (rate * decay).to(values) * stacked.decays)
    values.sub_(mean / (square.sqrt() / sharpness.to(values) + EPSILON) * size.to(values))
    if stacked.is_rounded:
        stacked.work.copy_(values)
