"""Calibration: what maps label scores to label scores, so that a prompt's own preference for a label decides less."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from effft.data.examples import Example

CONTENT_FREE = ("N/A", "", "[MASK]")
"""Texts that say nothing (Zhao et al. 2021, section 5)."""

DOMAIN_TEXTS = 20
"""Texts of random words (Fei et al. 2023, section 4)."""

Score = Callable[[Sequence[Example], bool], Tensor]
"""Label scores of examples, (examples, labels); True: without the demonstrations that have an example's own texts."""


@dataclass(frozen=True)
class Calibration:
    """log_softmax(scale * scores + bias): every method here is such a map. bias: a value per label."""

    scale: float
    bias: tuple[float, ...]

    def __call__(self, scores: Tensor) -> Tensor:
        """Label scores, (rows, labels), as calibrated log-probabilities over the labels."""
        return (self.scale * scores + torch.tensor(self.bias, dtype=scores.dtype)).log_softmax(dim=-1)

    def scaled(self, scale: float) -> "Calibration":
        """This map, then a temperature of 1 / scale."""
        return Calibration(scale * self.scale, tuple(scale * bias for bias in self.bias))


def without_prior(scores: Tensor) -> Calibration:
    """Probabilities are divided by their mean over `scores`, (rows, labels)."""
    probabilities = scores.double().log_softmax(dim=-1).flatten(0, -2)
    prior = probabilities.logsumexp(dim=0) - torch.tensor(float(len(probabilities))).log()
    return Calibration(1.0, tuple((-prior).tolist()))


def affine(scores: Tensor, labels: Tensor) -> Calibration:
    """The scale and biases with the smallest cross-entropy on labelled scores, (rows, labels).

    The scale has a normal prior around 1 and the biases one around 0, of variance 100, so that few or perfectly
    separated rows give finite values. A model that answers the wrong way round gets a negative scale.
    """
    rows = scores.double().log_softmax(dim=-1)
    values = torch.zeros(1 + rows.shape[1], dtype=torch.double, requires_grad=True)  # scale - 1, biases
    optimizer = torch.optim.LBFGS([values], max_iter=500, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        cost = F.cross_entropy((1 + values[0]) * rows + values[1:], labels, reduction="sum")
        total = cost + values.square().sum() / 200
        total.backward()  # type: ignore[no-untyped-call]
        return total

    with torch.inference_mode(False), torch.enable_grad():
        optimizer.step(loss)  # type: ignore[no-untyped-call]
    scale, *bias = values.detach().tolist()
    return Calibration(1 + scale, tuple(bias))


def temperature(scores: Tensor, labels: Tensor) -> Calibration:
    """Temperature scaling (Guo et al. 2017, arXiv 1706.04599, section 4.2): the scale with the smallest cross-entropy.

    Its logarithm has a normal prior around 0 of variance 1, so that rows that are all right give a finite one.

    Args:
        scores: log-probabilities or logits of labelled rows, (rows, labels) or (rows, labels, 2), by models that have
            not seen them.
        labels: (rows,) or (rows, labels).
    """
    rows, labels = scores.double().log_softmax(dim=-1).flatten(0, -2), labels.flatten()

    def cost(power: float) -> float:
        return F.cross_entropy(math.exp(power) * rows, labels, reduction="sum").item() + power**2 / 2

    low, high = -4.0, 4.0
    while high - low > 1e-3:  # the cost has one minimum
        third = (high - low) / 3
        low, high = (low, high - third) if cost(low + third) < cost(high - third) else (low + third, high)
    return Calibration(math.exp((low + high) / 2), (0.0,) * rows.shape[1])


def content_free(shots: Sequence[Example]) -> list[Example]:
    """Every field says nothing."""
    return [Example((text,) * len(shots[0].texts), 0, row) for row, text in enumerate(CONTENT_FREE)]


def random_words(shots: Sequence[Example], seed: int) -> list[Example]:
    """Every field is words drawn from the shots' texts in it, as many as a text has on average."""
    rng = random.Random(f"{seed}/calibration")
    fields = [[text.split() for text in texts] for texts in zip(*(shot.texts for shot in shots), strict=True)]
    return [Example(tuple(" ".join(_sample(rng, words)) for words in fields), 0, row) for row in range(DOMAIN_TEXTS)]


def _sample(rng: random.Random, texts: Sequence[Sequence[str]]) -> list[str]:
    words = [word for text in texts for word in text]
    return rng.choices(words, k=max(1, round(len(words) / len(texts)))) if words else []


def calibrate(method: str, shots: Sequence[Example], seed: int, score: Score) -> Calibration | None:
    """The calibration of a strategy that is ready to answer; None without one.

    Args:
        method: `contextual` (Zhao et al. 2021, arXiv 2102.09690): away from the answers to texts that say nothing;
            `domain` (Fei et al. 2023, arXiv 2305.19148): away from those to random words of the shots; `fitted`: the
            best affine map on the shots, each scored without itself among the demonstrations; `batch` (Zhou et al.
            2023, arXiv 2309.17249) needs texts to be answered: see `without_prior`.
        shots: the labelled examples.
        seed: draws the random words.
        score: scores examples.
    """
    match method:
        case "contextual":
            return without_prior(score(content_free(shots), False))
        case "domain":
            return without_prior(score(random_words(shots, seed), False))
        case "fitted":
            return affine(score(shots, True), torch.tensor([shot.label for shot in shots]).flatten())
    return None
