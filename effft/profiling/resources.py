"""What a run costs: peak and average memory above the start, seconds by stage, tokens."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import psutil
import torch

from effft.distributed.process_group import process_group
from effft.garbage import leave_libraries_out
from effft.models.backbone import Backbone
from effft.models.out_of_memory import out_of_memory, release_memory
from effft.profiling.matmul_rate import matmul_rate
from effft.strategies.learner import Learner

INTERVAL = 0.02  # Seconds between two samples of the resident memory.
PAGE = 512  # Numbers in one page of memory, at least (4096 bytes, 8 bytes each).


@dataclass
class ResourceMeter:
    """Use as a context; then `peak_bytes` is the highest resident set (CUDA: allocated) minus that at the start.

    Args:
        held: bytes that the run holds already (its backbone, loaded to check the plan) and that count as its own.
        afresh: give back what earlier runs of this process freed, so that their peak is not our start; without it
            `peak_bytes` is what this run needs beyond them.
    """

    device: torch.device
    held: int = 0
    afresh: bool = True
    seconds: dict[str, float] = field(default_factory=dict)
    peak_bytes: int = 0
    _start: int = 0
    _sum: int = 0
    _samples: int = 0

    @property
    def average_bytes(self) -> float:
        """Mean over time of the memory above the start, from samples."""
        return self._sum / max(1, self._samples)

    def __enter__(self) -> "ResourceMeter":
        self._stop = threading.Event()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            leave_libraries_out()
            if self.afresh:
                release_memory()
        self._start = self._now() - self.held
        self._thread = threading.Thread(target=self._sample_until_stopped, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._sample()
        if self.device.type == "cuda":  # its allocator knows the true peak
            self.peak_bytes = torch.cuda.max_memory_allocated(self.device) - self._start

    def _now(self) -> int:
        return memory_in_use(self.device)

    def _sample_until_stopped(self) -> None:
        while not self._stop.wait(INTERVAL):
            self._sample()

    def _sample(self) -> None:
        above = self._now() - self._start
        self.peak_bytes = max(self.peak_bytes, above)
        self._sum, self._samples = self._sum + above, self._samples + 1

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the wall seconds of what runs inside to `seconds[name]`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def memory_in_use(device: torch.device) -> int:
    """Bytes that tensors take on a CUDA device, or this process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return int(psutil.Process().memory_info().rss)


def held_by(backbone: Backbone) -> int:
    """Bytes of a backbone's weights; a mapped file is read through first, so that all of them are resident."""
    for parameter in backbone.model.parameters():
        if parameter.device.type == "cpu":
            parameter.data.reshape(-1)[::PAGE].sum()
    return sum(p.numel() * p.element_size() for p in backbone.model.parameters())


class Workload(NamedTuple):
    """What a run did. tokens: those that training read; flops: of the linear maps (`effft.models.flops`)."""

    tokens: int
    train_flops: int
    evaluation_flops: int
    threads: int


def megabytes(count: float) -> float:
    """Bytes as MB, to a kB."""
    return round(count / 1e6, 3)


def _rate(device: torch.device, dtype: torch.dtype, threads: int) -> float:
    """Operations per second; infinite when memory is short, so that a finished run cannot fail here."""
    try:
        return matmul_rate(device, dtype, threads)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        release_memory(error)
        return float("inf")


def resources(learner: Learner, meter: ResourceMeter, work: Workload) -> dict[str, float]:
    """What a run cost, with the same keys for every strategy.

    `matmul_share` is the share of the rate at which this machine multiplies a large matrix in the run's precision,
    measured now; 0 where memory is too short to measure it. With several processes, memory and seconds are those of
    this one, tokens and operations those of all.
    """
    moved = sum(trainable for trainable, _ in learner.groups.values())
    total = sum(size for _, size in learner.groups.values())
    seconds, tokens = {"evaluation": 0.0, **meter.seconds}, work.tokens  # a task may have nothing to evaluate
    rate = _rate(meter.device, learner.precision_type, work.threads) * process_group().size
    values = {
        "peak_memory_mb": megabytes(meter.peak_bytes),
        "average_memory_mb": megabytes(meter.average_bytes),
        "load_seconds": seconds["load"],
        "train_seconds": seconds["train"],
        "evaluation_seconds": seconds["evaluation"],
        "train_tokens": tokens,
        "tokens_per_second": tokens / seconds["train"],
        "train_flops": work.train_flops,
        "evaluation_flops": work.evaluation_flops,
        "train_matmul_share": work.train_flops / seconds["train"] / rate,
        "evaluation_matmul_share": work.evaluation_flops / max(seconds["evaluation"], 1e-9) / rate,
        "trainable_parameters": moved,
        "total_parameters": total,
        "trainable_share": moved / total,
        "adapter_mb": megabytes(sum(p.numel() * p.element_size() for p in learner.trainable_parameters.values())),
    }
    for group, (trainable, size) in learner.groups.items():
        values |= {f"trainable_parameters/{group}": trainable, f"total_parameters/{group}": size}
    return {f"resources/{name}": float(value) for name, value in values.items()}
