"""Prompts as tensors: items and batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from effft.models.backbone import Backbone
from effft.models.forward.sequence_packing import PackedSequences, packed_inputs
from effft.strategies.prompting import EncodedPrompt


class Item(NamedTuple):
    """One thing to learn from: a prompt, its label (-1: not to be used), its teacher's scores (None: no teacher).

    state: what the frozen part of the model makes of the prompt, where that is kept (`Learner.recall`): hidden states
    (length, width) entering the lowest block that trains, or one pooled state (width).
    """

    prompt: EncodedPrompt
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
    packing: the layout of packed prompts, with ids (1, tokens) and states (1, tokens, width); None for padded ones.
    """

    inputs: dict[str, Tensor]
    answers: Tensor
    labels: Tensor
    teacher: Tensor | None = None
    states: Tensor | None = None
    packing: PackedSequences | None = None


def collate(items: Sequence[Item], backbone: Backbone, packs_sequences: bool = False) -> Batch:
    """Items as one batch on the backbone's device, right-padded or packed."""
    if packs_sequences:
        return _packed(items, backbone)
    longest = max(item.length for item in items)
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
    return _batch(inputs, items, _states([item.state for item in items], longest, device), device)


def _batch(
    inputs: dict[str, Tensor],
    items: Sequence[Item],
    states: Tensor | None,
    device: torch.device,
    packing: PackedSequences | None = None,
) -> Batch:
    answers = torch.tensor([item.prompt.answer for item in items], device=device)
    labels = torch.tensor([item.label for item in items], device=device)
    return Batch(inputs, answers, labels, _teacher([item.teacher for item in items], device), states, packing)


def _packed(items: Sequence[Item], backbone: Backbone) -> Batch:
    device, packing = backbone.device, PackedSequences([item.length for item in items], backbone.device)
    ids = packing.fill([token for item in items for token in item.prompt.ids], backbone.tokenizer.pad_token_id or 0)
    inputs = packed_inputs(ids, packing)
    if items[0].prompt.segments is not None:
        inputs["token_type_ids"] = packing.fill([s for item in items for s in item.prompt.segments or ()], 0)
    kept = [item.state for item in items if item.state is not None]
    states = None
    if len(kept) == len(items):
        states = torch.stack(kept).to(device) if kept[0].ndim == 1 else packing.fill_states(kept)
    return _batch(inputs, items, states, device, packing)


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
