"""Trains several members side by side over one frozen backbone; each ends exactly as it would alone."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from effft.errors import RunError
from effft.models.backbone import Backbone
from effft.models.forward.batching import by_budget, even_cut
from effft.models.out_of_memory import out_of_memory, release_memory, run_in_parts
from effft.multi_adapter.adapters import AdapterBatch, adapters_on
from effft.multi_adapter.member import Member
from effft.strategies.batch import Batch, Counts, Item, count, token_budget
from effft.strategies.learner import step_loss
from effft.training.loop import Step
from effft.training.microbatch import BUDGET, short_of_memory

GPU_BUDGET = 16384
"""Padded tokens of a training pass on a GPU; a CPU takes as many as a lone run."""

OwnedItem = tuple[int, Item]
"""Index of a member, and an item that it reads."""


class MultiAdapterTrainer:
    """Trains its `members` one update at a time, and scores prompts for all of them in shared passes.

    The members must share backbone, task, kind of head and label words. They may come and go between two steps.
    """

    def __init__(self, backbone: Backbone, budget: int = 0) -> None:
        self.backbone, self.members = backbone, list[Member]()
        self.budget = budget or (GPU_BUDGET if backbone.device.type == "cuda" else BUDGET)

    def step(self) -> list[Step | RunError]:
        """One update of every member, in their order; a RunError for one whose loss is not finite: it must leave.

        Raises:
            MemoryShortError: a single example does not fit into memory.
        """
        drawn = [next(member.batches) for member in self.members]
        chosen = [[m.items[i] for i in indices] for m, (_, indices, _) in zip(self.members, drawn, strict=True)]
        losses = self._backward(chosen)
        return [
            member.update(epoch, ends_epoch, sum(item.length for item in items), loss, self.budget)
            for member, (epoch, _, ends_epoch), items, loss in zip(self.members, drawn, chosen, losses, strict=True)
        ]

    def _backward(self, chosen: Sequence[Sequence[Item]]) -> list[float]:
        """The loss of every member's step, with its gradient left in the parameters; short memory halves the passes."""
        owned = [(index, item) for index, items in enumerate(chosen) for item in items]
        longest = max(item.length for _, item in owned)
        while True:
            for member in self.members:
                member.optimizer.zero_grad()
            try:
                return self._accumulate(owned, [count(items) for items in chosen])
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
            if self.budget <= longest:
                raise short_of_memory(longest)
            self.budget //= 2
            release_memory()

    def _accumulate(self, owned: Sequence[OwnedItem], counts: Sequence[Counts]) -> list[float]:
        """The losses of the members' steps; prompts of similar length share a pass, whichever member they belong to."""
        totals = torch.zeros(len(self.members), dtype=torch.float64)
        for part in self._cut(owned, self.budget):
            owners = [index for index, _ in part]
            scores, batch = self._forward(part, label_words_only=True)
            losses = []
            for index in dict.fromkeys(owners):
                rows = slice(owners.index(index), owners.index(index) + owners.count(index))
                teacher = None if batch.teacher is None else batch.teacher[rows]
                loss_part = self.members[index].strategy.loss
                losses.append(step_loss(loss_part, scores[rows], batch.labels[rows], teacher, counts[index]))
            stacked = torch.stack(losses)
            stacked.sum().backward()  # type: ignore[no-untyped-call]
            totals.index_add_(0, torch.tensor(list(dict.fromkeys(owners))), stacked.detach().double().cpu())
        return [float(total) for total in totals]

    def _forward(self, owned: Sequence[OwnedItem], label_words_only: bool = False) -> tuple[Tensor, Batch]:
        """Scores of the items, (items, labels); the items of a member are adjacent."""
        learner = self.members[0].learner
        batch = learner.collate([item for _, item in owned])
        head = learner.head.linear if learner.head is not None else None
        deltas = [member.deltas_with_head(head) for member in self.members]
        with adapters_on(deltas, AdapterBatch([index for index, _ in owned], batch.packing)):
            return learner.scores(batch, label_words_only), batch

    def _cut(self, owned: Sequence[OwnedItem], budget: int) -> Iterator[list[OwnedItem]]:
        """Passes over items of similar length, each ordered by member."""
        ordered = sorted(owned, key=lambda pair: pair[1].length)
        lengths = [item.length for _, item in ordered]
        if self.members[0].learner.packs_sequences:
            groups = even_cut(lengths, budget)
        else:
            groups = [slice(g[0], g[-1] + 1) for g in by_budget(range(len(owned)), lengths.__getitem__, budget)]
        for group in groups:
            yield sorted(ordered[group], key=lambda pair: pair[0])

    def scores(self, wanted: Mapping[int, Sequence[Item]]) -> dict[int, Tensor]:
        """Member index -> its scores of these items, (items, labels) in fp32 on the CPU; equal prompts run once."""
        unique = {
            (index, item.prompt.ids, item.prompt.answer): item for index, items in wanted.items() for item in items
        }
        known: dict[tuple[int, tuple[int, ...], int], Tensor] = {}
        with torch.inference_mode():
            for part in self._cut([(key[0], item) for key, item in unique.items()], token_budget(self.backbone)):
                rows = torch.cat(run_in_parts(lambda owned: self._forward(owned)[0].float().cpu(), part))
                known |= {(i, item.prompt.ids, item.prompt.answer): r for (i, item), r in zip(part, rows, strict=True)}
        return {
            index: torch.stack([known[index, item.prompt.ids, item.prompt.answer] for item in items])
            for index, items in wanted.items()
        }
