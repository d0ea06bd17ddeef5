"""Attention of short prompts in bf16 on a CPU: the plain products, where torch's fused kernel is far slower."""

from typing import Any

import torch
from torch import Tensor, nn

NAME = "plain_when_short"
"""What transformers knows it by."""

LONGEST = 128
"""Keys up to which the plain products serve a pass with gradients: they keep (heads, queries, keys) for it."""

LARGEST = 1 << 22
"""Scores (batch, heads, queries, keys) up to which they serve at all."""


def attend_plainly_when_short(model: Any) -> None:
    """Give a model that uses torch's fused attention the plain products instead, where these are faster.

    On two cores 4 rows of 60 tokens (12 heads of 64) took 0.68 + 2.80 ms forwards and backwards, and 0.26 + 0.54 so.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    if getattr(model.config, "_attn_implementation", "") != "sdpa" or not model._can_set_attn_implementation():
        return
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)


def attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """As transformers' `sdpa_attention_forward`: (batch, heads, length, size) each -> (batch, length, heads, size).

    The softmax is fp32; scores and probabilities are rounded to bf16, as in transformers' own eager attention.
    """
    from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward

    causal = options.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    ahead = causal and attention_mask is None and query.shape[2] > 1
    odd = ahead and query.shape[2] != key.shape[2]
    if odd or not _short(query, key) or any(options.get(name) is not None for name in ("position_bias", "softcap")):
        found: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return found
    groups = getattr(module, "num_key_value_groups", 1)
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    scaling = options.get("scaling")
    scores = (query @ key.transpose(-1, -2)).float() * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if ahead:
        attention_mask = scores.new_ones(scores.shape[-2:], dtype=torch.bool).tril()
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    elif attention_mask is not None:
        scores = scores + attention_mask
    shares = scores.softmax(dim=-1).to(value.dtype)
    shares = nn.functional.dropout(shares, options.get("dropout", 0.0))
    return (shares @ value).transpose(1, 2).contiguous(), None


def _short(query: Tensor, key: Tensor) -> bool:
    """Whether the plain products are faster and their memory is small."""
    if query.dtype != torch.bfloat16 or query.device.type not in ("cpu", "meta"):
        return False
    batch, heads, queries, _ = query.shape
    learns = torch.is_grad_enabled() and (query.requires_grad or key.requires_grad)
    return batch * heads * queries * key.shape[2] <= LARGEST and (not learns or key.shape[2] <= LONGEST)
