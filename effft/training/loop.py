"""The one training loop: a generator that yields after every optimizer update."""

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from effft.config import RunConfig
from effft.errors import DivergedError
from effft.strategies.batch import Item
from effft.strategies.learner import Learner
from effft.strategies.strategy import Strategy
from effft.training.microbatch import MicroBatches
from effft.training.optimizer import Optimizer, schedule_factor


@dataclass(frozen=True)
class Step:
    """One optimizer update. index, epoch: from 1; loss: before it; budget: padded tokens a micro-batch may have."""

    index: int
    total: int
    epoch: int
    loss: float
    learning_rate: float
    gradient_norm: float
    tokens: int
    ends_epoch: bool
    budget: int


def steps_in(config: RunConfig, strategy: Strategy, examples: int) -> int:
    """Optimizer updates a run makes: `steps` when given, else epochs x batches an epoch."""
    return config.steps or (config.epochs or strategy.loss.epochs) * math.ceil(examples / config.batch_size)


@contextmanager
def private_randomness(seed: int) -> Iterator[None]:
    """While open, torch's global generators (dropout draws from them) start at `seed`; after it they are as before."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def train(
    learner: Learner, items: Sequence[Item], config: RunConfig, learning_rate: float, order: random.Random
) -> Iterator[Step]:
    """Yield after every update; stop by not asking for the next. `order` shuffles each epoch.

    Raises:
        DivergedError: the loss or the gradient is not finite (with step and learning rate).
        RunError: memory is short.
    """
    optimizer = Optimizer(learner, config.weight_decay)
    total = steps_in(config, learner.strategy, len(items))
    parts = MicroBatches(learner)
    for index, (epoch, chosen, ends) in enumerate(batches(len(items), config.batch_size, order), start=1):
        rate = learning_rate * schedule_factor(config.schedule, config.warmup, index - 1, total)
        batch = [items[i] for i in chosen]
        with learner.training():
            value = parts.backward(batch, optimizer)
        _must_be_finite("loss", value, index, rate)
        norm = optimizer.norm()
        _must_be_finite("gradient norm", norm, index, rate)
        optimizer.step(rate, norm, config.clip_norm)
        learner.after_update(index, total)
        tokens = sum(item.length for item in batch)
        yield Step(index, total, epoch, value, rate, norm, tokens, ends or index == total, parts.budget)
        if index == total:
            return


def batches(size: int, batch_size: int, order: random.Random) -> Iterator[tuple[int, list[int], bool]]:
    """(epoch, indices, last of its epoch), without end; `order` shuffles each epoch."""
    for epoch in itertools.count(1):
        shuffled = order.sample(range(size), size)
        for start in range(0, size, batch_size):
            yield epoch, shuffled[start : start + batch_size], start + batch_size >= size


def _must_be_finite(what: str, value: float, step: int, rate: float) -> None:
    """A loss or norm that is not finite is a DivergedError, with step and learning rate."""
    if not math.isfinite(value):
        remedy = "lower --learning-rate" if step > 1 else "nothing was updated yet, so try --precision fp32"
        raise DivergedError(f"the {what} is {value} at step {step} (learning rate {rate:.3g}); {remedy}.")
