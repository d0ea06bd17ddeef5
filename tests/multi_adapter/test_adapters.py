"""Every row of a pass is changed by the adapter of its own member, whatever the module is called with."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from effft.models.forward.sequence_packing import PackedSequences
from effft.multi_adapter.adapters import AdapterBatch, adapters_on

OWNERS = st.lists(st.integers(0, 4), min_size=1, max_size=9).map(sorted)


def shifted(module: nn.Module, batch: AdapterBatch, inputs: torch.Tensor) -> torch.Tensor:
    """What the module gives where member m adds m; member 3 has no adapter."""
    deltas = [{module: lambda _i, o, m=m: o + m} if m != 3 else {} for m in range(5)]
    with adapters_on(deltas, batch):
        outputs: torch.Tensor = module(inputs)
    assert not module._forward_hooks
    return outputs


@settings(max_examples=40, deadline=None)
@given(OWNERS, st.integers(1, 3), st.booleans())
def test_padded_rows(owners: list[int], length: int, flat: bool) -> None:
    """flat: a module that is called with (rows x tokens, width), as OPT's are."""
    inputs = torch.zeros((len(owners), length, 2))
    outputs = shifted(nn.Identity(), AdapterBatch(owners), inputs.reshape(-1, 2) if flat else inputs)
    assert outputs.reshape(inputs.shape)[:, :, 0].tolist() == [[owner * (owner != 3)] * length for owner in owners]


@settings(max_examples=40, deadline=None)
@given(OWNERS, st.data())
def test_packed_tokens_and_prompts(owners: list[int], data: st.DataObject) -> None:
    """A row of all tokens, and the prompts' answers filled up to a multiple of eight (`forward/last_block.py`)."""
    lengths = data.draw(st.lists(st.integers(2, 9), min_size=len(owners), max_size=len(owners)))
    packing = PackedSequences(lengths, torch.device("cpu"))
    batch, wanted = AdapterBatch(owners, packing), [owner * (owner != 3) for owner in owners]
    tokens = shifted(nn.Identity(), batch, torch.zeros((1, packing.tokens, 2)))[0, :, 0].tolist()
    assert tokens[: sum(lengths)] == [value for value, n in zip(wanted, lengths, strict=True) for _ in range(n)]
    prompts = len(owners) + -len(owners) % 8
    if prompts != packing.tokens:
        answers = shifted(nn.Identity(), batch, torch.zeros((1, prompts, 2)))[0, :, 0].tolist()
        assert answers[: len(owners)] == wanted
