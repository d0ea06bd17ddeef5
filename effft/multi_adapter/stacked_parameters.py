"""Parameters of several trials in one block of memory: a row a trial, so that one call moves them all."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass(eq=False)
class MemberState:
    """What is one trial's alone: its parameters by name, and AdamW's two means of their gradients."""

    weights: dict[str, Tensor]
    mean: dict[str, Tensor] = field(default_factory=dict)
    square: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for state in (self.mean, self.square):
            state |= {name: torch.zeros_like(weight) for name, weight in self.weights.items() if name not in state}


class StackedParameters:
    """The trials' parameters under the same names, each padded with zeros to the largest of its name.

    `parameters[name]` is (trials, *shape), what a model computes with, and `gradients[name]` the sum of its gradients.
    Under them values, state and gradient are (trials, size): a trial is a row. Padding of a LoRA pair needs no mask:
    where the row of A and the column of B are both zero their gradients are zero too, and AdamW leaves them so.

    dtype: of the arithmetic; in bf16 `values` are the exact masters, and the parameters are rounded from them.
    """

    def __init__(
        self, trials: Sequence[MemberState], names: Sequence[str], dtype: torch.dtype, device: torch.device
    ) -> None:
        self.trials = trials
        self.shapes = {name: _largest(trials, name) for name in names}
        size = sum(map(math.prod, self.shapes.values()))
        wide = torch.float32 if dtype == torch.bfloat16 else dtype
        self.values, self.mean, self.square = (
            torch.zeros((len(trials), size), dtype=wide, device=device) for _ in range(3)
        )
        for own, kept in self._places():
            own.copy_(kept)
        self.work = self.values if wide == dtype else self.values.to(dtype)
        self.gradient = torch.zeros_like(self.work)
        self.parameters = {name: nn.Parameter(view) for name, view in self._views(self.work).items()}
        self.gradients = self._views(self.gradient)
        biases = [torch.full((math.prod(shape),), float(len(shape) > 1)) for shape in self.shapes.values()]
        self.decays = torch.cat([torch.zeros(0), *biases]).to(self.values)
        """1 where weight decay acts: not on biases."""

    @property
    def is_rounded(self) -> bool:
        """Whether the parameters are bf16 copies of the values."""
        return self.work is not self.values

    def add_gradients(self, found: Iterable[Tensor | None]) -> None:
        """One pass's gradients of the parameters, in their order; None of one that the pass did not use."""
        for kept, gradient in zip(self.gradients.values(), found, strict=True):
            if gradient is not None:
                kept.add_(gradient)

    def sizes(self, name: str) -> list[int]:
        """How long the first axis of each trial's own parameter is; 0 where it has none of this name."""
        return [len(own.weights[name]) if name in own.weights else 0 for own in self.trials]

    def norms(self) -> Tensor:
        """Norm of each trial's gradient, (trials,), in the dtype of the values."""
        norms: Tensor = torch.linalg.vector_norm(self.gradient, dim=1, dtype=self.values.dtype)
        return norms

    def unload(self) -> None:
        """Write values and state back to the trials."""
        for own, kept in self._places():
            kept.copy_(own)

    def _views(self, flat: Tensor) -> dict[str, Tensor]:
        found, start = {}, 0
        for name, shape in self.shapes.items():
            stop = start + math.prod(shape)
            found[name] = flat[:, start:stop].view(len(self.trials), *shape)
            start = stop
        return found

    def _places(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Every tensor of a trial: its place here, and where the trial keeps it."""
        for flat, kind in ((self.values, "weights"), (self.mean, "mean"), (self.square, "square")):
            views = self._views(flat)
            for row, trial in enumerate(self.trials):
                kept: dict[str, Tensor] = getattr(trial, kind)
                for name in self.shapes:
                    if name in kept:
                        yield views[name][row][tuple(slice(0, n) for n in kept[name].shape)], kept[name]


def _largest(trials: Sequence[MemberState], name: str) -> tuple[int, ...]:
    shapes = [trial.weights[name].shape for trial in trials if name in trial.weights]
    return tuple(map(max, zip(*shapes, strict=True)))
