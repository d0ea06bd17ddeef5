"""The output of the frozen part of a model for a set of prompts, cached across epochs, folds and trials."""

import hashlib
import logging
import tempfile
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from effft.models.flops import counted
from effft.strategies.batch import Item
from effft.strategies.learner import Learner

log = logging.getLogger(__name__)

MEMORY = 1 << 30
"""Bytes of states in memory; the least recently used sets go to files, which are mapped, not read."""


@dataclass
class Cost:
    """What states took to compute: seconds, operations of the linear maps, peak memory of the run that did."""

    seconds: float = 0.0
    flops: int = 0
    peak_bytes: int = 0


class FeatureCache:
    """States by backbone, revision, layer, precision and prompts.

    A set of prompts is cached as a whole: the last bits of a prompt's states depend on what it was batched with, and
    a run must give the same numbers whether or not another ran before it. That holds for its costs too: what a stage
    of it found counts as if that stage had computed it (`saved`, `peak_of_run`).

    Attributes:
        computed: sets of prompts that were computed, not found.
    """

    def __init__(self, memory: int = MEMORY) -> None:
        self.memory = memory
        self.computed = 0
        self._sets: OrderedDict[str, list[Tensor]] = OrderedDict()
        self._files: dict[str, Path] = {}
        self._costs: dict[str, Cost] = {}
        self._of_run: set[str] = set()
        self._of_stage: set[str] = set()
        self._saved = Cost()
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def frozen_features(self, learner: Learner, items: Sequence[Item]) -> list[Item]:
        """`Learner.frozen_features`, computed once for each set of items."""
        if not learner.has_frozen_part or not items:
            return list(items)
        key = _key(learner, items)
        states = self._find(key)
        if states is None:
            self.computed += 1
            start = time.perf_counter()
            with counted(learner.backbone.model) as flops:
                states = [item.state for item in learner.frozen_features(items) if item.state is not None]
            self._costs[key] = Cost(time.perf_counter() - start, flops.total)
            self._sets[key] = states
            self._spill()
        elif key not in self._of_stage:
            self._saved.seconds += self._costs[key].seconds
            self._saved.flops += self._costs[key].flops
        self._of_run.add(key)
        self._of_stage.add(key)
        return [item._replace(state=state) for item, state in zip(items, states, strict=True)]

    def start_run(self) -> None:
        """Forget which sets the run before had."""
        self._of_run = set()

    def start_stage(self) -> None:
        """From here on, a set counts as saved the first time it is found."""
        self._of_stage, self._saved = set(), Cost()

    def saved(self) -> Cost:
        """What the sets took that were found in this stage."""
        return self._saved

    def peak_of_run(self, peak_bytes: int) -> int:
        """The peak of a run that ends, or that of the run which computed what this one found, where it was higher."""
        for cost in (self._costs[key] for key in self._of_run):
            cost.peak_bytes = cost.peak_bytes or peak_bytes
            peak_bytes = max(peak_bytes, cost.peak_bytes)
        return peak_bytes

    def _find(self, key: str) -> list[Tensor] | None:
        if key in self._sets:
            self._sets.move_to_end(key)
            return self._sets[key]
        if key in self._files:
            try:
                return _read(self._files[key])
            except (OSError, SafetensorError) as error:
                path = self._files.pop(key)
                log.warning("cached states in %s cannot be read (%s); they are computed again.", path, error)
        return None

    def _spill(self) -> None:
        """Write the least recently used sets to files until the rest fits."""
        while sum(state.nbytes for states in self._sets.values() for state in states) > self.memory:
            key, states = self._sets.popitem(last=False)
            try:
                self._folder = self._folder or tempfile.TemporaryDirectory(prefix="effft-states-")
                path = Path(self._folder.name) / f"{key}.safetensors"
                _write(path, states)
                self._files[key] = path
            except (OSError, SafetensorError) as error:  # it is computed again when it is asked for
                log.warning("cached states cannot be written (%s); they cost time, not results.", error)


def _write(path: Path, states: Sequence[Tensor]) -> None:
    """Write the file, or leave none."""
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
    return list(flat.split(lengths) if any(lengths) else flat)


def _key(learner: Learner, items: Sequence[Item]) -> str:
    backbone = learner.backbone
    kinds = sorted({str(parameter.dtype) for parameter in backbone.model.parameters()})  # quantized maps are integers
    pooling = learner.pooling if learner.head is not None else ""
    contexts = learner.label_tokens.contexts if learner.label_tokens else ()
    place = (backbone.name, backbone.revision, str(backbone.device), *kinds)
    what = (*place, learner.frozen_blocks, pooling, contexts)
    seen = hashlib.sha256(repr(what).encode())
    for item in items:
        seen.update(repr((item.prompt.ids, item.prompt.segments)).encode())
    return seen.hexdigest()
