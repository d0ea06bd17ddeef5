"""Sequence packing: prompts one after another in a single row, so that no padding is computed.

Everything but attention works token by token and does not notice. Attention pads the prompts again, in groups of
similar length (`attention.py`).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor

from effft.models.forward.batching import cheapest_cut

GROUP_OVERHEAD = 64
"""Cost of attention over one more group, in padded tokens (width 768, two cores)."""

GROUP_BUDGET = 1 << 14
"""Padded tokens in one group, at most."""

ROUND = 32
"""Tokens in a row are a multiple of this: products of 1007 rows ran at 0.58 TFLOP/s (bf16, two cores), of 1008 at 0.77.

It also limits the number of different shapes, for each of which oneDNN compiles its products anew.
"""


class Group(NamedTuple):
    """Prompts of similar length, padded together.

    members: indices of the prompts. length: padded length. sizes: tokens of each prompt, (members).
    """

    members: Tensor
    length: int
    sizes: Tensor


class PackedSequences:
    """The layout of prompts that are packed into one row, followed by filler tokens that nobody reads.

    Attributes:
        tokens: length of the row, filler included.
        starts: position of the first token of each prompt, (prompts).
        owners: index of the prompt that each token belongs to, (tokens); the filler counts as one more prompt.
        position_ids: position of each token within its prompt, (1, tokens).
        groups: the prompts (and the filler) as attention pads them.
        padded_tokens: tokens of all groups, padding included.
        padded_index: where each token of the row lies in the groups, (tokens).
    """

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        self.lengths, self.filler = tuple(lengths), -sum(lengths) % ROUND
        all_lengths = [*lengths, self.filler] if self.filler else list(lengths)
        self.tokens, sizes = sum(all_lengths), torch.tensor(all_lengths)
        starts = sizes.cumsum(0) - sizes
        self.owners = torch.repeat_interleave(torch.arange(len(sizes)), sizes).to(device)
        self.starts = starts[: len(lengths)].to(device)
        within = torch.arange(self.tokens) - torch.repeat_interleave(starts, sizes)
        self.position_ids = within.unsqueeze(0).to(device)
        self.groups: list[Group] = []
        order = sorted(range(len(all_lengths)), key=all_lengths.__getitem__)
        padded_starts = torch.zeros(len(all_lengths), dtype=torch.long)
        self.padded_tokens = 0
        for part in cheapest_cut([all_lengths[i] for i in order], GROUP_BUDGET, GROUP_OVERHEAD):
            members = order[part]
            length = all_lengths[members[-1]]
            padded_starts[members] = self.padded_tokens + length * torch.arange(len(members))
            self.padded_tokens += length * len(members)
            self.groups.append(Group(torch.tensor(members, device=device), length, sizes[members].to(device)))
        self.padded_index = (torch.repeat_interleave(padded_starts, sizes) + within).to(device)

    def fill(self, values: Sequence[int], filler: int) -> Tensor:
        """One integer for each token of the prompts, as a row (1, tokens)."""
        return torch.tensor([[*values, *[filler] * self.filler]], device=self.starts.device)

    def fill_states(self, states: Sequence[Tensor]) -> Tensor:
        """States of each prompt, (length, width), as a row (1, tokens, width)."""
        rest = states[0].new_zeros((self.filler, states[0].shape[1]))
        return torch.cat([*states, rest]).unsqueeze(0).to(self.starts.device)

    def unpack(self, states: Tensor) -> list[Tensor]:
        """A row (1, tokens, width) as the states of each prompt, (length, width)."""
        return [part.clone() for part in torch.split(states[0], [*self.lengths, self.filler])[: len(self.lengths)]]

    def pooled_positions(self, how: str) -> Tensor | None:
        """The positions that `pool` reads, (prompts); None: all of them."""
        if how == "first":
            return self.starts
        return self.starts + torch.tensor(self.lengths, device=self.starts.device) - 1 if how == "last" else None

    def pool(self, states: Tensor, how: str) -> Tensor:
        """(tokens, width) -> (prompts, width), as `heads.pool` does for padded prompts."""
        positions = self.pooled_positions(how)
        if positions is not None:
            return states[positions]
        members = self.owners == torch.arange(len(self.lengths), device=states.device).unsqueeze(1)
        return (members.to(states.dtype) @ states) / members.sum(dim=1, keepdim=True).to(states.dtype)

    def to_padded(self, states: Tensor) -> Tensor:
        """(1, heads, tokens, size) -> (padded tokens, heads x size): the groups one after another, zeros between."""
        _, heads, tokens, size = states.shape
        flat = states.transpose(1, 2).reshape(tokens, heads * size)
        return flat.new_zeros((self.padded_tokens, heads * size)).index_copy_(0, self.padded_index, flat)

    def from_padded(self, block: Tensor) -> Tensor:
        """(padded tokens, width) -> (tokens, width)."""
        return block.index_select(0, self.padded_index)

    def parts(self, *blocks: Tensor) -> Iterator[tuple[Group, tuple[Tensor, ...]]]:
        """Each group with its rows of the padded blocks."""
        sizes = [len(group.members) * group.length for group in self.groups]
        return zip(self.groups, zip(*(torch.split(block, sizes) for block in blocks), strict=True), strict=True)

    def to_groups(self, states: Tensor) -> list[Tensor]:
        """(1, heads, tokens, size) -> (members, heads, length, size) of each group, padded with zeros."""
        heads, size = states.shape[1], states.shape[3]
        return [
            part.view(len(group.members), group.length, heads, size).transpose(1, 2)
            for group, (part,) in self.parts(self.to_padded(states))
        ]

    def from_groups(self, states: Sequence[Tensor]) -> Tensor:
        """(members, length, heads, size) of each group -> (1, tokens, heads, size)."""
        shape = states[0].shape[2:]
        block = torch.cat([group.reshape(-1, shape.numel()) for group in states])
        row: Tensor = _SelectDistinctRows.apply(block, self.padded_index)  # type: ignore[no-untyped-call]
        return row.view(1, self.tokens, *shape)


class _SelectDistinctRows(torch.autograd.Function):
    """`index_select` with distinct indices, so that the backward pass copies where torch would add."""

    @staticmethod
    def forward(ctx: Any, block: Tensor, index: Tensor) -> Tensor:
        ctx.index, ctx.rows = index, len(block)
        return block.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        return gradient.new_zeros((ctx.rows, gradient.shape[1])).index_copy(0, ctx.index, gradient), None


_CURRENT: ContextVar[PackedSequences | None] = ContextVar("packing", default=None)


def current_packing() -> PackedSequences | None:
    """The layout of the forward pass that is running; None where prompts are padded."""
    return _CURRENT.get()


@contextmanager
def use_packing(packing: PackedSequences | None) -> Iterator[None]:
    """While open, attention keeps the packed prompts apart."""
    token = _CURRENT.set(packing)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def packed_inputs(ids: Tensor, packing: PackedSequences) -> dict[str, Tensor]:
    """What a model is called with. Our attention ignores the mask; as it is 4-d, transformers builds none."""
    mask = torch.ones((1, 1, 1, 1), dtype=torch.bool, device=ids.device)
    return {"input_ids": ids, "position_ids": packing.position_ids, "attention_mask": mask}
