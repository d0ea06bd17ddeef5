"""Attention of short packed prompts on a CPU: all groups of a pass in one step, computed in fp32 from bf16.

torch's products of many small matrices cost less than what stands around them: copies of keys for the queries that
share them, conversions, masks, and the calls themselves. Here each is done once a pass and a block.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from effft.models.forward.sequence_packing import Group, PackedSequences

LONGEST = 128
"""Most keys for which plain products serve a pass with gradients: they store (heads, queries, keys) for it."""

LARGEST = 1 << 22
"""Most scores (batch x heads x queries x keys) for which plain products serve at all."""

COMPUTED_IN = {torch.bfloat16: torch.float32, torch.float64: torch.float64}
"""What is computed from states of which type; the tests compare with float64."""


def serves(packing: PackedSequences, query: Tensor, options: dict[str, Any]) -> bool:
    """Whether this attention is the one to take: short prompts, a CPU, nothing but a plain softmax."""
    if query.dtype not in COMPUTED_IN or query.device.type != "cpu" or options.get("dropout"):
        return False
    if any(options.get(name) is not None for name in ("position_bias", "softcap")):
        return False
    heads = query.shape[1]
    return all(g.length <= LONGEST and len(g.members) * heads * g.length**2 <= LARGEST for g in packing.groups)


def attend(
    packing: PackedSequences, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, causal: bool
) -> Tensor:
    """(1, heads, tokens, size) each, keys and values with fewer heads or as many -> (1, tokens, heads, size)."""
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    states: Tensor = _PackedAttention.apply(query, key, value, packing, scaling, causal)  # type: ignore[no-untyped-call]
    return states


class _Heads(NamedTuple):
    """Heads of keys, queries that share each, and the size of a head."""

    keys: int
    shared: int
    size: int

    def of_queries(self, block: Tensor, group: Group) -> Tensor:
        """A group's rows of a padded block -> (members, heads of keys, shared, length, size), a view."""
        return block.view(len(group.members), group.length, *self).permute(0, 2, 3, 1, 4)

    def of_keys(self, block: Tensor, group: Group) -> Tensor:
        """The same of keys or values -> (members, heads of keys, length, size), a view."""
        return block.view(len(group.members), group.length, self.keys, self.size).transpose(1, 2)

    def batched(self, states: Tensor) -> Tensor:
        """(members, heads of keys, ..., size) -> (members x heads, rows, size), copied in the type of computation."""
        wide = states.to(COMPUTED_IN[states.dtype], memory_format=torch.contiguous_format)
        return wide.reshape(states.shape[0] * self.keys, -1, self.size)


class _PackedAttention(torch.autograd.Function):
    """Softmax attention within each prompt; stores its inputs, padded, and the weights."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, packing: PackedSequences, scaling: float, causal: bool
    ) -> Tensor:
        heads = _Heads(key.shape[1], query.shape[1] // key.shape[1], query.shape[-1])
        ctx.packing, ctx.heads, ctx.scaling = packing, heads, scaling
        padded = [packing.to_padded(states) for states in (query, key, value)]
        out, weights = torch.empty_like(padded[0]), []
        for group, (q, k, v, o) in packing.parts(*padded, out):
            keys, values = heads.batched(heads.of_keys(k, group)), heads.batched(heads.of_keys(v, group))
            queries = heads.batched(heads.of_queries(q, group))
            bias = _bias(group, heads, causal, queries)
            scores = torch.baddbmm(bias, queries, keys.transpose(1, 2), alpha=scaling)
            weights.append(torch.softmax(scores, dim=-1, out=scores))
            target = heads.of_queries(o, group)
            target.copy_(torch.bmm(weights[-1], values).view(target.shape))
        ctx.save_for_backward(*padded, *weights)
        return packing.from_padded(out).view(1, packing.tokens, -1, heads.size)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        packing, heads = ctx.packing, ctx.heads
        query, key, value, *weights = ctx.saved_tensors
        padded = packing.to_padded(gradients[0].transpose(1, 2))
        found = [torch.empty_like(block) for block in (query, key, value)]
        blocks = packing.parts(query, key, value, padded, *found)
        for (group, (q, k, v, g, *targets)), w in zip(blocks, weights, strict=True):
            output = heads.batched(heads.of_queries(g, group))
            keys, values = heads.batched(heads.of_keys(k, group)), heads.batched(heads.of_keys(v, group))
            scores = torch.bmm(output, values.transpose(1, 2))
            scores = scores.sub_((scores * w).sum(dim=-1, keepdim=True)).mul_(w).mul_(ctx.scaling)
            to_queries = heads.of_queries(targets[0], group)
            to_queries.copy_(torch.bmm(scores, keys).view(to_queries.shape))
            queries = heads.batched(heads.of_queries(q, group))
            for target, left, right in ((targets[1], scores, queries), (targets[2], w, output)):
                to_keys = heads.of_keys(target, group)
                to_keys.copy_(torch.bmm(left.transpose(1, 2), right).view(to_keys.shape))
        rows = (packing.from_padded(block) for block in found)
        return (*(r.view(1, packing.tokens, -1, heads.size).transpose(1, 2) for r in rows), None, None, None)


def _bias(group: Group, heads: _Heads, causal: bool, queries: Tensor) -> Tensor:
    """What is added to scores: 0 where a query sees a key, else minus infinity; it broadcasts to the scores."""
    length = group.length
    if causal:
        seen = torch.full((length, length), -torch.inf, dtype=queries.dtype).triu_(1)
        return seen.expand(heads.shared, length, length).reshape(1, -1, length)
    hidden = torch.arange(length) >= group.sizes.unsqueeze(1)
    bias = torch.zeros(hidden.shape, dtype=queries.dtype).masked_fill_(hidden, -torch.inf)
    return bias.repeat_interleave(heads.keys, dim=0).unsqueeze(1)
