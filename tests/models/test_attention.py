"""Plain products are attention, in every way that models call it."""

from types import SimpleNamespace

import pytest
import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.llama.modeling_llama import eager_attention_forward

from effft.models.forward.attention import LARGEST, LONGEST, attend

HEADS, SIZE = 4, 16


def made(batch: int, queries: int, keys: int, kv_heads: int, seed: int) -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    shapes = ((HEADS, queries), (kv_heads, keys), (kv_heads, keys))
    return [torch.randn(batch, heads, length, SIZE, generator=rng).bfloat16() for heads, length in shapes]


def mask_of(kind: str, batch: int, queries: int, keys: int) -> torch.Tensor | None:
    if kind == "none":
        return None
    lengths = torch.arange(keys - batch + 1, keys + 1)
    causal = torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)
    mask = causal & (torch.arange(keys) < lengths[:, None, None, None])
    return mask if kind == "bool" else torch.zeros(mask.shape).masked_fill(~mask, -1e9).bfloat16()


def passed(function: object, parts: list[torch.Tensor], **words: object) -> list[torch.Tensor]:
    """The output, and the gradients of query, key and value."""
    own = [part.clone().requires_grad_() for part in parts]
    module = SimpleNamespace(num_key_value_groups=HEADS // own[1].shape[1], is_causal=True, training=False)
    out = function(module, *own, words.pop("mask"), **words)[0]  # type: ignore[operator]
    out.float().square().sum().backward()
    return [out.detach(), *(part.grad for part in own if part.grad is not None)]


@pytest.mark.parametrize("kv_heads", [HEADS, 2])
@pytest.mark.parametrize(
    ("kind", "queries", "keys"), [("bool", 9, 9), ("float", 9, 9), ("bool", 5, 12), ("none", 9, 9)]
)
def test_nearer_to_exact_than_eager_attention(kind: str, queries: int, keys: int, kv_heads: int) -> None:
    parts = made(3, queries, keys, kv_heads, 0)
    words = {"mask": mask_of(kind, 3, queries, keys), "scaling": 0.3}
    exact_words = words | {"mask": words["mask"].double()} if kind == "float" else words
    exact = passed(sdpa_attention_forward, [part.double() for part in parts], **exact_words)
    mask = words["mask"]
    if kind != "float":
        seen = torch.ones(queries, keys, dtype=torch.bool).tril() if mask is None else mask
        mask = torch.zeros(seen.shape).masked_fill(~seen, -1e9).bfloat16()
    plain, eager = passed(attend, parts, **words), passed(eager_attention_forward, parts, **words | {"mask": mask})
    assert len(plain) == len(exact) == 4
    for mine, theirs, true in zip(plain, eager, exact, strict=True):
        assert mine.shape == theirs.shape
        error, usual = ((found.double() - true).norm().item() for found in (mine, theirs))
        assert error <= usual


@pytest.mark.parametrize("reason", ["long", "large", "fp32", "bias"])
def test_what_the_fused_kernel_keeps(reason: str) -> None:
    length = {"long": LONGEST + 1, "large": LONGEST}.get(reason, 6)
    parts = made(1 + LARGEST // (HEADS * length**2) if reason == "large" else 2, length, length, HEADS, 1)
    words: dict[str, object] = {"mask": None, "scaling": None}
    if reason == "bias":
        words["position_bias"] = torch.zeros(1, HEADS, 6, 6).bfloat16()
    if reason == "fp32":
        parts = [part.float() for part in parts]
    for mine, theirs in zip(
        passed(attend, parts, **words), passed(sdpa_attention_forward, parts, **words), strict=True
    ):
        assert torch.equal(mine, theirs)
