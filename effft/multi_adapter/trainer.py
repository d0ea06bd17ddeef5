"""Several trials trained side by side over one frozen backbone; each goes exactly as it would alone."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import torch
from torch import Tensor

from effft.errors import MemoryShortError, RunError
from effft.models.backbone import Backbone
from effft.models.forward.batching import by_budget, even_cut
from effft.models.out_of_memory import out_of_memory, release_memory, run_in_parts
from effft.multi_adapter.batch import AdapterBatch
from effft.multi_adapter.lora import MultiAdapterLora
from effft.multi_adapter.member import Member
from effft.multi_adapter.stacked_parameters import StackedParameters
from effft.multi_adapter.steps import MemberUpdate, adamw, row_losses, terms_of
from effft.strategies.batch import Batch, Counts, Item, count, token_budget
from effft.training.loop import Step, must_be_finite
from effft.training.microbatch import BUDGET
from effft.training.optimizer import schedule_factor

FILL = 16384
"""Padded tokens of a training pass on a GPU, which is there to be filled; a CPU takes as many as a lone run."""

Row = tuple[int, Item]
"""Which member of the pack, and what it reads."""


class MultiAdapterTrainer:
    """Trains its members one update at a time, and scores prompts for all of them in shared passes.

    They must share backbone, task, kind of head and label words. The layout is made anew whenever the members change,
    so it is as wide as the highest rank among them.
    """

    def __init__(self, backbone: Backbone, budget: int = 0) -> None:
        self.backbone, self.members = backbone, list[Member]()
        self.budget = budget or (FILL if backbone.device.type == "cuda" else BUDGET)
        self._stacks: tuple[StackedParameters, ...] = ()

    def change(self, leave: Sequence[Member] = (), enter: Sequence[Member] = ()) -> None:
        """Let members go, with what is theirs written back to them, and take others in."""
        for stacked in self._stacks:
            stacked.unload()
        self.members = [m for m in self.members if m not in leave] + list(enter)
        owns = [m.own for m in self.members]
        names = list(dict.fromkeys(name for own in owns for name in own.weights))
        heads = [name for name in names if name.startswith("head.")]
        kind = next(self.backbone.model.parameters()).dtype
        wide = owns[0].weights[heads[0]].dtype if heads else kind
        adapters = StackedParameters(owns, [n for n in names if n not in heads], kind, self.backbone.device)
        self._stacks = (adapters, StackedParameters(owns, heads, wide, self.backbone.device))
        self._lora = MultiAdapterLora(self.backbone, *self._stacks, [m.scale for m in self.members])

    def step(self) -> list[Step | RunError]:
        """One update of every member, in their order; a RunError for one whose loss is not finite: it must leave.

        Raises:
            MemoryShortError: a single example does not fit into memory.
        """
        drawn = [next(member.batches) for member in self.members]
        chosen = [[m.items[i] for i in places] for m, (_, places, _) in zip(self.members, drawn, strict=True)]
        losses = self._backward(chosen)
        norms = torch.stack([stacked.norms().double() for stacked in self._stacks]).square().sum(dim=0).sqrt().tolist()
        found = []
        for at, (epoch, _, ends) in enumerate(drawn):
            tokens = sum(item.length for item in chosen[at])
            found.append(self._step_of(self.members[at], epoch, ends, tokens, losses[at], norms[at]))
        moves = [_move(member, step) for member, step in zip(self.members, found, strict=True)]
        for stacked in self._stacks:
            adamw(stacked, moves)
        return found

    def _step_of(
        self, member: Member, epoch: int, ends: bool, tokens: int, loss: float, norm: float
    ) -> Step | RunError:
        member.index += 1
        config, index, total = member.config, member.index, member.total
        rate = member.rate * schedule_factor(config.schedule, config.warmup, index - 1, total)
        try:
            must_be_finite("loss", loss, index, rate)
            must_be_finite("gradient norm", norm, index, rate)
        except RunError as error:
            return error
        return Step(index, total, epoch, loss, rate, norm, tokens, ends or index == total, self.budget)

    def _backward(self, chosen: Sequence[Sequence[Item]]) -> list[float]:
        """The loss of every member's step, its gradient in the stacks; short memory halves the passes."""
        rows = [(at, item) for at, items in enumerate(chosen) for item in items]
        longest = max(item.length for _, item in rows)
        while True:
            for stacked in self._stacks:
                stacked.gradient.zero_()
            try:
                return self._sum(rows, [count(items) for items in chosen])
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
            if self.budget <= longest:
                raise MemoryShortError(f"memory is short even for one example of {longest} tokens at a time.")
            self.budget //= 2
            release_memory()

    def _sum(self, rows: Sequence[Row], whole: Sequence[Counts]) -> list[float]:
        """Rows of like length pass together, whosever they are."""
        values = torch.zeros(len(self.members), dtype=torch.float64)
        for part in self._cut(rows, self.budget):
            scores, batch = self._pass(part)
            terms = [terms_of(self.members[at].strategy.loss, whole[at], item) for at, item in part]
            losses = row_losses(scores, batch, terms)
            self._collect(losses)
            values.index_add_(0, torch.tensor([at for at, _ in part]), losses.detach().double().cpu())
        found: list[float] = values.tolist()
        return found

    def _collect(self, losses: Tensor) -> None:
        """Add the gradient of the rows' losses to the stacks'."""
        moving = [list(stacked.parameters.values()) for stacked in self._stacks]
        found = iter(torch.autograd.grad(losses.sum(), [p for own in moving for p in own], allow_unused=True))
        for stacked, own in zip(self._stacks, moving, strict=True):
            stacked.add_gradients(islice(found, len(own)))

    def _pass(self, rows: Sequence[Row]) -> tuple[Tensor, Batch]:
        """Scores of the rows, (rows, labels), those of a member standing together."""
        learner = self.members[0].learner
        batch = learner.collate([item for _, item in rows])
        layout = AdapterBatch([at for at, _ in rows], len(self.members), self.backbone.device, batch.packing)
        with self._lora.over(layout, learner.head.linear if learner.head is not None else None):
            return learner.scores(batch), batch

    def _cut(self, rows: Sequence[Row], budget: int) -> Iterator[list[Row]]:
        """Passes over rows of like length, each ordered by member."""
        ordered = sorted(rows, key=lambda row: row[1].length)
        lengths = [item.length for _, item in ordered]
        if self.members[0].learner.packs_sequences:
            groups = even_cut(lengths, budget)
        else:
            groups = [slice(g[0], g[-1] + 1) for g in by_budget(range(len(rows)), lengths.__getitem__, budget)]
        for group in groups:
            yield sorted(ordered[group], key=lambda row: row[0])

    def scores(self, wanted: Mapping[int, Sequence[Item]]) -> dict[int, Tensor]:
        """Which member -> its scores of these items, (items, labels) fp32 on the CPU; equal prompts are read once."""
        unique: dict[tuple[int, tuple[int, ...], int], Item] = {}
        for at, items in wanted.items():
            for item in items:
                unique.setdefault((at, item.prompt.ids, item.prompt.answer), item)
        known: dict[tuple[int, tuple[int, ...], int], Tensor] = {}
        with torch.inference_mode():
            for part in self._cut([(key[0], item) for key, item in unique.items()], token_budget(self.backbone)):
                found = torch.cat(run_in_parts(lambda rows: self._pass(rows)[0].float().cpu(), part))
                keys = [(at, item.prompt.ids, item.prompt.answer) for at, item in part]
                known |= dict(zip(keys, found, strict=True))
        return {
            at: torch.stack([known[at, item.prompt.ids, item.prompt.answer] for item in items])
            for at, items in wanted.items()
        }


def _move(member: Member, step: Step | RunError) -> MemberUpdate:
    """What an update does to a member; nothing where its step failed."""
    if not isinstance(step, Step):
        return MemberUpdate(member.index, 0.0, 0.0, 0.0)
    clip = member.config.clip_norm
    scale = min(1.0, clip / (step.gradient_norm + 1e-6)) if clip else 1.0
    return MemberUpdate(step.index, step.learning_rate, scale, member.config.weight_decay)
