"""AdamW in fp32 over parameters that are fp32 themselves, or bf16 copies of fp32 masters."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from effft.strategies.learner import Learner

CHUNK = 1 << 22
"""Elements whose gradients are held in fp32 at a time: bounds the memory of an update of bf16 copies."""


class Optimizer:
    """AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101), fused; no decay on biases and norms.

    A parameter with a master (`Learner.masters`) is a bf16 copy: its gradient is taken to fp32, the master moves, and
    the copy is rounded from it once an update. State and masters are fp32.
    """

    def __init__(self, learner: Learner, weight_decay: float) -> None:
        moving = list(learner.trainable_parameters.values())
        self.copies = [p for p in moving if id(p) in learner.masters]
        self.own = [p for p in moving if id(p) not in learner.masters]
        self._own = _adamw(self.own, [p.ndim > 1 for p in self.own], weight_decay)
        self._chunks = [_Chunk(chunk, learner.masters, weight_decay) for chunk in _chunks(self.copies)]

    def zero(self) -> None:
        """Forget all gradients."""
        for parameter in (*self.copies, *self.own):
            parameter.grad = None

    def norm(self) -> float:
        """Norm of the whole gradient, in fp32 (float64 where the parameters are)."""
        norms = [_norm(p.grad) for p in (*self.own, *self.copies) if p.grad is not None]
        return torch.linalg.vector_norm(torch.stack(norms)).item() if norms else 0.0

    def step(self, rate: float, norm: float, clip: float) -> None:
        """One update at learning rate `rate`; a gradient `norm` above `clip` is scaled down to it (0 = off)."""
        scale = min(1.0, clip / (norm + 1e-6)) if clip else 1.0
        if self._own is not None:
            for parameter in self.own:
                if parameter.grad is not None and scale < 1:
                    parameter.grad.mul_(scale)
            _at(self._own, rate)
        for chunk in self._chunks:
            chunk.step(rate, scale)


class _Piece(NamedTuple):
    """Elements `start` to `stop` of a bf16 parameter; its gradient is not needed after the last piece."""

    copy: nn.Parameter
    start: int
    stop: int

    def of(self, tensor: Tensor) -> Tensor:
        """The same elements of a tensor of that shape."""
        return tensor.view(-1)[self.start : self.stop]

    def gradient(self, scale: float) -> Tensor | None:
        """In fp32, and forgotten in bf16 with the last piece."""
        if self.copy.grad is None:
            return None
        gradient = self.of(self.copy.grad.contiguous()).float().mul_(scale)
        if self.stop == self.copy.numel():
            self.copy.grad = None
        return gradient


class _Chunk:
    """Pieces of bf16 parameters, their masters, and the state of these."""

    def __init__(self, pieces: list[_Piece], masters: Mapping[int, Tensor], weight_decay: float) -> None:
        self.pieces = pieces
        self.masters = [nn.Parameter(piece.of(masters[id(piece.copy)])) for piece in pieces]
        self.adamw = _adamw(self.masters, [piece.copy.ndim > 1 for piece in pieces], weight_decay)

    def step(self, rate: float, scale: float) -> None:
        for master, piece in zip(self.masters, self.pieces, strict=True):
            master.grad = piece.gradient(scale)
        assert self.adamw is not None
        _at(self.adamw, rate)
        with torch.no_grad():
            for master, piece in zip(self.masters, self.pieces, strict=True):
                master.grad = None
                piece.of(piece.copy.data).copy_(master)


def _adamw(parameters: list[nn.Parameter], decays: list[bool], weight_decay: float) -> torch.optim.AdamW | None:
    groups = [
        {"params": [p for p, own in zip(parameters, decays, strict=True) if own == decay], "weight_decay": value}
        for decay, value in ((True, weight_decay), (False, 0.0))
    ]
    filled = [group for group in groups if group["params"]]
    return torch.optim.AdamW(filled, fused=True) if filled else None


def _at(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()


def _norm(gradient: Tensor) -> Tensor:
    wide = torch.float64 if gradient.dtype == torch.float64 else torch.float32
    norm: Tensor = torch.linalg.vector_norm(gradient, dtype=wide)
    return norm


def _chunks(parameters: list[nn.Parameter]) -> list[list[_Piece]]:
    found: list[list[_Piece]] = []
    room = 0
    for parameter in parameters:
        for start in range(0, parameter.numel(), CHUNK):
            piece = _Piece(parameter, start, min(start + CHUNK, parameter.numel()))
            if piece.stop - piece.start > room:
                found.append([])
                room = CHUNK
            found[-1].append(piece)
            room -= piece.stop - piece.start
    return found


def schedule_factor(kind: str, warmup: float, step: int, total: int) -> float:
    """Share of the peak learning rate at update `step` (from 0) of `total`: linear rise, then the decay.

    'linear' and 'cosine' fall to zero just after the last update.
    """
    rise = math.ceil(warmup * total)
    if step < rise:
        return (step + 1) / rise
    if kind == "constant":
        return 1.0
    left = (total - step) / max(1, total - rise)
    return left if kind == "linear" else 0.5 * (1 - math.cos(math.pi * left))
