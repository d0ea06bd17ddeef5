"""Prompts as tensors: items, padded batches, and how a set of lengths is cut into batches."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from effft.models.backbone import Backbone
from effft.strategies.reading import Encoded


class Item(NamedTuple):
    """One thing to learn from: a prompt, its label (-1: not to be used), its teacher's scores (None: no teacher).

    state: what the frozen part of the model makes of the prompt, where that is kept (`Learner.recall`): hidden states
    (length, width) entering the lowest block that trains, or one pooled state (width).
    """

    prompt: Encoded
    label: int
    teacher: tuple[float, ...] | None = None
    state: Tensor | None = None

    @property
    def length(self) -> int:
        """Tokens of the prompt."""
        return len(self.prompt.ids)


def token_budget(backbone: Backbone) -> int:
    """Padded tokens of one batch without gradients: what fits the caches of a CPU, or fills a GPU.

    On a CPU at width 768, 512 tokens took 3.5 s where 8192 took 6.0; a narrow model pays more for the calls.
    """
    if backbone.device.type == "cuda":
        return 16384
    return 8192 if backbone.width < 256 else 512


class Counts(NamedTuple):
    """What the losses of one optimizer step are divided by, however the step is cut."""

    examples: int
    labelled: int
    taught: int


def count(items: Sequence[Item]) -> Counts:
    """The counts of a whole step."""
    labelled = sum(item.label >= 0 for item in items)
    return Counts(len(items), labelled, sum(item.teacher is not None for item in items))


@dataclass(frozen=True)
class Batch:
    """Right-padded prompts. inputs: ids, mask (and segments), each (batch, length); answers, labels: (batch,).

    teacher: (batch, labels) log-probabilities, a row of NaN where an item has no teacher; None without any.
    states: kept states, (batch, length, width) or (batch, width); None where nothing is kept.
    """

    inputs: dict[str, Tensor]
    answers: Tensor
    labels: Tensor
    teacher: Tensor | None = None
    states: Tensor | None = None

    @property
    def tokens(self) -> int:
        """Real tokens in the batch."""
        return int(self.inputs["attention_mask"].sum())


def collate(items: Sequence[Item], backbone: Backbone) -> Batch:
    """Items as one right-padded batch on the backbone's device."""
    longest = max(len(item.prompt.ids) for item in items)
    pad = backbone.tokenizer.pad_token_id
    ids = torch.full((len(items), longest), pad if pad is not None else 0, dtype=torch.long)
    mask = torch.zeros((len(items), longest), dtype=torch.long)
    segments = torch.zeros_like(ids) if items[0].prompt.segments is not None else None
    for row, item in enumerate(items):
        size = len(item.prompt.ids)
        ids[row, :size] = torch.tensor(item.prompt.ids)
        mask[row, :size] = 1
        if segments is not None and item.prompt.segments is not None:
            segments[row, :size] = torch.tensor(item.prompt.segments)
    device = backbone.device
    inputs = {"input_ids": ids.to(device), "attention_mask": mask.to(device)}
    if segments is not None:
        inputs["token_type_ids"] = segments.to(device)
    return Batch(
        inputs,
        torch.tensor([item.prompt.answer for item in items], device=device),
        torch.tensor([item.label for item in items], device=device),
        _teacher([item.teacher for item in items], device),
        _states([item.state for item in items], longest, device),
    )


def _states(kept: Sequence[Tensor | None], longest: int, device: torch.device) -> Tensor | None:
    present = [state for state in kept if state is not None]
    if len(present) < len(kept):
        return None
    if present[0].ndim == 1:
        return torch.stack(present).to(device)
    states = torch.zeros((len(present), longest, present[0].shape[1]), dtype=present[0].dtype)
    for row, state in enumerate(present):
        states[row, : len(state)] = state
    return states.to(device)


def _teacher(rows: Sequence[tuple[float, ...] | None], device: torch.device) -> Tensor | None:
    labels = max((len(row) for row in rows if row is not None), default=0)
    if not labels:
        return None
    blank = (float("nan"),) * labels
    return torch.tensor([row if row is not None else blank for row in rows], device=device)


def by_budget(order: Sequence[int], length: Callable[[int], int], budget: int) -> Iterator[list[int]]:
    """Runs of `order` (ascending length) whose padded size stays within the budget; at least one each."""
    group: list[int] = []
    for place in order:
        if group and (len(group) + 1) * length(place) > budget:
            yield group
            group = []
        group.append(place)
    if group:
        yield group


def cheapest_cut(lengths: Sequence[int], budget: int, overhead: int) -> list[slice]:
    """Cut ascending `lengths` into padded runs at the lowest total cost: padded tokens plus `overhead` tokens a run.

    No run is padded to more than `budget` tokens, unless it is a single prompt. Dynamic programming, exact.
    """
    best: list[tuple[int, int]] = [(0, 0)]
    for end in range(1, len(lengths) + 1):
        found = (1 << 62, 0)
        for start in range(end - 1, -1, -1):
            padded = (end - start) * lengths[end - 1]
            if padded > budget and end - start > 1:
                break
            found = min(found, (best[start][0] + padded + overhead, start))
        best.append(found)
    runs, end = [], len(lengths)
    while end:
        start = best[end][1]
        runs.append(slice(start, end))
        end = start
    return runs[::-1]
