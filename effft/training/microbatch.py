"""One optimizer step in several passes: prompts of similar length together, the gradient of one padded batch."""

from collections.abc import Sequence

import torch

from effft.errors import MemoryShortError
from effft.models.memory import let_go, out_of_memory
from effft.strategies.batch import Item, cheapest_cut, count
from effft.strategies.learner import Learner
from effft.training.optimizer import Optimizer

BUDGET = 2048
"""Padded tokens a micro-batch may have at the start; between 256 and 4096 the time of a step was flat."""

PASS, WRITE = 48, 120
"""Fixed cost of a pass, in tokens: of the calls (at width 768), and of writing the gradient of the whole model."""


class MicroBatches:
    """Sums the gradient of a step over micro-batches; halves the token budget when memory is short, and goes on."""

    def __init__(self, learner: Learner, budget: int = 0) -> None:
        self.learner, self.budget = learner, budget or BUDGET
        moved = sum(trainable for trainable, _ in learner.groups.values())
        share = moved / sum(total for _, total in learner.groups.values())
        self.overhead = round(PASS * max(1.0, 768 / learner.backbone.width) + WRITE * share)

    def backward(self, items: Sequence[Item], optimizer: Optimizer) -> float:
        """The loss of the step; its gradient is left in the parameters.

        Raises:
            MemoryShortError: a single example does not fit into memory.
        """
        drawn = _random_state(self.learner.backbone.device)
        while True:
            optimizer.zero()
            try:
                return self._sum(items)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
            self._halve(max(item.length for item in items))
            _set_random_state(self.learner.backbone.device, drawn)

    def _sum(self, items: Sequence[Item]) -> float:
        ordered = sorted(items, key=lambda item: item.length)
        whole = count(items)
        value = 0.0
        for part in cheapest_cut([item.length for item in ordered], self.budget, self.overhead):
            loss = self.learner.loss(self.learner.collate(ordered[part]), whole)
            loss.backward()  # type: ignore[no-untyped-call]
            value += loss.item()
        return value

    def _halve(self, longest: int) -> None:
        if self.budget <= longest:
            raise MemoryShortError(
                f"memory is short even for one example of {longest} tokens at a time; "
                "lower --max-length, take a smaller --model, or a strategy that moves fewer parameters."
            ) from None
        self.budget //= 2
        let_go()


def _random_state(device: torch.device) -> torch.Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_random_state(device: torch.device, state: torch.Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
