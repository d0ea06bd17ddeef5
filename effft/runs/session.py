"""What the runs of one process share: backbones, tasks, splits, kept states."""

import copy
from dataclasses import replace

from torch import nn

from effft.config import DIFFICULTY_FIELDS, RunConfig
from effft.data.examples import ExampleSet
from effft.data.leakage import LeakageCheck, check_leakage
from effft.distributed.process_group import process_group
from effft.models.backbone import Backbone, LoadOptions, load, resolve_device
from effft.models.precision import store_in_bf16
from effft.tasks.loading import read_split
from effft.tasks.task import Task, load_task
from effft.training.feature_cache import FeatureCache

DifficultyValues = tuple[tuple[str, float], ...]


class Session:
    """What the runs of one process share: backbones and splits are read once.

    keep: hand out copies of a backbone and keep the original for the next run (False: a single run, no copy).
    """

    def __init__(self, keep: bool = True) -> None:
        self.keep = keep
        self._backbones: dict[tuple[str, ...], Backbone] = {}
        self._rounded: dict[tuple[str, ...], Backbone] = {}
        self._splits: dict[tuple[str, DifficultyValues, str, str], ExampleSet] = {}
        self._tasks: dict[tuple[str, DifficultyValues, bool], Task] = {}
        self._checked: dict[tuple[str, DifficultyValues, str, str], LeakageCheck] = {}
        self.activations = FeatureCache()

    @property
    def weight_bytes(self) -> int:
        """Bytes of the backbones that are kept."""
        return sum(p.nbytes for backbone in self._backbones.values() for p in backbone.model.parameters())

    def __getstate__(self) -> dict[str, object]:
        """What another machine needs: all but the kept states; whole weights, on the CPU. Others it loads by name."""
        whole = {k: found for k, found in self._backbones.items() if not found.spread and k[4] == "none"}
        models = {key: replace(found, model=_on_cpu(found.model)) for key, found in whole.items()}
        return {**vars(self), "_backbones": models, "_rounded": {}, "activations": None}

    def __setstate__(self, state: dict[str, object]) -> None:
        """As it was, on this machine's own device."""
        vars(self).update(state, activations=FeatureCache())
        for key, backbone in self._backbones.items():
            backbone.model.to(resolve_device(key[3]))

    def task(self, config: RunConfig) -> Task:
        """The task record, its knobs turned."""
        key = (config.task, difficulty_of(config), config.allow_outside)
        if key not in self._tasks:
            self._tasks[key] = load_task(config.task, config.allow_outside).turned(dict(key[1]))
        return self._tasks[key]

    def split(self, config: RunConfig, name: str) -> ExampleSet:
        """The examples of one split of the task."""
        key = (config.task, difficulty_of(config), name, config.data_dir)
        if key not in self._splits:
            self._splits[key] = read_split(self.task(config), name, config.data_dir)
        return self._splits[key]

    def checked(self, config: RunConfig, name: str) -> LeakageCheck:
        """The split, compared with train."""
        key = (config.task, difficulty_of(config), name, config.data_dir)
        if key not in self._checked:
            self._checked[key] = check_leakage(self.split(config, name), self.split(config, "train"))
        return self._checked[key]

    def knows(self, model: str) -> bool:
        """Whether a backbone of this name is here already, wherever its files are."""
        return any(key[0] == model for key in self._backbones)

    def original(self, config: RunConfig, lm_head: bool) -> Backbone:
        """The pristine backbone, to look at."""
        key = (config.model, config.revision, str(lm_head), config.device, config.quantize)
        if key not in self._backbones:
            device = "cpu" if process_group().sharded else config.device  # whole it may not fit; its pieces move there
            stored = LoadOptions(config.quantize, config.precision)
            self._backbones[key] = load(config.model, config.revision, lm_head, device, stored)
        return self._backbones[key]

    def frozen(self, config: RunConfig, lm_head: bool, precision: str) -> Backbone:
        """A backbone whose weights nobody may change: the original, or one bf16 copy of it, made once."""
        backbone = self.original(config, lm_head)
        if precision != "bf16" or backbone.spread or config.quantize != "none":
            return backbone
        key = (config.model, config.revision, str(lm_head), config.device)
        if key not in self._rounded:
            self._rounded[key] = replace(backbone, model=copy.deepcopy(backbone.model))
            store_in_bf16(self._rounded[key].model)
        return self._rounded[key]

    def backbone(self, config: RunConfig, lm_head: bool, frozen: Backbone | None = None) -> Backbone:
        """A backbone to change: a copy, or the original where nothing is kept.

        frozen: where every weight stays what it is, the backbone (`frozen`) that they are shared with.
        """
        backbone = frozen or self.original(config, lm_head)
        if self.keep and not backbone.spread:  # where nothing trains, nothing changes
            shared = {id(p): p for p in backbone.model.parameters()} if frozen else {}
            return replace(backbone, model=copy.deepcopy(backbone.model, dict[int, object](shared)))
        self._backbones.clear()
        return backbone


def _on_cpu(model: nn.Module) -> nn.Module:
    return model if next(model.parameters()).device.type == "cpu" else copy.deepcopy(model).to("cpu")


def difficulty_of(config: RunConfig) -> DifficultyValues:
    """The knobs of a built-in task that are turned, with their values."""
    return tuple((name, getattr(config, name)) for name in DIFFICULTY_FIELDS if getattr(config, name) is not None)
