"""RMSNorm in a third of the passes over its states that transformers' own modules take, forwards and backwards."""

from typing import Any

import torch
from torch import Tensor, nn

TYPES = ("llama", "qwen2", "qwen3", "mistral")
"""Model types whose RMSNorm is the usual one: states over their root mean square in fp32, rounded, times the weight."""


class RMSNorm(nn.Module):
    """Zhang and Sennrich 2019 (arXiv 1910.07467), with the rounding of transformers."""

    weight: nn.Parameter
    variance_epsilon: float

    def forward(self, states: Tensor) -> Tensor:
        """(..., width) -> the same."""
        out: Tensor = _RMSNorm.apply(states, self.weight, self.variance_epsilon)  # type: ignore[no-untyped-call]
        return out


def use_own_norms(model: Any) -> None:
    """Let the model's RMSNorms compute as here, in place; their parameters and names stay."""
    for module in model.modules() if model.config.model_type in TYPES else ():
        if type(module).__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon"):
            module.__class__ = RMSNorm


class _RMSNorm(torch.autograd.Function):
    """Stores its input and one number a row."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        wide = _wide(states)
        norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        scale = norm.square_().div_(states.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(states, weight, scale)
        normed: Tensor = wide * scale
        return normed.to(states.dtype) * weight

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        states, weight, scale = ctx.saved_tensors
        normed, gradient = _wide(states) * scale, _wide(gradients[0])
        to_weight = None
        if ctx.needs_input_grad[1]:
            to_weight = (gradient * normed).flatten(0, -2).sum(dim=0).to(weight.dtype)
        gradient = gradient * weight
        along = (gradient * normed).mean(dim=-1, keepdim=True)
        return gradient.addcmul_(normed, along, value=-1).mul_(scale).to(states.dtype), to_weight, None


def _wide(states: Tensor) -> Tensor:
    return states if states.dtype == torch.float64 else states.float()
