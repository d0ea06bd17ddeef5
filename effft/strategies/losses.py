"""The losses that strategies learn by, of scores and of pooled states."""

import torch
import torch.nn.functional as F
from torch import Tensor

from effft.strategies.batch import Counts, weights_of
from effft.strategies.parts import DistillKL, Part, Pet


def pair_loss(pooled: Tensor, labels: Tensor) -> Tensor:
    """The sum over pairs of the squared difference between their cosine and their label, a scalar.

    Args:
        pooled: states, (2 * pairs, width): the first texts of all pairs, then the second.
        labels: 1 where both texts have one label, else 0, (pairs,).

    References:
        Tunstall et al. 2022, arXiv 2209.11055.
    """
    first, second = pooled.chunk(2)
    return (F.cosine_similarity(first, second) - labels).square().sum()


def label_loss(
    part: Part, scores: Tensor, labels: Tensor, teacher: Tensor | None, weights: Tensor | None, step: Counts | None
) -> Tensor:
    """Cross-entropy with the labels, where there is a teacher joined by the divergence from it; a mean, a scalar.

    Args:
        part: what the strategy learns by.
        scores: of the labels, (batch, labels), or (batch, labels, 2) where a row can have several.
        labels: as in `Batch`; below 0 where none is known.
        teacher: as in `Batch`.
        weights: of the labels in cross-entropy, as in `weights_of`; None where all weigh the same.
        step: counts of the optimizer step that these scores are a part of; None where they are the whole.
    """
    known = labels >= 0
    taught = ~teacher[:, 0].isnan() if teacher is not None else torch.zeros_like(known)
    own = weights_of(labels, weights)[known].to(scores) if weights is not None else None
    mean = float(own.mean()) if own is not None and known.any() else 1.0
    counts = step or Counts(len(scores), int(known.sum()), int(taught.sum()), mean)
    if own is None:
        ce = F.cross_entropy(scores[known], labels[known], reduction="sum")
    else:
        ce = (F.cross_entropy(scores[known], labels[known], reduction="none") * own).sum() / counts.weight
    if not isinstance(part, DistillKL | Pet) or not counts.taught:
        return ce / max(1, counts.labelled)
    kl = scores.sum() * 0
    if teacher is not None:
        kl = distill_kl(scores[taught], teacher[taught].to(scores.dtype), part.temperature)
    return (part.kl_weight * kl + (1 - part.kl_weight) * ce) / counts.examples


def distill_kl(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(teacher || student) over the labels, summed over the batch; zero when they agree.

    Args:
        student: scores, (batch, labels); renormalised over the labels, as the teacher's are.
        teacher: scores, (batch, labels).
        temperature: divides both; the result is multiplied by its square, so that gradients keep their size
            (Hinton et al. 2015, arXiv 1503.02531, section 2).
    """
    return temperature**2 * F.kl_div(
        (student / temperature).log_softmax(dim=-1),
        (teacher / temperature).log_softmax(dim=-1),
        reduction="sum",
        log_target=True,
    )
