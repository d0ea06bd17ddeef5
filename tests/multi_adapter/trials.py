"""Five trials that differ in everything a search may vary, alone and packed, on small backbones in float64."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from helpers import EXAMPLES, learner_on, small_task
from torch import Tensor

from effft.config import RunConfig
from effft.models.backbone import Backbone, load
from effft.multi_adapter.member import Member, new_member
from effft.multi_adapter.trainer import MultiAdapterTrainer
from effft.strategies.batch import Item
from effft.strategies.learner import Learner
from effft.strategies.prompting import PromptEncoder
from effft.strategies.scoring import predict
from effft.strategies.strategy import Strategy, compose
from effft.training.loop import Step, train

STEPS = 20
SEARCHED = (
    {"rank": 1, "alpha": 1.0, "learning_rate": 2e-2, "batch_size": 4, "schedule": "cosine", "seed": 1},
    {"rank": 8, "alpha": 16.0, "learning_rate": 5e-3, "batch_size": 2, "weight_decay": 0.1, "lora_modules": "all"},
    {"rank": 3, "alpha": 1.5, "learning_rate": 1e-2, "batch_size": 6, "warmup": 0.3, "clip_norm": 0.0, "seed": 3},
    {"rank": 8, "alpha": 4.0, "learning_rate": 3e-2, "batch_size": 1, "clip_norm": 0.05, "schedule": "constant"},
    {"rank": 4, "alpha": 16.0, "learning_rate": 1e-3, "batch_size": 5, "lora_modules": "query_value", "seed": 5},
)
TEMPERATURES = (0.5, 1.0, 2.0, 4.0, 1.5)


@dataclass(frozen=True)
class Trial:
    """A configuration with its strategy."""

    config: RunConfig
    strategy: Strategy

    def items(self, learner: Learner) -> list[Item]:
        """Six examples; in distillation some taught, one unlabelled."""
        items = learner.items(EXAMPLES)
        if "distill" not in self.strategy.name:
            return items
        taught = [item._replace(teacher=(-1.0 - i, -2.0)) for i, item in enumerate(items[2:])]
        return [*items[:2], *taught[:-1], taught[-1]._replace(label=-1)]


@dataclass(frozen=True)
class Outcome:
    """Losses and gradient norms step by step, the weights at the end, scores of all examples."""

    losses: list[float]
    norms: list[float]
    weights: dict[str, Tensor]
    scores: Tensor


def trials(spec: str, steps: int = STEPS) -> list[Trial]:
    """Five of a strategy."""
    found = []
    for values, temperature in zip(SEARCHED, TEMPERATURES, strict=True):
        own = {k: v for k, v in values.items() if "bitfit" not in spec or k not in ("rank", "alpha", "lora_modules")}
        config = RunConfig(strategy=spec, steps=steps, **own)
        parts = {k: v for k, v in values.items() if k in compose(spec).parameters}
        more = {"temperature": temperature, "kl_weight": temperature / 5} if "distill" in spec else {}
        found.append(Trial(config, compose(spec).with_parameters({**parts, **more})))
    return found


def alone(folder: Path, trial: Trial, precision: str = "") -> Outcome:
    """The trial by the loop of a run, in float64 or with precision 'bf16'."""
    if precision:
        backbone = load(str(folder), need_lm_head=type(trial.strategy.head).__name__ == "Verbalizer")
        reader = PromptEncoder(trial.strategy, small_task(), backbone, 64)
        generator = torch.Generator().manual_seed(trial.config.seed)
        learner = Learner(trial.strategy, small_task(), backbone, reader, generator, precision)
    else:
        learner = learner_on(folder, trial.strategy, trial.config.seed, dtype=torch.float64)
    order = random.Random(f"order {trial.config.seed}")
    rate = trial.config.learning_rate or 0.0
    steps = list(train(learner, trial.items(learner), trial.config, rate, order))
    weights = {name: p.detach().clone() for name, p in learner.trainable_parameters.items()}
    scores = predict(learner, learner.items(EXAMPLES))
    return Outcome([s.loss for s in steps], [s.gradient_norm for s in steps], weights, scores)


def shared(folder: Path, spec: str, dtype: torch.dtype = torch.float64) -> Backbone:
    """A backbone for all."""
    backbone = load(str(folder), need_lm_head=type(compose(spec).head).__name__ == "Verbalizer")
    backbone.model.to(dtype)
    return backbone


def member(backbone: Backbone, trial: Trial) -> Member:
    """The trial at its start, on a shared backbone."""
    task, config = small_task(), trial.config
    encoder = PromptEncoder(trial.strategy, task, backbone, 64)
    return new_member(trial.strategy, task, backbone, encoder, config, config.learning_rate or 0.0, trial.items)


def packed(backbone: Backbone, members: Sequence[Member], width: int = 5, budget: int = 0) -> list[Outcome]:
    """The trials side by side, at most `width` of them at a time, the next taking the place of one that ends."""
    trainer, waiting = MultiAdapterTrainer(backbone, budget), list(members)
    steps, scores = {id(m): list[Step]() for m in members}, dict[int, Tensor]()
    while waiting or trainer.members:
        room = width - len(trainer.members)
        trainer.members += waiting[:room]
        waiting = waiting[room:]
        for m, step in zip(trainer.members, trainer.step(), strict=True):
            assert isinstance(step, Step), step
            steps[id(m)].append(step)
        ended = {i: m for i, m in enumerate(trainer.members) if m.index == m.total}
        found = trainer.scores({i: m.learner.items(EXAMPLES) for i, m in ended.items()})
        scores |= {id(ended[i]): value for i, value in found.items()}
        trainer.members = [m for m in trainer.members if m.index < m.total]
    return [
        Outcome(
            [s.loss for s in steps[id(m)]],
            [s.gradient_norm for s in steps[id(m)]],
            {name: p.detach() for name, p in m.parameters.items()},
            scores[id(m)],
        )
        for m in members
    ]
