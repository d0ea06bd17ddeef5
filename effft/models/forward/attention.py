"""Our attention: over packed prompts, and over short prompts in bf16 on a CPU, where plain products are faster."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from effft.models.forward import packed_attention
from effft.models.forward.last_block import LastBlockState, last_block_state
from effft.models.forward.packed_attention import LARGEST, LONGEST
from effft.models.forward.sequence_packing import PackedSequences, current_packing

ATTENTION_NAME = "effft"
"""The name under which transformers knows it."""

DECODERS = ("opt", "gpt2", "llama", "gpt_neox", "qwen2", "qwen3", "mistral")
SUPPORTED_TYPES = (*DECODERS, "bert")
"""Model types that accept masks and positions of ours and leave to their attention which token sees which."""

NARROW = 256
"""Hidden size below which a model is narrow: our calls cost more than padding does, bf16 is slower than fp32 (1.5 times
at 128, on a CPU that has it), and so are two threads (20 times)."""


def implementation_of(config: Any) -> str:
    """The attention that a model uses ('sdpa', 'eager', ...)."""
    return str(config._attn_implementation)  # transformers has a public setter and no public getter


def use_own_attention(model: Any) -> None:
    """Replace torch's fused attention by `attend` where the model allows it.

    On two cores 4 rows of 60 tokens (12 heads of 64) took 0.68 + 2.80 ms forwards and backwards, and 0.26 + 0.54 so.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    if implementation_of(model.config) == "sdpa":
        AttentionInterface.register(ATTENTION_NAME, attend)
        AttentionMaskInterface.register(ATTENTION_NAME, sdpa_mask)
        model.set_attn_implementation(ATTENTION_NAME)  # leaves a model without exchangeable attention as it is


def sees_whole_prompts(config: Any, types: Sequence[str]) -> bool:
    """Whether a model is of these types, has no attention window, and uses torch's fused attention or ours."""
    windowed = set(getattr(config, "layer_types", None) or ["full_attention"]) != {"full_attention"}
    if windowed or getattr(config, "sliding_window", None):
        return False
    return config.model_type in types and implementation_of(config) in ("sdpa", ATTENTION_NAME)


def attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """As transformers' `sdpa_attention_forward`: (batch, heads, length, size) each -> (batch, length, heads, size).

    Of packed prompts, each attends to itself alone. In the last block, only the positions that are read have queries.
    """
    packing, last_block = current_packing(), last_block_state()
    if last_block is not None:
        key, value = last_block.all_tokens(key, value)
    if packing is None:
        return _attend(module, query, key, value, attention_mask, **options)
    causal = _is_causal(module, options)
    if last_block is None and packed_attention.serves(packing, query, options):
        return packed_attention.attend(packing, query, key, value, options.get("scaling"), causal), None
    keys, values = packing.to_groups(key), packing.to_groups(value)
    if last_block is not None:
        return _attend_at(last_block, packing, module, query, keys, values, causal, **options), None
    states = [
        _attend(module, q, k, v, None if causal else _key_mask(group.sizes, group.length), **options)[0]
        for group, q, k, v in zip(packing.groups, packing.to_groups(query), keys, values, strict=True)
    ]
    return packing.from_groups(states), None


def _attend_at(
    state: LastBlockState,
    packing: PackedSequences,
    module: nn.Module,
    query: Tensor,
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
    causal: bool,
    **options: Any,
) -> Tensor:
    """One query of each prompt: (1, heads, positions, size) -> (1, positions, heads, size).

    The filler is a member of a group too; it gets the query of the last prompt, and its result is dropped.
    """
    count = state.count
    queries, visible = query[0].transpose(0, 1), state.positions[:count] - packing.starts + 1
    results = []
    for group, k, v in zip(packing.groups, keys, values, strict=True):
        members = group.members.clamp(max=count - 1)
        mask = _key_mask(visible[members] if causal else group.sizes, group.length)
        results.append(_attend(module, queries[members].unsqueeze(2), k, v, mask, **options)[0])
    order = torch.cat([group.members for group in packing.groups]).argsort()[:count]
    states = torch.cat(results)[order]
    padding = states.new_zeros((len(state.positions) - count, *states.shape[1:]))
    return torch.cat([states, padding]).transpose(0, 1)


def _key_mask(sizes: Tensor, length: int) -> Tensor:
    """Which keys are visible, (members, 1, 1, length): the first `sizes` of each member."""
    return (torch.arange(length, device=sizes.device) < sizes.unsqueeze(1)).view(-1, 1, 1, length)


def _is_causal(module: nn.Module, options: dict[str, Any]) -> bool:
    given = options.get("is_causal")
    return bool(getattr(module, "is_causal", True) if given is None else given)


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Plain products for short prompts in bf16, torch's fused kernel for the rest. The softmax is fp32.

    Short prompts with a boolean mask and without dropout have fp32 products as well.
    """
    from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward

    needs_causal_mask = _is_causal(module, options) and attention_mask is None and query.shape[2] > 1
    continues = needs_causal_mask and query.shape[2] != key.shape[2]
    special = any(options.get(name) is not None for name in ("position_bias", "softcap"))
    if continues or special or not _plain_is_faster(query, key):
        fused: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return fused
    groups = getattr(module, "num_key_value_groups", 1)
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    scaling = query.shape[-1] ** -0.5 if options.get("scaling") is None else options["scaling"]
    if needs_causal_mask:
        size = (query.shape[2], key.shape[2])
        attention_mask = torch.ones(size, dtype=torch.bool, device=query.device).tril()
    boolean = attention_mask is None or attention_mask.dtype == torch.bool
    if key.shape[2] <= LONGEST and boolean and not options.get("dropout"):
        states: Tensor = _ExactAttention.apply(query, key, value, attention_mask, scaling)  # type: ignore[no-untyped-call]
        return states, None
    scores = (query @ key.transpose(-1, -2)).float() * scaling
    if attention_mask is not None and boolean:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    elif attention_mask is not None:
        scores = scores + attention_mask
    weights = scores.softmax(dim=-1).to(value.dtype)
    weights = nn.functional.dropout(weights, options.get("dropout", 0.0))
    return (weights @ value).transpose(1, 2).contiguous(), None


class _ExactAttention(torch.autograd.Function):
    """Attention over (batch, heads, length, size) in bf16, computed in fp32; stores its inputs and the weights.

    Every step has groups of other sizes, and oneDNN compiles bf16 products anew for each size: 10 ms for a group
    forwards and backwards, where the products themselves take 6 (12 heads of 64, two threads). It compiles nothing
    for fp32.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float) -> Tensor:
        scores = (query.float() @ key.float().transpose(-1, -2)).mul_(scaling)
        if mask is not None:
            scores.masked_fill_(~mask, torch.finfo(scores.dtype).min)
        weights = scores.softmax(dim=-1)
        ctx.save_for_backward(query, key, value, weights)
        ctx.scaling = scaling
        return (weights @ value.float()).transpose(1, 2).to(value.dtype, memory_format=torch.contiguous_format)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, weights = ctx.saved_tensors
        output = gradients[0].transpose(1, 2).float()
        scores = output @ value.float().transpose(-1, -2)
        scores = (scores - (scores * weights).sum(dim=-1, keepdim=True)).mul_(weights).mul_(ctx.scaling)
        inputs = (scores @ key.float(), scores.transpose(-1, -2) @ query.float(), weights.transpose(-1, -2) @ output)
        return (*(gradient.to(query.dtype) for gradient in inputs), None, None)


def _plain_is_faster(query: Tensor, key: Tensor) -> bool:
    """Whether plain products are faster than the fused kernel, and need little memory."""
    if query.dtype != torch.bfloat16 or query.device.type not in ("cpu", "meta"):
        return False
    batch, heads, queries, _ = query.shape
    trains = torch.is_grad_enabled() and (query.requires_grad or key.requires_grad)
    return batch * heads * queries * key.shape[2] <= LARGEST and (not trains or key.shape[2] <= LONGEST)
