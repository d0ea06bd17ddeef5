"""What a computation would take, run on torch's meta device: bytes alive at once, floating-point operations."""

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class MetaMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A context in which tensors are counted: `peak` is the most bytes that they hold at once, `now` what they hold.

    Args:
        existing: tensors that are not counted, nor are views of them.

    Attributes:
        flops: operations of the matrix products inside, as torch counts them (a multiply and an add are two).
    """

    def __init__(self, existing: Iterable[torch.Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = self.flops = 0
        self._existing = list(existing)  # storages are known by id, so the tensors must live
        self._known = {id(tensor.untyped_storage()): 0 for tensor in self._existing}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and count the tensors that it made."""
        out = func(*args, **(kwargs or {}))
        for made in tree_leaves(out):
            if isinstance(made, torch.Tensor):
                for part in (made._indices(), made._values()) if made.is_sparse else (made,):
                    self._add(part.untyped_storage())
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = id(storage)
        if key not in self._known:
            self._known[key] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self.now -= self._known.pop(key, 0)


@contextmanager
def measure_meta(existing: Iterable[torch.Tensor] = ()) -> Iterator[MetaMemory]:
    """`MetaMemory` with `flops`, which are known when it ends."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, MetaMemory(existing) as memory:
        yield memory
    memory.flops = int(counter.get_total_flops())
