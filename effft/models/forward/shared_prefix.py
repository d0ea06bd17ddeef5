"""A prefix that many prompts share is read once; its keys and values serve every prompt."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from effft.models.backbone import Backbone
from effft.models.forward import attention
from effft.models.forward.sequence_packing import ROUND
from effft.models.forward.token_tree import NO_TREE, TokenTree, visible

SHORTEST = 16
"""A shorter common prefix is not worth a pass of its own."""


PASS = 64
"""Tokens that the pass over a start of its own is taken to cost beside those it reads."""

LARGEST_GROUP = 256
"""Prompts of a group, so that the search for the best groups stays short."""


def can_share(backbone: Backbone) -> bool:
    """Whether this model's attention is causal, without a window, and takes a mask of ours."""
    return backbone.decoder and attention.sees_whole_prompts(backbone.model.config, attention.DECODERS)


def common_prefix(prompts: Sequence[tuple[int, ...]]) -> int:
    """Number of tokens all prompts start with, at least one left to each; 0 where too few to pay."""
    if len(prompts) < 2:
        return 0
    first, last = min(prompts), max(prompts)  # what these two share, all between them share
    size = min(_common(first, last), min(map(len, prompts)) - 1)
    return size if size >= SHORTEST else 0


def share_starts(prompts: Sequence[tuple[int, ...]]) -> list[list[int]]:
    """Prompts with demonstrations of their own in groups, by number, so that their starts cost the fewest tokens.

    Neighbours in the order of their ids share most, so a group is a run of that order. Dynamic programming, exact for
    runs of at most `LARGEST_GROUP`; a group costs `PASS` tokens more. Prompts that share nothing worth it are one
    group, the last.
    """
    order = sorted(range(len(prompts)), key=prompts.__getitem__)
    common = [0] + [_common(prompts[a], prompts[b]) for a, b in pairwise(order)]
    best = [(0, 0)]  # tokens saved by the first prompts, and where their last group starts
    for end in range(1, len(order) + 1):
        found, shared = (best[-1][0], end - 1), len(prompts[order[end - 1]]) - 1
        for start in range(end - 2, max(-1, end - 1 - LARGEST_GROUP), -1):
            shared = min(shared, common[start + 1], len(prompts[order[start]]) - 1)
            if shared < SHORTEST:
                break
            found = max(found, (best[start][0] + (end - start - 1) * shared - PASS, start))
        best.append(found)
    groups, end = [], len(order)
    while end:
        groups.append(order[best[end][1] : end])
        end = best[end][1]
    alone = [group[0] for group in groups if len(group) == 1]
    return [group for group in groups if len(group) > 1] + ([alone] if alone else [])


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


class SharedPrefix:
    """The keys and values of `ids`, and packed rows of prompts that continue them.

    The rests of many prompts lie in one row, without padding; a mask lets a token see the prefix and its own prompt
    only, and positions continue those of the prefix. So the prefix is neither read nor copied for each prompt.
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

    def states(self, rests: Sequence[Sequence[int]], answers: Tensor) -> Tensor:
        """Hidden state at position `answers` of each rest: (rests, width)."""
        inputs, starts = self._inputs(rests, None)
        positions = starts + answers
        try:
            return self.backbone.hidden(inputs, positions=positions)[0, positions]
        finally:
            self._restore()

    def logits(self, rests: Sequence[Sequence[int]], answers: Tensor, tree: TokenTree | None = None) -> Tensor:
        """Vocabulary logits at position `answers` of each rest, (rests, vocabulary).

        tree: follows each rest, whose last position is the answer. Then all nodes have logits: (rests * nodes, ...).
        """
        inputs, starts = self._inputs(rests, tree)
        positions = starts + answers
        if tree is not None:
            positions = (positions[:, None] + torch.arange(len(tree.depths), device=positions.device)).flatten()
        try:
            return self.backbone.answer_logits(inputs, positions, torch.zeros_like(positions))
        finally:
            self._restore()

    def _inputs(self, rests: Sequence[Sequence[int]], tree: TokenTree | None) -> tuple[dict[str, object], Tensor]:
        """What the model is called with: one row of all rests, filled up to a round size. And where each starts."""
        device = self.backbone.device
        after = tree.ids if tree else ()
        lengths = torch.tensor([len(rest) + len(after) for rest in rests])
        filler = -int(lengths.sum()) % ROUND
        ids = torch.tensor([[token for rest in rests for token in (*rest, *after)] + [0] * filler], device=device)
        starts = lengths.cumsum(0) - lengths
        sizes = torch.cat([lengths, torch.tensor([filler])])
        owner = torch.repeat_interleave(torch.arange(len(sizes)), sizes).to(device)
        places = [(tree or NO_TREE).places(len(rest), self.size) for rest in rests]
        positions = torch.cat([*(part for part, _ in places), torch.full((filler,), self.size)]).to(device)
        nodes = torch.cat([*(part for _, part in places), torch.zeros(filler, dtype=torch.long)]).to(device)
        own = visible(owner, positions, nodes, tree)
        mask = torch.cat([torch.ones((len(owner), self.size), dtype=torch.bool, device=device), own], dim=1)
        inputs: dict[str, object] = {
            "input_ids": ids,
            "attention_mask": mask[None, None],
            "position_ids": positions[None],
            "past_key_values": self.cache,
            "use_cache": True,
        }
        return inputs, starts.to(device)

    def _restore(self) -> None:
        """Cut the cache back to the prefix: layer by layer, as a pass that failed has added to some only."""
        for layer in self.cache.layers:
            layer.crop(min(0, self.size - layer.get_seq_length()))
