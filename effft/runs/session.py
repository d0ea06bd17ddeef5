"""What the runs of one process share: backbones, tasks, splits and cached hidden states."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from effft.config import DATA_FIELDS, DIFFICULTY_FIELDS, RunConfig
from effft.data.examples import ExampleSet
from effft.data.leakage import LeakageCheck, check_leakage
from effft.distributed.process_group import process_group
from effft.models.backbone import Backbone, LoadOptions, load
from effft.models.description import resolve_device
from effft.models.device_map import is_device_map
from effft.models.files import weights_digest
from effft.models.precision import store_in_bf16
from effft.tasks.from_data import task_of
from effft.tasks.loading import content_digest, read_split
from effft.tasks.task import Task
from effft.training.feature_cache import FeatureCache

T = TypeVar("T")


class Session:
    """Reads every backbone, task and split once, for all runs of one process.

    keep: hand out copies of a backbone and keep the original; False avoids the copy where there is only one run.
    tokens_read: by all trainings so far.
    """

    def __init__(self, keep: bool = True) -> None:
        self.keep = keep
        self._backbones: dict[tuple[str, ...], Backbone] = {}
        self._bf16_backbones: dict[tuple[str, ...], Backbone] = {}
        self._known: dict[tuple[object, ...], Any] = {}
        self.feature_cache, self.tokens_read = FeatureCache(), 0

    @property
    def weight_bytes(self) -> int:
        """Bytes of the backbones that are kept."""
        return sum(p.nbytes for backbone in self._backbones.values() for p in backbone.model.parameters())

    def __getstate__(self) -> dict[str, object]:
        """What another machine needs: whole, unquantized backbones on the CPU; others it loads by name."""
        whole = {k: b for k, b in self._backbones.items() if not b.has_device_map and k[4] == "none"}
        at_home = {k: b.model if b.device.type == "cpu" else copy.deepcopy(b.model).to("cpu") for k, b in whole.items()}
        models = {key: replace(backbone, model=at_home[key]) for key, backbone in whole.items()}
        return {**vars(self), "_backbones": models, "_bf16_backbones": {}, "feature_cache": None}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Move the backbones to this machine's own device."""
        vars(self).update(state, feature_cache=FeatureCache())
        for key, backbone in self._backbones.items():
            backbone.model.to(resolve_device(key[3]))

    def _once(self, key: tuple[object, ...], make: Callable[[], T]) -> T:
        if key not in self._known:
            self._known[key] = make()
        value: T = self._known[key]
        return value

    def task(self, config: RunConfig) -> Task:
        """The task record, at the difficulty that the configuration asks for."""
        key = ("task", *task_key(config), config.allow_outside)
        return self._once(key, lambda: task_of(config).with_difficulty(dict(difficulty_of(config))))

    def split(self, config: RunConfig, name: str) -> ExampleSet:
        """The examples of one split of the task."""
        key = ("split", *task_key(config), name, config.data_dir)
        return self._once(key, lambda: read_split(self.task(config), name, config.data_dir))

    def leakage(self, config: RunConfig, name: str) -> LeakageCheck:
        """The split, compared with `train`."""
        key = ("leakage", *task_key(config), name, config.data_dir)
        return self._once(key, lambda: check_leakage(self.split(config, name), self.split(config, "train")))

    def task_digest(self, config: RunConfig) -> str:
        """The identity of the task's content: its record and its data."""
        key = ("task digest", *task_key(config), config.data_dir)
        return self._once(key, lambda: content_digest(self.task(config), config.data_dir))

    def model_digest(self, config: RunConfig) -> str:
        """The identity of the backbone's weights."""
        key = ("model digest", config.model, config.revision)
        return self._once(key, lambda: weights_digest(config.model, config.revision))

    def has_backbone(self, model: str) -> bool:
        """Whether a backbone of this name is loaded, wherever its files are."""
        return any(key[0] == model for key in self._backbones)

    def loaded_backbone(self, config: RunConfig, lm_head: bool) -> Backbone:
        """The backbone as loaded: read it, never change it."""
        storage = (config.quantize, config.precision if is_device_map(config.device) else "")
        key = (config.model, config.revision, str(lm_head), config.device, *storage)
        if key not in self._backbones:
            device = "cpu" if process_group().sharded else config.device  # shards move to the device one by one
            options = LoadOptions(config.quantize, config.precision)
            self._backbones[key] = load(config.model, config.revision, lm_head, device, options)
        return self._backbones[key]

    def frozen_backbone(self, config: RunConfig, lm_head: bool, precision: str) -> Backbone:
        """A backbone for runs that change no weight of it: the one that was loaded, or one shared bf16 copy."""
        backbone = self.loaded_backbone(config, lm_head)
        if precision != "bf16" or backbone.has_device_map or config.quantize != "none":
            return backbone
        key = (config.model, config.revision, str(lm_head), config.device)
        if key not in self._bf16_backbones:
            self._bf16_backbones[key] = replace(backbone, model=copy.deepcopy(backbone.model))
            store_in_bf16(self._bf16_backbones[key].model)
        return self._bf16_backbones[key]

    def working_backbone(self, config: RunConfig, lm_head: bool, frozen: Backbone | None = None) -> Backbone:
        """A backbone that a run may change: a copy, or the one that was loaded where no other run follows.

        frozen: a `frozen_backbone` to share all weights with, where the run changes none of them.
        """
        backbone = frozen or self.loaded_backbone(config, lm_head)
        if self.keep and not backbone.has_device_map:  # with a device map nothing trains, so nothing changes
            shared = {id(p): p for p in backbone.model.parameters()} if frozen else {}
            return replace(backbone, model=copy.deepcopy(backbone.model, dict[int, object](shared)))
        self._backbones.clear()
        return backbone


def difficulty_of(config: RunConfig) -> tuple[tuple[str, float], ...]:
    """The difficulty settings of a built-in task that the configuration sets, with their values."""
    return tuple((name, getattr(config, name)) for name in DIFFICULTY_FIELDS if getattr(config, name) is not None)


def task_key(config: RunConfig) -> tuple[object, ...]:
    """What the record of a task depends on."""
    return (config.task, *(getattr(config, name) for name in DATA_FIELDS), difficulty_of(config))
