"""Recognise that memory is short, free what can be freed, and continue in smaller parts."""

import ctypes
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import torch

from effft.distributed.process_group import process_group
from effft.garbage import release_frames

T = TypeVar("T")
R = TypeVar("R")


def out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch (CUDA, or its CPU allocator), Python or the system means that memory is short."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(words in str(error) for words in ("can't allocate memory", "Cannot allocate memory"))


def release_memory(error: BaseException | None = None) -> None:
    """Free reference cycles, what the frames of an error hold, and what allocators keep for later."""
    release_frames(error)
    with suppress(OSError, AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()


def run_in_parts(work: Callable[[Sequence[T]], R], items: Sequence[T]) -> list[R]:
    """Call `work` on all items; where memory is short, on halves, and so on down to single items.

    With a sharded model all processes compute in step, so none can continue alone in smaller parts.
    """
    try:
        return [work(items)]
    except (RuntimeError, MemoryError) as error:
        if len(items) == 1 or process_group().sharded or not out_of_memory(error):
            raise
    release_memory()
    half = len(items) // 2
    return [*run_in_parts(work, items[:half]), *run_in_parts(work, items[half:])]
