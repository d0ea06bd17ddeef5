"""One LoRA or BitFit trial as a member of a pack: what it starts from, what it reads, and where it stands."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from effft.config import RunConfig
from effft.models.backbone import Backbone
from effft.multi_adapter.bias import biases_of
from effft.multi_adapter.lora import new_adapter
from effft.multi_adapter.stacked_parameters import MemberState
from effft.strategies.batch import Item
from effft.strategies.learner import Learner
from effft.strategies.parts import LoRA, NoLoss, Nothing, Verbalizer
from effft.strategies.prompting import PromptEncoder
from effft.strategies.strategy import Strategy
from effft.tasks.task import Task
from effft.training.loop import batches, steps_in


@dataclass(eq=False)
class Member:
    """learner: the strategy's head and task on the shared backbone, of which nothing moves; own: what moves.

    rate: the peak learning rate; index: updates so far.
    """

    learner: Learner
    strategy: Strategy
    own: MemberState
    items: Sequence[Item]
    config: RunConfig
    rate: float
    index: int = 0

    def __post_init__(self) -> None:
        order = random.Random(f"order {self.config.seed}")
        self.batches: Iterator[tuple[int, list[int], bool]] = batches(len(self.items), self.config.batch_size, order)
        self.total = steps_in(self.config, len(self.items))

    @property
    def scale(self) -> float:
        """What the product of the matrices is multiplied with."""
        part = self.strategy.trainable
        return part.alpha / part.rank if isinstance(part, LoRA) else 1.0

    @property
    def moving(self) -> int:
        """Trainable parameters."""
        return sum(weight.numel() for weight in self.own.weights.values())


def frozen_learner(
    strategy: Strategy, task: Task, backbone: Backbone, reader: PromptEncoder, generator: torch.Generator
) -> tuple[Learner, MemberState]:
    """A learner that leaves the backbone as it is, and what moves instead (LoRA or BitFit, and the head), at its start.

    The draws are those of a lone `Learner`, in its order: the adapters, then the head.
    """
    part = strategy.trainable
    part.check(backbone)
    if isinstance(part, LoRA):
        weights = new_adapter(backbone, part.rank, part.lora_modules, generator)
    else:
        weights = biases_of(backbone)
    loss = NoLoss() if isinstance(strategy.head, Verbalizer) else strategy.loss
    learner = Learner(replace(strategy, trainable=Nothing(), loss=loss), task, backbone, reader, generator)
    if learner.head is not None:
        weights |= {f"head.{name}": p.detach().clone() for name, p in learner.head.named_parameters()}
    return learner, MemberState(weights)
