"""The process group of one run. Only rank 0 logs; with a single process everything here is a no-op."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from effft.errors import InputError, RunError

T = TypeVar("T")

BUCKET = 1 << 22  # Elements of gradients that are summed at a time, in fp32 at least.


class ProcessGroup:
    """A single process; the base class of several.

    Every process of a run draws the same examples in the same order, so its rank alone decides what it works on.

    Attributes:
        rank, size: which process this is, of how many.
        local_size: processes on this machine.
        sharded: whether each process holds only its shard of every parameter (FSDP2).
        device: where tensors must be to be sent to other processes, and where the shards are.
    """

    rank, size, local_size, sharded = 0, 1, 1, False
    device = torch.device("cpu")

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """The items this process works on, every `size`-th; of sorted items all get about equal work."""
        return items[self.rank :: self.size]

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        return values

    def from_first_process(self, value: float) -> float:
        """The value of the first process."""
        return value

    def extra_passes(self, passes: int) -> int:
        """Passes to join beyond this process's own `passes`: with a sharded model all processes take part in each."""
        return 0

    def all_reduce_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Sum the gradients of unsharded parameters over the processes; FSDP2 has summed those of shards already."""

    def total(self, value: float) -> float:
        """The sum of a number over all processes."""
        return self.all_reduce_sum(torch.tensor(value, dtype=torch.float64)).item()

    def must_agree(self, what: str, text: str) -> None:
        """Raise a RunError where the processes do not have the same text; `what` names it in the message."""
        if self.size == 1:
            return
        digest = float(int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big"))
        if self.total(float(digest != self.from_first_process(digest))):
            raise RunError(f"the processes of this run do not have the same {what}; give them the same files.")


class TorchProcessGroup(ProcessGroup):
    """Several processes, over torch.distributed."""

    def __init__(self, device: torch.device, sharded: bool) -> None:
        import torch.distributed as dist

        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.local_size = int(os.environ.get("LOCAL_WORLD_SIZE", self.size))
        self.device, self.sharded = device, sharded

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """As in `ProcessGroup`."""
        import torch.distributed as dist

        return self._send(dist.all_reduce, values)

    def from_first_process(self, value: float) -> float:
        """As in `ProcessGroup`."""
        import torch.distributed as dist

        return self._send(dist.broadcast, torch.tensor(value, dtype=torch.float64), 0).item()

    def extra_passes(self, passes: int) -> int:
        """As in `ProcessGroup`."""
        import torch.distributed as dist

        if not self.sharded:
            return 0
        return int(self._send(dist.all_reduce, torch.tensor(passes), dist.ReduceOp.MAX).item()) - passes

    def all_reduce_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """As in `ProcessGroup`; a gradient that no process has stays absent."""
        whole = [p for p in parameters if not is_shard(p)]
        present = self.all_reduce_sum(torch.tensor([float(p.grad is not None) for p in whole])).tolist()
        for bucket in _buckets([p for p, count in zip(whole, present, strict=True) if count]):
            flat = self.all_reduce_sum(torch.cat([_gradient(p) for p in bucket]))
            for p, part in zip(bucket, torch.split(flat, [p.numel() for p in bucket]), strict=True):
                p.grad = part.view_as(p).to(p.dtype)

    def _send(self, collective: Callable[..., Any], values: Tensor, *how: Any) -> Tensor:
        moved = values.to(self.device)
        try:
            collective(moved, *how)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:160]
            raise RunError(
                f"process {self.rank} of {self.size} lost another one, whose own message says why ({reason})."
            ) from error
        return values if moved is values else values.copy_(moved)


_CURRENT: list[ProcessGroup] = [ProcessGroup()]


def process_group() -> ProcessGroup:
    """The process group of the current run."""
    return _CURRENT[-1]


def launched_processes() -> int:
    """Number of processes that a launcher (`accelerate launch`, `torchrun`) started for this command."""
    return int(os.environ.get("WORLD_SIZE", "1") or 1)


@contextmanager
def join_process_group(device: str) -> Iterator[ProcessGroup]:
    """Join the processes that were launched together, if any were.

    Raises:
        InputError: the launcher's configuration is not supported, or all processes were given one device.
    """
    if launched_processes() < 2:
        yield process_group()
        return
    import torch.distributed as dist

    from effft.distributed.fsdp import wants_fsdp

    sharded = wants_fsdp(os.environ)
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"device={device}: {launched_processes()} processes need one each; leave it out, or give cpu.")
    cuda = device != "cpu" and torch.cuda.is_available()
    place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if cuda else "gloo")
    _CURRENT.append(TorchProcessGroup(place, sharded))
    try:
        yield process_group()
        dist.barrier()  # no process leaves while another still communicates with it
    finally:
        _CURRENT.pop()
        dist.destroy_process_group()


def is_shard(parameter: Tensor) -> bool:
    """Whether it is one process's shard of a tensor (a DTensor)."""
    return hasattr(parameter, "to_local")


def _gradient(parameter: nn.Parameter) -> Tensor:
    """Flat; zeros where this process has none."""
    wide = torch.float64 if parameter.dtype == torch.float64 else torch.float32
    if parameter.grad is None:
        return torch.zeros(parameter.numel(), dtype=wide, device=parameter.device)
    return parameter.grad.reshape(-1).to(wide)


def _buckets(parameters: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    bucket: list[nn.Parameter] = []
    for parameter in parameters:
        if bucket and sum(p.numel() for p in bucket) + parameter.numel() > BUCKET:
            yield bucket
            bucket = []
        bucket.append(parameter)
    if bucket:
        yield bucket
