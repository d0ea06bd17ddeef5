"""Prompts as tensors: items and batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from effft.data.examples import Label
from effft.models.backbone import Backbone
from effft.models.forward.sequence_packing import PackedSequences, packed_inputs
from effft.strategies.prompting import EncodedPrompt


class Item(NamedTuple):
    """One thing to learn from: a prompt, its label (-1: not to be used), its teacher's scores (None: no teacher).

    state: what the frozen part of the model makes of the prompt, where that was computed (`Learner.frozen_features`):
    hidden states (length, width) entering the lowest block that trains, or one pooled state (width).
    partner: the second text of a pair, whose label is then 1 where both texts have the same, else 0.
    """

    prompt: EncodedPrompt
    label: Label
    teacher: tuple[float, ...] | None = None
    state: Tensor | None = None
    partner: "Item | None" = None

    @property
    def length(self) -> int:
        """Tokens that the model reads for the prompt, and for that of its partner."""
        return self.prompt.size + (self.partner.length if self.partner else 0)

    @property
    def of_patterns(self) -> "list[Item]":
        """The item once for each pattern that is read."""
        return [self._replace(prompt=p, state=None) for p in self.prompt.patterns] or [self]


def token_budget(backbone: Backbone) -> int:
    """Padded tokens of one batch without gradients: what fits the caches of a CPU, or fills a GPU.

    On a CPU at width 768, 512 tokens took 3.5 s where 8192 took 6.0; a narrow model pays more for the calls.
    """
    if backbone.reads_padding:
        return 1
    if backbone.device.type == "cuda":
        return 16384
    return 8192 if backbone.width < 256 else 512


class Counts(NamedTuple):
    """What the losses of one optimizer step are divided by, however the step is cut.

    labelled: labels that are known, of an example that can have several one for each. weight: their mean weight.
    """

    examples: int
    labelled: int
    taught: int
    weight: float = 1.0


def count(items: Sequence[Item], weights: Tensor | None = None) -> Counts:
    """The counts of a whole step. weights: as in `weights_of`; None where all weigh the same."""
    labels = torch.tensor([item.label for item in items])
    known = labels >= 0
    weight = weights_of(labels, weights)[known].mean().item() if weights is not None and known.any() else 1.0
    return Counts(len(items), int(known.sum()), sum(item.teacher is not None for item in items), weight)


def weights_of(labels: Tensor, weights: Tensor) -> Tensor:
    """The weight of each label: indices (batch,) by weights (labels,), or 1 and 0 (batch, labels) by (labels, 2)."""
    table = weights.to(labels.device).expand(*labels.shape, weights.shape[-1])
    return table.gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)


@dataclass(frozen=True)
class Batch:
    """Right-padded prompts. inputs: ids, mask (and segments), each (rows, length); labels: (batch,).

    Labels that can stand together are a 1 or 0 each, (batch, labels).
    answers: the positions that are read, (batch), or (batch * contexts) for label words of several tokens.
    rows: the row of each answer; None: each has its own. Of an encoder-decoder, answers and rows are its decoder's.
    teacher: (batch, labels) log-probabilities, a row of NaN where an item has no teacher; None without any.
    states: the items' states, (batch, length, width) or (batch, width); None where they have none.
    packing: the layout of packed prompts, with ids (1, tokens) and states (1, tokens, width); None for padded ones.
    """

    inputs: dict[str, Tensor]
    answers: Tensor
    labels: Tensor
    teacher: Tensor | None = None
    states: Tensor | None = None
    packing: PackedSequences | None = None
    rows: Tensor | None = None


def collate(items: Sequence[Item], backbone: Backbone, packs_sequences: bool = False) -> Batch:
    """Items as one batch on the backbone's device, right-padded or packed; the partners of pairs come after all."""
    device, filler = backbone.device, backbone.tokenizer.pad_token_id or 0
    labels = torch.tensor([item.label for item in items], device=device)
    items = [*items, *(item.partner for item in items if item.partner)]
    states = [item.state for item in items if item.state is not None]
    states = states if len(states) == len(items) else []
    stacked = torch.stack(states).to(device) if states and states[0].ndim == 1 else None
    prompts = [sequence for item in items for sequence in item.prompt.sequences]
    lengths, tree = [len(prompt.ids) for prompt in prompts], prompts[0].tree
    words = prompts[0].label_tokens
    segmented = prompts[0].segments is not None
    packing = PackedSequences(lengths, device) if packs_sequences and tree is None else None
    answers, rows = torch.tensor([prompt.answer for prompt in prompts], device=device), None
    if packing is not None:
        ids = packing.fill([token for prompt in prompts for token in prompt.ids], filler)
        inputs = packed_inputs(ids, packing)
        if segmented:
            inputs["token_type_ids"] = packing.fill([s for prompt in prompts for s in prompt.segments or ()], 0)
    elif tree is not None:
        inputs, answers, rows = tree.inputs([prompt.ids for prompt in prompts], filler, device)
    else:
        inputs = {
            "input_ids": _pad([prompt.ids for prompt in prompts], filler).to(device),
            "attention_mask": _pad([(1,) * length for length in lengths], 0).to(device),
        }
        if segmented:
            inputs["token_type_ids"] = _pad([prompt.segments or () for prompt in prompts], 0).to(device)
        if words is not None and words.start:
            ids, answers, rows = (part.to(device) for part in words.beside(len(prompts), filler))
            inputs["decoder_input_ids"] = ids
    if states and stacked is None:
        stacked = packing.fill_states(states) if packing else pad_sequence(states, batch_first=True).to(device)
    teacher = _teacher([item.teacher for item in items], device)
    return Batch(inputs, answers, labels, teacher, stacked, packing, rows)


def _pad(rows: Sequence[Sequence[int]], filler: int) -> Tensor:
    return pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=filler)


def _teacher(rows: Sequence[tuple[float, ...] | None], device: torch.device) -> Tensor | None:
    labels = max((len(row) for row in rows if row is not None), default=0)
    if not labels:
        return None
    blank = (float("nan"),) * labels
    return torch.tensor([row if row is not None else blank for row in rows], device=device)
