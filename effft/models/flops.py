"""Floating-point operations of the linear maps that really ran, counted from their shapes as they run."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


class Flops:
    """Counts operations in `total`; a multiply and an add are two.

    A product of (rows, inputs) with (inputs, outputs) takes 2 x rows x inputs x outputs. The backward pass takes as
    many for the gradient of the input, where that is needed, and as many for that of the weight, where that trains
    (Kaplan et al. 2020, arXiv 2001.08361, section 2.1). Attention scores, norms and the optimizer are not counted.
    """

    def __init__(self) -> None:
        self.total, self.hooks, self._known = 0, list[RemovableHandle](), WeakSet[nn.Module]()

    def add(self, modules: Iterable[nn.Module | None]) -> None:
        """Count the linear maps inside these modules too, each once however often it is reached."""
        from transformers.pytorch_utils import Conv1D

        maps = {part for module in modules if module is not None for part in module.modules()} - {*self._known}
        self._known |= maps
        self.hooks += [part.register_forward_hook(self.note) for part in maps if isinstance(part, nn.Linear | Conv1D)]

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


_open: list[Flops] = []


@contextmanager
def counted(*modules: nn.Module | None) -> Iterator[Flops]:
    """Count the linear maps inside these modules while open, and inside those that `count_too` adds meanwhile."""
    flops = Flops()
    flops.add(modules)
    _open.append(flops)
    try:
        yield flops
    finally:
        _open.remove(flops)
        for hook in flops.hooks:
            hook.remove()


def count_too(*modules: nn.Module | None) -> None:
    """Count what is made while a count is open: the model of a fold, or one that answers texts for another."""
    for flops in _open:
        flops.add(modules)
