"""One LoRA or BitFit trial among several on a shared backbone: its own parameters, data order and optimizer."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from effft.config import RunConfig
from effft.errors import RunError
from effft.models.backbone import Backbone
from effft.multi_adapter.adapters import Deltas, head_delta, new_biases, new_lora, parameter_dtype
from effft.strategies.batch import Item
from effft.strategies.learner import Learner
from effft.strategies.parts import LoRA, NoLoss, Nothing, Verbalizer
from effft.strategies.prompting import PromptEncoder
from effft.strategies.strategy import Strategy
from effft.tasks.task import Task
from effft.training.loop import Step, batches, must_be_finite, steps_in
from effft.training.optimizer import schedule_factor


@dataclass(eq=False)
class Member:
    """A trial that shares the passes of a `MultiAdapterTrainer`.

    Attributes:
        learner: the strategy's head and prompts on the shared backbone, of which nothing trains.
        parameters: what trains, by the names of a lone run.
        deltas: what the parameters do in the backbone.
        items: the training examples.
        rate: the peak learning rate.
        index: updates so far.
    """

    learner: Learner
    strategy: Strategy
    config: RunConfig
    rate: float
    parameters: dict[str, nn.Parameter]
    deltas: Deltas
    items: Sequence[Item]
    index: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        order = random.Random(f"order {self.config.seed}")
        self.batches = batches(len(self.items), self.config.batch_size, order)
        self.total = steps_in(self.config, len(self.items))
        decayed = [p for p in self.parameters.values() if p.ndim > 1]
        others = [p for p in self.parameters.values() if p.ndim <= 1]
        groups = [(decayed, self.config.weight_decay), (others, 0.0)]
        self.optimizer = torch.optim.AdamW(
            [{"params": group, "weight_decay": decay} for group, decay in groups if group], fused=True
        )

    @property
    def trainable(self) -> int:
        """Number of trainable parameters."""
        return sum(p.numel() for p in self.parameters.values())

    def deltas_with_head(self, head: nn.Linear | None) -> Deltas:
        """All deltas, those of this member's classifier at the module `head`, which is called for all members."""
        if head is None:
            return self.deltas
        weight, bias = self.parameters["head.linear.weight"], self.parameters["head.linear.bias"]
        return {**self.deltas, head: head_delta(weight, bias)}

    def update(self, epoch: int, ends_epoch: bool, tokens: int, loss: float, budget: int) -> Step | RunError:
        """One optimizer update from the gradients; a RunError where loss or gradient is not finite."""
        self.index += 1
        config, index, total = self.config, self.index, self.total
        rate = self.rate * schedule_factor(config.schedule, config.warmup, index - 1, total)
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        try:
            must_be_finite("loss", loss, index, rate)
            must_be_finite("gradient norm", norm.item(), index, rate)
        except RunError as error:
            return error
        if config.clip_norm:
            torch.nn.utils.clip_grads_with_norm_(self.parameters.values(), config.clip_norm, norm)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        return Step(index, total, epoch, loss, rate, norm.item(), tokens, ends_epoch or index == total, budget)


def new_member(
    strategy: Strategy,
    task: Task,
    backbone: Backbone,
    encoder: PromptEncoder,
    config: RunConfig,
    rate: float,
    items: Callable[[Learner], Sequence[Item]],
) -> Member:
    """A member at its start, from the draws of a lone `Learner` in its order: the adapters, then the head.

    items: makes the training examples, given the frozen learner (it may be the teacher).
    """
    part = strategy.trainable
    part.check(backbone)
    generator = torch.Generator().manual_seed(config.seed)
    parameters, deltas = new_lora(backbone, part, generator) if isinstance(part, LoRA) else new_biases(backbone)
    loss = NoLoss() if isinstance(strategy.head, Verbalizer) else strategy.loss
    learner = Learner(replace(strategy, trainable=Nothing(), loss=loss), task, backbone, encoder, generator)
    if learner.head is not None:
        learner.head.to(parameter_dtype(next(backbone.model.parameters()).dtype))
        parameters |= {f"head.{name}": nn.Parameter(p.detach().clone()) for name, p in learner.head.named_parameters()}
    return Member(learner, strategy, config, rate, parameters, deltas, items(learner))
