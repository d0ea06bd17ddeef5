"""AdamW in fp32 over parameters that are fp32 themselves, or bf16 copies of fp32 masters."""

import math

import torch
from torch import Tensor, nn

from effft.strategies.learner import Learner

CHUNK = 1 << 24
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
        self._own = _adamw(self.own, weight_decay)
        self._chunks = [
            _Chunk(chunk, [learner.masters[id(p)] for p in chunk], weight_decay) for chunk in _chunks(self.copies)
        ]

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


class _Chunk:
    """Some bf16 parameters, their masters, and the state of these."""

    def __init__(self, copies: list[nn.Parameter], masters: list[Tensor], weight_decay: float) -> None:
        self.copies = copies
        self.masters = [nn.Parameter(master) for master in masters]
        self.adamw = _adamw(self.masters, weight_decay)

    def step(self, rate: float, scale: float) -> None:
        for master, copy in zip(self.masters, self.copies, strict=True):
            master.grad = copy.grad.float().mul_(scale) if copy.grad is not None else None
            copy.grad = None
        assert self.adamw is not None
        _at(self.adamw, rate)
        with torch.no_grad():
            for master, copy in zip(self.masters, self.copies, strict=True):
                master.grad = None
                copy.copy_(master)


def _adamw(parameters: list[nn.Parameter], weight_decay: float) -> torch.optim.AdamW | None:
    matrices = [p for p in parameters if p.ndim > 1]
    vectors = [p for p in parameters if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
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


def _chunks(parameters: list[nn.Parameter]) -> list[list[nn.Parameter]]:
    found: list[list[nn.Parameter]] = []
    room = 0
    for parameter in parameters:
        if parameter.numel() > room:
            found.append([])
            room = CHUNK
        found[-1].append(parameter)
        room -= parameter.numel()
    return found


def out_of_memory(error: RuntimeError) -> bool:
    """Whether torch (CUDA, or its CPU allocator) says that memory is short."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


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
