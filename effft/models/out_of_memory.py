"""Memory that runs short: knowing it, and going on in smaller parts."""

import ctypes
import gc
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import torch

from effft.distributed.process_group import process_group

T = TypeVar("T")
R = TypeVar("R")


def out_of_memory(error: BaseException) -> bool:
    """Whether torch (CUDA, or its CPU allocator), Python or the system says that memory is short."""
    said = str(error)
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or "can't allocate memory" in said or "Cannot allocate memory" in said


def release_memory(error: BaseException | None = None) -> None:
    """Free what nobody holds any more: cycles, what the frames of an error hold, what the C library keeps for later."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__
    gc.collect()
    with suppress(OSError, AttributeError):  # not every C library has it
        ctypes.CDLL(None).malloc_trim(0)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()


def run_in_parts(work: Callable[[Sequence[T]], R], items: Sequence[T]) -> list[R]:
    """`work` on all items; where memory is short, on halves, and so on down to single ones.

    A sharded model is computed by all processes in step, so there nobody can go on alone in smaller parts.
    """
    try:
        return [work(items)]
    except (RuntimeError, MemoryError) as error:
        if len(items) == 1 or process_group().sharded or not out_of_memory(error):
            raise
    release_memory()
    half = len(items) // 2
    return [*run_in_parts(work, items[:half]), *run_in_parts(work, items[half:])]
