"""What turns hidden states into scores: a new classifier, or the model's own LM head projected to a few words."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from effft.models.forward.attention import SUPPORTED_TYPES


class LinearClassifier(nn.Module):
    """One linear layer on one pooled hidden state; weights N(0, 0.02), bias zero, drawn from `generator`.

    unit_length: it reads the direction of the state alone.
    """

    def __init__(self, width: int, labels: int, generator: torch.Generator, unit_length: bool = False) -> None:
        super().__init__()
        self.linear, self.unit_length = nn.Linear(width, labels), unit_length
        with torch.no_grad():
            self.linear.weight.copy_(torch.empty(labels, width).normal_(0, 0.02, generator=generator))
            self.linear.bias.zero_()

    def forward(self, pooled: Tensor) -> Tensor:
        """(batch, width) -> scores (batch, labels)."""
        scores: Tensor = self.linear(self.direction(pooled))
        return scores

    def direction(self, pooled: Tensor) -> Tensor:
        """What the layer reads of the states (batch, width)."""
        return F.normalize(pooled, dim=-1) if self.unit_length else pooled


class SigmoidClassifier(LinearClassifier):
    """The same for labels that can stand together: the log-odds of each beside 0, so that softmax is the sigmoid.

    Cross-entropy over the last axis is binary cross-entropy.
    """

    def forward(self, pooled: Tensor) -> Tensor:
        """(batch, width) -> scores of no and yes (batch, labels, 2)."""
        odds = super().forward(pooled)
        return torch.stack((torch.zeros_like(odds), odds), dim=-1)


def pool(states: Tensor, mask: Tensor, how: str) -> Tensor:
    """One state for each row: (batch, length, width) with right padding in `mask` (batch, length) -> (batch, width).

    how: 'last' real token, 'first' token, or 'mean' over the real ones.
    """
    if how == "first":
        return states[:, 0]
    if how == "last":
        return states[torch.arange(len(states), device=states.device), mask.sum(dim=1) - 1]
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1)


def has_words(model: Any) -> bool:
    """Whether the logit of a word depends on its own row of the LM head alone, so that a few can be projected."""
    return model.config.model_type in SUPPORTED_TYPES and type(model.get_output_embeddings()) is nn.Linear


@contextmanager
def only_words(model: Any, words: Tensor) -> Iterator[None]:
    """While open, the LM head gives the logits of these words only, (..., words), and gradients to their rows.

    The gradient is sparse where that of the embedding is, so that a tied matrix has one kind.
    """
    head, sparse = model.get_output_embeddings(), bool(getattr(model.get_input_embeddings(), "sparse", False))

    def project(states: Tensor) -> Tensor:
        rows = F.embedding(words, head.weight, sparse=sparse)
        return F.linear(states, rows, None if head.bias is None else head.bias[words])

    head.forward = project
    try:
        yield
    finally:
        del head.forward  # uncovers the class's own
