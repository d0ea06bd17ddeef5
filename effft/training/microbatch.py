"""One optimizer step in several passes: prompts of similar length together, the gradient of one padded batch."""

from collections.abc import Sequence

import torch

from effft.distributed.process_group import process_group
from effft.errors import MemoryShortError
from effft.models.forward.batching import cheapest_cut, even_cut
from effft.models.out_of_memory import out_of_memory, release_memory
from effft.strategies.batch import Counts, Item, count
from effft.strategies.learner import Learner
from effft.training.optimizer import Optimizer

BUDGET = 2048
"""Padded tokens a micro-batch may have at the start; between 256 and 4096 the time of a step was flat."""

PACKED, PACKED_WHOLE = 1536, 1024
"""Tokens of a packed micro-batch at the start; fewer where most weights train, as their moments need the memory."""

PASS, WRITE = 48, 120
"""Fixed cost of a pass, in tokens: of the calls (at width 768), and of writing the gradient of the whole model."""


class MicroBatches:
    """Sums the gradient of a step over micro-batches; halves the token budget when memory is short, and goes on."""

    def __init__(self, learner: Learner, budget: int = 0) -> None:
        trained = sum(trainable for trainable, _ in learner.groups.values())
        share = trained / sum(total for _, total in learner.groups.values())
        packed = PACKED if share < 0.5 else PACKED_WHOLE
        usual = 1 if learner.backbone.reads_padding else packed if learner.packs_sequences else BUDGET
        self.learner, self.budget = learner, budget or usual
        self.overhead = round(PASS * max(1.0, 768 / learner.backbone.width) + WRITE * share)

    def backward(self, items: Sequence[Item], optimizer: Optimizer) -> float:
        """The loss of the step; its gradient is left in the parameters. Each process takes a share of the items.

        Raises:
            MemoryShortError: a single example does not fit into memory.
        """
        generator, longest = _generator(self.learner.backbone.device), max(item.length for item in items)
        drawn = generator.get_state()
        while True:
            optimizer.zero()
            try:
                value = self._sum(items)
                break
            except (RuntimeError, MemoryError) as error:
                if process_group().sharded or not out_of_memory(error):
                    raise
            if self.budget <= longest:
                raise MemoryShortError(
                    f"memory is short even for one example of {longest} tokens at a time; lower --max-length, take a "
                    "smaller --model, or a strategy that moves fewer parameters."
                )
            self.budget //= 2
            release_memory()
            generator.set_state(drawn)
        process_group().all_reduce_gradients(optimizer.parameters)
        return process_group().total(value)

    def _sum(self, items: Sequence[Item]) -> float:
        mine = process_group().share(sorted(items, key=lambda item: item.length))
        cut = self.cut([item.length for item in mine])
        step_counts, idle = count(items, self.learner.class_weights), process_group().extra_passes(len(cut))
        value = sum((self._pass(mine[part], step_counts) for part in cut), 0.0)
        for _ in range(idle):
            self._pass(items[:1], step_counts, weight=0.0)
        return value

    def cut(self, lengths: Sequence[int]) -> list[slice]:
        """The passes of a step: ascending lengths in runs."""
        if self.learner.packs_sequences:
            return even_cut(lengths, self.budget)
        return cheapest_cut(lengths, self.budget, self.overhead)

    def _pass(self, items: Sequence[Item], step_counts: Counts, weight: float = 1.0) -> float:
        """One batch forwards and backwards."""
        loss = self.learner.loss(self.learner.collate(items), step_counts) * weight
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()


def _generator(device: torch.device) -> torch.Generator:
    return torch.cuda.default_generators[device.index] if device.type == "cuda" else torch.default_generator
