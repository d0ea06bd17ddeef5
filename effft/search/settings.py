"""What a study is asked to do, and what was found out about it before it starts."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from optuna.study import StudyDirection

from effft.config import DATA_FIELDS, RunConfig
from effft.search.jobs import TrainingJob
from effft.search.spaces import Space, Values, fields
from effft.version import __version__

DIRECTIONS = {
    "validation": StudyDirection.MAXIMIZE,
    "peak_memory": StudyDirection.MINIMIZE,
    "train_seconds": StudyDirection.MINIMIZE,
    "trainable_parameters": StudyDirection.MINIMIZE,
}
"""Objectives by name."""

EXECUTORS = {
    "processes": "`workers` processes of this machine; one worker is this process",
    "ray": "tasks of a Ray cluster, `workers` of them at a time",
}
"""Who measures trials."""

CROSS_VALIDATED_FROM = 8
"""Examples per label from which k-fold on the shots is the default; below, the validation draw is used."""

FOLDS = 4
HELD_OUT_SEED_OFFSET = 1000
"""Seeds from `seed + HELD_OUT_SEED_OFFSET` on are used by no trial: finals take them, and re-evaluation those from
twice the offset on, so that what chose the winner does not judge it."""

UNIMPORTANT = ("threads", "log_model")
PLACES = ("task", *DATA_FIELDS, "data_dir", "allow_outside", "model", "revision")
"""Fields that lead to data and weights; what counts is the content (`StudyPlan.content`)."""


@dataclass(frozen=True)
class Settings:
    """trials: finished ones asked for. folds: 0 = the validation draw. seeds, data_seeds: of the finals.

    executor: who measures trials; ray_address, ray_gpus: where, and the share of a GPU for each. minutes: what all of
    it may take, 0 = no limit; finals_share: of them, what re-evaluations and finals may.
    """

    trials: int = 20
    folds: int = FOLDS
    inner_seeds: int = 1
    reseeds: int = 3
    seeds: int = 5
    data_seeds: int = 1
    sampler: str = "auto"
    pruner: str = "wilcoxon"
    workers: int = 1
    executor: str = "processes"
    objectives: tuple[str, ...] = ("validation",)
    constraints: tuple[tuple[str, float], ...] = ()
    ray_address: str = "auto"
    ray_gpus: float = 0.0
    minutes: float = 0.0
    finals_share: float = 0.33


@dataclass(frozen=True)
class StudyPlan:
    """A study that passed every check.

    Args:
        name: Its name in the storage.
        config: What is common to all trials, with the fixed values.
        space: What is searched.
        settings: What the study is asked to do.
        metric: The primary metric.
        defaults: The strategy's own values of what it can search.
        task: Name of the task.
        default: The default configuration, the reference of every study; no range or fixed value changes it.
        excluded: What of the default the space cannot reach: 'rank=8'.
        guesses: What the first trials try, as Optuna's parameters; the first is the default, or the nearest to it.
        content: Digests of the data and the weights.
        fixed: Names of the space that are no fields (`alpha_ratio`), with their values.
    """

    name: str
    config: RunConfig
    space: Space
    settings: Settings
    metric: str
    defaults: Values
    task: str
    default: RunConfig
    excluded: tuple[str, ...]
    guesses: tuple[Values, ...]
    content: Mapping[str, str]
    fixed: Mapping[str, object] = field(default_factory=dict)

    @property
    def signature(self) -> dict[str, str]:
        """What must be the same when a study goes on; the number of trials and the workers may change."""
        core = self.config.model_dump(exclude={*UNIMPORTANT, *PLACES}, exclude_none=True)
        kept = {k: v for k, v in asdict(self.settings).items() if k in ("folds", "inner_seeds", "objectives")}
        space = {name: str(dimension) for name, dimension in self.space.items()}
        every = {**core, **self.fixed, **kept, "constraints": self.settings.constraints}
        flat = {name: json.dumps(value) for name, value in every.items()} | dict(self.content)
        return flat | {"space": json.dumps(space, sort_keys=True), "metric": self.metric, "task": self.task}

    def digest(self, unit: TrainingJob) -> str:
        """16 hex digits of all that a training depends on: configuration, seeds, fold, data, weights, version."""
        config = unit.config.model_dump(exclude={*UNIMPORTANT, *PLACES})
        every = [config, unit.fold, sorted(self.content.items()), __version__]
        return hashlib.sha256(json.dumps(every, sort_keys=True).encode()).hexdigest()[:16]

    def config_of(self, values: Mapping[str, object], **more: object) -> RunConfig:
        """The common configuration with these values of the space."""
        rank = int(str(self.config.rank or self.defaults.get("rank") or 1))
        merged = {**self.config.model_dump(exclude_unset=True), **fields({**self.fixed, **values}, rank), **more}
        return RunConfig(**{name: value for name, value in merged.items() if value is not None})

    def units(self, values: Mapping[str, object], first_seed: int, seeds: int) -> list[TrainingJob]:
        """The units that measure a configuration: every seed on every fold, the folds cut anew by each seed."""
        jobs, threads = [], self.config.threads or int(self.settings.workers > 1)
        own = {"bootstrap": 0, "selection": self.config.selection, "log_model": False, "threads": threads}
        for seed in range(first_seed, first_seed + seeds):
            config = self.config_of(values, seed=seed, **own)
            folds = self.settings.folds
            jobs += [TrainingJob(config, (fold, folds, seed)) for fold in range(folds)] or [TrainingJob(config)]
        return jobs
