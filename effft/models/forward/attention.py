"""Attention of prompts that stand close together; and of short ones in bf16 on a CPU, where the plain products win."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from effft.models.forward.last_block import LastBlockState, last_block_state
from effft.models.forward.sequence_packing import PackedSequences, current_packing

ATTENTION_NAME = "plain_when_short"
"""What transformers knows it by."""

DECODERS = ("opt", "gpt2", "llama", "gpt_neox", "qwen2", "qwen3", "mistral")
SUPPORTED_TYPES = (*DECODERS, "bert")
"""Model types that take masks and positions of ours, and leave all else about who sees whom to their attention."""

NARROW = 256
"""Width below which the calls cost more than the padding."""

LONGEST = 128
"""Keys up to which the plain products serve a pass with gradients: they keep (heads, queries, keys) for it."""

LARGEST = 1 << 22
"""Scores (batch, heads, queries, keys) up to which they serve at all."""


def use_own_attention(model: Any) -> None:
    """Give a model that uses torch's fused attention `attend`: the plain products, where these are faster.

    On two cores 4 rows of 60 tokens (12 heads of 64) took 0.68 + 2.80 ms forwards and backwards, and 0.26 + 0.54 so.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    if getattr(model.config, "_attn_implementation", "") != "sdpa" or not model._can_set_attn_implementation():
        return  # or it has this already
    AttentionInterface.register(ATTENTION_NAME, attend)
    AttentionMaskInterface.register(ATTENTION_NAME, sdpa_mask)
    model.set_attn_implementation(ATTENTION_NAME)


def sees_whole_prompts(config: Any, types: Sequence[str]) -> bool:
    """Whether a model is of these types, without windows, and its attention is torch's or ours."""
    windows = set(getattr(config, "layer_types", None) or ["full_attention"])
    whole = windows == {"full_attention"} and not getattr(config, "sliding_window", None)
    return (
        whole and config.model_type in types and getattr(config, "_attn_implementation", "") in ("sdpa", ATTENTION_NAME)
    )


def attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """As transformers' `sdpa_attention_forward`: (batch, heads, length, size) each -> (batch, length, heads, size).

    Where prompts stand close together (`models/close.py`), each sees itself alone. Where few places are read
    (`models/answering.py`), the queries are theirs.
    """
    close, few = current_packing(), last_block_state()
    if few is not None:
        key, value = few.learn(key, value)
    if close is None:
        return _attend(module, query, key, value, attention_mask, **options)
    if few is not None:
        return _attend_at(few, close, module, query, key, value, **options), None
    parts = zip(close.groups, close.spread(query), close.spread(key), close.spread(value), strict=True)
    causal = _is_causal(module, options)
    found = [
        _attend(module, q, k, v, None if causal else _real(group.sizes, group.length), **options)[0]
        for group, q, k, v in parts
    ]
    return close.gather(found), None


def _attend_at(
    few: LastBlockState,
    close: PackedSequences,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    **options: Any,
) -> Tensor:
    """One query of each prompt: (1, heads, places, size) -> (1, places, heads, size). The filler has the last one's."""
    causal, last = _is_causal(module, options), few.count - 1
    queries, seen = query[0].transpose(0, 1), few.places[: few.count] - close.starts + 1
    found = []
    for group, k, v in zip(close.groups, close.spread(key), close.spread(value), strict=True):
        rows = group.members.clamp(max=last)
        mask = _real(seen[rows] if causal else group.sizes, group.length)
        found.append(_attend(module, queries[rows].unsqueeze(2), k, v, mask, **options)[0])
    order = torch.cat([group.members for group in close.groups]).argsort()[: few.count]
    states = torch.cat(found)[order]
    rest = states.new_zeros((len(few.places) - few.count, *states.shape[1:]))
    return torch.cat([states, rest]).transpose(0, 1)


def _real(sizes: Tensor, length: int) -> Tensor:
    """Which keys of a group are tokens, (rows, 1, 1, length); where attention is causal, none sees what comes after."""
    return (torch.arange(length, device=sizes.device) < sizes.unsqueeze(1)).view(-1, 1, 1, length)


def _is_causal(module: nn.Module, options: dict[str, Any]) -> bool:
    given = options.get("is_causal")
    return bool(getattr(module, "is_causal", True) if given is None else given)


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """The softmax is fp32; of short prompts the products as well, else they round to bf16 as transformers' own do."""
    from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward

    ahead = _is_causal(module, options) and attention_mask is None and query.shape[2] > 1
    odd = ahead and query.shape[2] != key.shape[2]
    if odd or not _short(query, key) or any(options.get(name) is not None for name in ("position_bias", "softcap")):
        found: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return found
    groups = getattr(module, "num_key_value_groups", 1)
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    scaling = query.shape[-1] ** -0.5 if options.get("scaling") is None else options["scaling"]
    if ahead:
        size = (query.shape[2], key.shape[2])
        attention_mask = torch.ones(size, dtype=torch.bool, device=query.device).tril()
    boolean = attention_mask is None or attention_mask.dtype == torch.bool
    if key.shape[2] <= LONGEST and boolean and not options.get("dropout"):
        states: Tensor = _Exact.apply(query, key, value, attention_mask, scaling)  # type: ignore[no-untyped-call]
        return states, None
    scores = (query @ key.transpose(-1, -2)).float() * scaling
    if attention_mask is not None and boolean:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    elif attention_mask is not None:
        scores = scores + attention_mask
    shares = scores.softmax(dim=-1).to(value.dtype)
    shares = nn.functional.dropout(shares, options.get("dropout", 0.0))
    return (shares @ value).transpose(1, 2).contiguous(), None


class _Exact(torch.autograd.Function):
    """Attention in fp32 of (batch, heads, length, size) in bf16; only these and the shares are kept for the way back.

    Every step has groups of other sizes, and in bf16 each size is a product to compile: 10 ms of a group's way there
    and back, where the products themselves take 6 (12 heads of 64, two threads). In fp32 nothing is compiled.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float) -> Tensor:
        scores = (query.float() @ key.float().transpose(-1, -2)).mul_(scaling)
        if mask is not None:
            scores.masked_fill_(~mask, torch.finfo(scores.dtype).min)
        shares = scores.softmax(dim=-1)
        ctx.save_for_backward(query, key, value, shares)
        ctx.scaling = scaling
        return (shares @ value.float()).transpose(1, 2).to(value.dtype, memory_format=torch.contiguous_format)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, shares = ctx.saved_tensors
        given = gradients[0].transpose(1, 2).float()
        ours = given @ value.float().transpose(-1, -2)
        ours = (ours - (ours * shares).sum(dim=-1, keepdim=True)).mul_(shares).mul_(ctx.scaling)
        back = (ours @ key.float(), ours.transpose(-1, -2) @ query.float(), shares.transpose(-1, -2) @ given)
        return (*(found.to(query.dtype) for found in back), None, None)


def _short(query: Tensor, key: Tensor) -> bool:
    """Whether the plain products are faster and their memory is small."""
    if query.dtype != torch.bfloat16 or query.device.type not in ("cpu", "meta"):
        return False
    batch, heads, queries, _ = query.shape
    learns = torch.is_grad_enabled() and (query.requires_grad or key.requires_grad)
    return batch * heads * queries * key.shape[2] <= LARGEST and (not learns or key.shape[2] <= LONGEST)
