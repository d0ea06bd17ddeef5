"""Floating-point operations of the linear maps that really ran, counted from their shapes as they run."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class Flops:
    """Counts operations in `total`; a multiply and an add are two.

    A product of (rows, inputs) with (inputs, outputs) takes 2 x rows x inputs x outputs. The backward pass takes as
    many for the gradient of the input, where that is needed, and as many for that of the weight, where that trains
    (Kaplan et al. 2020, arXiv 2001.08361, section 2.1). Attention scores, norms and the optimizer are not counted.
    """

    def __init__(self) -> None:
        self.total = 0

    def note(self, module: nn.Module, given: tuple[Any, ...], out: Any) -> None:
        """A forward hook of a linear map."""
        states, weight = given[0], module.weight
        assert isinstance(states, Tensor)
        assert isinstance(weight, Tensor)
        product = 2 * states.numel() * out.shape[-1]
        self.total += product
        back = product * (int(states.requires_grad) + int(weight.requires_grad))
        if torch.is_grad_enabled() and out.requires_grad:
            out.register_hook(lambda _gradient: self._add(back))

    def _add(self, product: int) -> None:
        self.total += product


@contextmanager
def counted(*modules: nn.Module | None) -> Iterator[Flops]:
    """Count the linear maps inside these modules while open, each once however often it is reached; of none, all."""
    from torch.nn.modules.module import register_module_forward_hook
    from transformers.pytorch_utils import Conv1D

    flops = Flops()
    kinds, maps = nn.Linear | Conv1D, {part for module in modules if module is not None for part in module.modules()}
    hooks = [part.register_forward_hook(flops.note) for part in maps if isinstance(part, kinds)]
    if not modules:
        hooks = [register_module_forward_hook(lambda m, *io: flops.note(m, *io) if isinstance(m, kinds) else None)]
    try:
        yield flops
    finally:
        for hook in hooks:
            hook.remove()
