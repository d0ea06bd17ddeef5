"""What the frozen part of a model makes of a set of prompts, kept for the epochs, folds and trials that ask again."""

import hashlib
import logging
import tempfile
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from effft.strategies.batch import Item
from effft.strategies.learner import Learner

log = logging.getLogger(__name__)

MEMORY = 1 << 30
"""Bytes of kept states in memory; the least recently used go to a file that is mapped, not read."""


class FeatureCache:
    """Kept states by backbone, revision, layer, precision and prompts.

    A set of prompts is kept and found as a whole: the states of one prompt depend, in their last bits, on what it was
    batched with, and a run must give the same numbers whether or not another ran before it.
    """

    def __init__(self, memory: int = MEMORY) -> None:
        self.memory = memory
        self.computed = 0
        self._kept: OrderedDict[str, list[Tensor]] = OrderedDict()
        self._files: dict[str, Path] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def frozen_features(self, learner: Learner, items: Sequence[Item]) -> list[Item]:
        """`Learner.frozen_features`, computed once for each set of items."""
        if not learner.has_frozen_part or not items:
            return list(items)
        key = _key(learner, items)
        states = self._find(key)
        if states is None:
            self.computed += 1
            states = [item.state for item in learner.frozen_features(items) if item.state is not None]
            self._kept[key] = states
            self._spill()
        return [item._replace(state=state) for item, state in zip(items, states, strict=True)]

    def _find(self, key: str) -> list[Tensor] | None:
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        if key in self._files:
            try:
                return _read(self._files[key])
            except (OSError, SafetensorError) as error:
                path = self._files.pop(key)
                log.warning("kept states in %s cannot be read (%s); they are computed again.", path, error)
        return None

    def _spill(self) -> None:
        """Write the least recently used sets to files until the rest fits."""
        while sum(map(_size, self._kept.values())) > self.memory:
            key, states = self._kept.popitem(last=False)
            try:
                self._folder = self._folder or tempfile.TemporaryDirectory(prefix="effft-states-")
                path = Path(self._folder.name) / f"{key}.safetensors"
                _write(path, states)
            except (OSError, SafetensorError) as error:  # it is computed again when it is asked for
                log.warning("kept states cannot be written (%s); they cost time, not results.", error)
                continue
            self._files[key] = path


def _write(path: Path, states: Sequence[Tensor]) -> None:
    """Whole, or not at all."""
    from safetensors.torch import save_file

    lengths = torch.tensor([len(state) if state.ndim == 2 else 0 for state in states])
    flat = torch.cat([state if state.ndim == 2 else state[None] for state in states])
    try:
        save_file({"states": flat, "lengths": lengths}, path)
    except (OSError, SafetensorError):
        path.unlink(missing_ok=True)
        raise


def _read(path: Path) -> list[Tensor]:
    """The states of a file, as views of its mapping: only what is used is read."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        flat, lengths = file.get_tensor("states"), file.get_tensor("lengths").tolist()
    if not any(lengths):
        return list(flat)
    return list(flat.split(lengths))


def _size(states: Sequence[Tensor]) -> int:
    return sum(state.numel() * state.element_size() for state in states)


def _key(learner: Learner, items: Sequence[Item]) -> str:
    backbone = learner.backbone
    dtype = next(backbone.model.parameters()).dtype
    pooling = learner.pooling if learner.head is not None else ""
    what = (backbone.name, backbone.revision, str(backbone.device), str(dtype), learner.frozen_blocks, pooling)
    seen = hashlib.sha256(repr(what).encode())
    for item in items:
        seen.update(repr((item.prompt.ids, item.prompt.segments)).encode())
    return seen.hexdigest()
