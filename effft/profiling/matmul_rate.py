"""How fast this machine multiplies matrices."""

import time
from functools import lru_cache

import torch
import torch.nn.functional as F

ROWS, IN, OUT = 512, 1024, 4096
"""Size of the product: a linear map with weights (OUT, IN) on ROWS tokens, 4 GFLOP."""

REPEATS, SECONDS, SLOW = (3, 8), 0.1, 1.0
"""The fastest of so many counts; no more than the first number where they take SECONDS, than one where it is SLOW."""


@lru_cache
def matmul_rate(device: torch.device, dtype: torch.dtype, threads: int) -> float:
    """Floating-point operations per second of a large matrix product; measured once per process."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        states = torch.ones((ROWS, IN), dtype=dtype, device=device)
        weight = torch.ones((OUT, IN), dtype=dtype, device=device)
        best = float("inf")
        began = time.perf_counter()
        for repeat in range(REPEATS[1]):
            if repeat >= REPEATS[0] and time.perf_counter() - began > SECONDS:
                break
            start = time.perf_counter()
            F.linear(states, weight)[0, 0].item()
            best = min(best, time.perf_counter() - start)
            if best > SLOW:  # bf16 on a processor that emulates it
                break
    finally:
        torch.set_num_threads(before)
    return 2 * ROWS * IN * OUT / best
