"""AdamW in fp32 over parameters that are fp32 themselves, or bf16 copies of fp32 masters."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from effft.distributed.process_group import is_shard, process_group
from effft.models.precision import master_of, remainder_of
from effft.strategies.learner import Learner
from effft.training.sparse_adamw import SparseRowAdamW

CHUNK = 1 << 20
"""Elements whose masters and gradients are held in fp32 at a time: they fit the caches (4 MB each)."""


class Optimizer:
    """AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101), fused; no decay on biases and norms.

    A parameter with a remainder (`Learner.remainders`) is the rounded half of an fp32 master weight: its gradient is
    converted to fp32, the master is updated, and the bf16 copy is rounded from it once per update. The optimizer's
    state is fp32. A matrix with sparse gradients (`Learner.in_rows`) is updated in their rows only; each process
    updates its own shard of a sharded parameter (FSDP2).

    Args:
        learner: whose trainable parameters are updated.
        weight_decay: decoupled, of matrices.
        chunk: elements whose masters and gradients are held in fp32 at a time.
    """

    def __init__(self, learner: Learner, weight_decay: float, chunk: int = CHUNK) -> None:
        self.chunk = chunk
        self.parameters = list(learner.trainable_parameters.values())
        self.copies = [p for p in self.parameters if id(p) in learner.remainders]
        whole = [p for p in self.copies if id(p) not in learner.in_rows]
        sparse = [p for p in self.copies if id(p) in learner.in_rows]
        factors = learner.rate_factors
        self._parts: list[_Chunk | SparseRowAdamW] = [
            SparseRowAdamW(p, learner.remainders[id(p)], weight_decay, chunk) for p in sparse
        ]
        self.full = [p for p in self.parameters if id(p) not in learner.remainders]
        kinds = [[p for p in self.full if is_shard(p) == shard] for shard in (False, True)]
        self._adamws = [_adamw(parameters, weight_decay, factors) for parameters in kinds if parameters]
        # one block: the allocator gets it from the system, which leaves its heap to short-lived tensors
        moments = torch.zeros(2, sum(p.numel() for p in whole), device=learner.backbone.device)
        for factor in sorted({factors.get(id(p), 1.0) for p in whole}):
            for pieces in _chunks([p for p in whole if factors.get(id(p), 1.0) == factor], chunk):
                first, moments = moments.tensor_split([sum(piece.stop - piece.start for piece in pieces)], dim=1)
                self._parts.append(_Chunk(pieces, learner.remainders, weight_decay, first, factor))

    def zero(self) -> None:
        """Clear all gradients."""
        for parameter in (*self.copies, *self.full):
            parameter.grad = None

    def norm(self) -> float:
        """Norm of the whole gradient, in fp32 (float64 where the parameters are)."""
        for parameter in self.copies:
            if parameter.grad is not None and parameter.grad.is_sparse:
                parameter.grad = parameter.grad.coalesce()
        gradients = [p.grad for p in (*self.full, *self.copies) if p.grad is not None]
        norms = [n for g in gradients if not is_shard(g) for n in _norms(g, self.chunk)]
        if pieces := [n for g in gradients if is_shard(g) for n in _norms(g.to_local(), self.chunk)]:  # type: ignore[attr-defined]
            norms.append(process_group().all_reduce_sum(torch.stack(pieces).square().sum()).sqrt())
        return torch.linalg.vector_norm(torch.stack(norms)).item() if norms else 0.0

    def step(self, rate: float, norm: float, clip: float) -> None:
        """One update at learning rate `rate`; a gradient `norm` above `clip` is scaled down to it (0 = off)."""
        scale = min(1.0, clip / (norm + 1e-6)) if clip else 1.0
        for parameter in self.full:
            if parameter.grad is not None and scale < 1:
                parameter.grad.mul_(scale)
        for optimizer in self._adamws:
            _step_at(optimizer, rate)
        for part in self._parts:
            part.step(rate, scale)


class _Piece(NamedTuple):
    """Elements `start` to `stop` of a bf16 parameter; its gradient is not needed after the last piece."""

    copy: nn.Parameter
    start: int
    stop: int

    def of(self, tensor: Tensor) -> Tensor:
        """The same elements of a tensor of that shape."""
        return tensor.view(-1)[self.start : self.stop]

    @property
    def nothing(self) -> Tensor:
        """No fp32 values, on the same device; a matrix for a matrix, so that it has weight decay."""
        return torch.empty((0,) * max(1, self.copy.ndim), device=self.copy.device)

    def gradient(self, scale: float) -> Tensor | None:
        """The gradient in fp32; the bf16 one is freed with the last piece."""
        if self.copy.grad is None:
            return None
        gradient = self.of(self.copy.grad.contiguous()).float().mul_(scale)
        if self.stop == self.copy.numel():
            self.copy.grad = None
        return gradient


class _Chunk:
    """Pieces of bf16 parameters, the remainders of their masters, and both moments of the masters, (2, elements)."""

    def __init__(
        self,
        pieces: list[_Piece],
        remainders: Mapping[int, Tensor],
        weight_decay: float,
        moments: Tensor,
        factor: float,
    ) -> None:
        self.pieces, self.factor = pieces, factor
        self.remainders = [piece.of(remainders[id(piece.copy)]) for piece in pieces]
        self.masters = [nn.Parameter(piece.nothing) for piece in pieces]  # filled during a step only
        self.adamw = _adamw(self.masters, weight_decay)
        per_piece = torch.split(moments, [piece.stop - piece.start for piece in pieces], dim=1)
        for master, (mean, square) in zip(self.masters, per_piece, strict=True):
            count = torch.zeros((), device=moments.device)
            self.adamw.state[master] = {"step": count, "exp_avg": mean, "exp_avg_sq": square}

    def step(self, rate: float, scale: float) -> None:
        """One update; without a gradient a piece stays as it is."""
        parts = list(zip(self.masters, self.pieces, self.remainders, strict=True))
        for master, piece, remainder in parts:
            master.data = master_of(piece.of(piece.copy.data), remainder)
            master.grad = piece.gradient(scale)
        _step_at(self.adamw, self.factor * rate)
        for master, piece, remainder in parts:
            if master.grad is not None:
                rounded = piece.of(piece.copy.data).copy_(master.data)
                remainder.copy_(remainder_of(master.data, rounded))
            master.grad, master.data = None, piece.nothing


def _adamw(
    parameters: list[nn.Parameter], weight_decay: float, factors: Mapping[int, float] | None = None
) -> torch.optim.AdamW:
    """factors: id of a parameter -> what multiplies its rate, where that is not 1."""
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for parameter in sorted(parameters, key=lambda p: p.ndim <= 1):
        groups.setdefault((parameter.ndim > 1, (factors or {}).get(id(parameter), 1.0)), []).append(parameter)
    named = [
        {"params": own, "weight_decay": weight_decay if decayed else 0.0, "factor": factor}
        for (decayed, factor), own in groups.items()
    ]
    return torch.optim.AdamW(named, fused=True)


def _step_at(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("factor", 1.0)
    optimizer.step()


def _norms(gradient: Tensor, at_once: int) -> list[Tensor]:
    """Norms of its parts, in fp32; a bf16 gradient is converted in parts, so that memory does not double."""
    gradient = gradient.values() if gradient.is_sparse else gradient
    wide = torch.float64 if gradient.dtype == torch.float64 else torch.float32
    whole = gradient.dtype == wide
    parts = [gradient] if whole else torch.split(gradient.reshape(-1), at_once)
    return [torch.linalg.vector_norm(part, dtype=wide) for part in parts]


def _chunks(parameters: list[nn.Parameter], size: int) -> list[list[_Piece]]:
    chunks: list[list[_Piece]] = []
    room = 0
    for parameter in parameters:
        for start in range(0, parameter.numel(), size):
            piece = _Piece(parameter, start, min(start + size, parameter.numel()))
            if piece.stop - piece.start > room:
                chunks.append([])
                room = size
            chunks[-1].append(piece)
            room -= piece.stop - piece.start
    return chunks


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
