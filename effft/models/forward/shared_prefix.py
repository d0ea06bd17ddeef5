"""Prompts that start alike: the start is read once, its keys and values serve every prompt."""

from collections.abc import Sequence

import torch
from torch import Tensor

from effft.models.backbone import Backbone
from effft.models.forward import attention
from effft.models.forward.sequence_packing import ROUND

WORTH = 16
"""Tokens a common start must have to be worth a pass of its own."""


def can_share(backbone: Backbone) -> bool:
    """Whether this model's attention is causal, over the whole prompt, and takes a mask of ours."""
    return backbone.decoder and attention.sees_whole_prompts(backbone.model.config, attention.DECODERS)


def common_start(prompts: Sequence[tuple[int, ...]]) -> int:
    """Tokens all prompts start with, at least one left to each; 0 when too few to be worth it."""
    if len(prompts) < 2:
        return 0
    first, last = min(prompts), max(prompts)  # the start common to these two is common to all between
    size = 0
    for a, b in zip(first, last, strict=False):
        if a != b:
            break
        size += 1
    size = min(size, min(map(len, prompts)) - 1)
    return size if size >= WORTH else 0


class SharedStart:
    """The keys and values of `ids`, and packed rows of prompts that go on from there.

    The rests of many prompts stand in one row, without padding; a mask lets a token see the start and its own
    prompt only, and positions go on from the start. So the start is neither read nor copied per prompt.
    """

    def __init__(self, backbone: Backbone, ids: Sequence[int]) -> None:
        from transformers import DynamicCache

        self.backbone, self.size = backbone, len(ids)
        self.cache = DynamicCache()
        row = torch.tensor([list(ids)], device=backbone.device)
        with torch.inference_mode():
            backbone.body(
                input_ids=row, attention_mask=torch.ones_like(row), past_key_values=self.cache, use_cache=True
            )

    def packed(self, rests: Sequence[Sequence[int]]) -> dict[str, object]:
        """What the model is called with: one row of all rests, and filler up to a round number of tokens."""
        device, lengths = self.backbone.device, [len(rest) for rest in rests]
        filler = -sum(lengths) % ROUND
        ids = torch.tensor([[token for rest in rests for token in rest] + [0] * filler], device=device)
        positions = torch.cat(
            [torch.arange(self.size, self.size + n, device=device) for n in lengths]
            + [torch.full((filler,), self.size, device=device)]
        )
        owner = torch.repeat_interleave(
            torch.arange(len(rests) + 1, device=device), torch.tensor([*lengths, filler], device=device)
        )
        own = (owner[:, None] == owner[None, :]) & (positions[:, None] >= positions[None, :])
        mask = torch.cat([torch.ones((len(owner), self.size), dtype=torch.bool, device=device), own], dim=1)
        return {
            "input_ids": ids,
            "attention_mask": mask[None, None],
            "position_ids": positions[None],
            "past_key_values": self.cache,
            "use_cache": True,
        }

    def states(self, rests: Sequence[Sequence[int]], answers: Tensor) -> Tensor:
        """Hidden state at place `answers` of each rest: (rests, width)."""
        inputs, places = self.packed(rests), self._places(rests, answers)
        try:
            return self.backbone.hidden(inputs, places=places)[0, places]
        finally:
            self._forget()

    def logits(self, rests: Sequence[Sequence[int]], answers: Tensor) -> Tensor:
        """Vocabulary logits at place `answers` of each rest: (rests, vocabulary)."""
        inputs = self.packed(rests)
        places = self._places(rests, answers)
        try:
            return self.backbone.answer_logits(inputs, places, torch.zeros_like(places))
        finally:
            self._forget()

    def _places(self, rests: Sequence[Sequence[int]], answers: Tensor) -> Tensor:
        lengths = torch.tensor([len(rest) for rest in rests], device=self.backbone.device)
        return lengths.cumsum(0) - lengths + answers

    def _forget(self) -> None:
        for layer in self.cache.layers:  # each by itself: a pass that broke off has added to some only
            layer.crop(min(0, self.size - layer.get_seq_length()))
