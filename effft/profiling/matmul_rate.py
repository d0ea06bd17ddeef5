"""How fast this machine multiplies matrices."""

import time
from functools import lru_cache

import torch
import torch.nn.functional as F

ROWS, IN, OUT, REPEATS = 512, 1024, 4096, 8
"""Size of the product: a linear map with weights (OUT, IN) on ROWS tokens, 4 GFLOP; the fastest of REPEATS counts."""


@lru_cache
def matmul_rate(device: torch.device, dtype: torch.dtype, threads: int) -> float:
    """Floating-point operations per second of a large matrix product; measured once per process."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        states = torch.ones((ROWS, IN), dtype=dtype, device=device)
        weight = torch.ones((OUT, IN), dtype=dtype, device=device)
        best = float("inf")
        for _ in range(REPEATS):
            start = time.perf_counter()
            F.linear(states, weight)[0, 0].item()
            best = min(best, time.perf_counter() - start)
    finally:
        torch.set_num_threads(before)
    return 2 * ROWS * IN * OUT / best
