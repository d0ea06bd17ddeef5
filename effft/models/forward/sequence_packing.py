"""Prompts close together in one row, without padding: everything but attention is computed token by token."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor

from effft.models.forward.batching import cheapest_cut

CALL = 64
"""What the products of one more group of prompts cost, in padded tokens (width 768, two cores)."""

LARGEST = 1 << 14
"""Padded tokens of one group."""

ROUND = 32
"""Tokens in a row are a multiple of this: products of 1007 rows ran at 0.58 TFLOP/s (bf16, two cores), of 1008 at 0.77.

It also keeps the number of different shapes small, for each of which the products are compiled anew.
"""


class Group(NamedTuple):
    """Prompts of like length, padded: whose rows they are, `length` tokens each, and the tokens each has, (rows)."""

    members: Tensor
    length: int
    sizes: Tensor


class PackedSequences:
    """Prompts of these lengths, one behind another, and `filler` tokens that nobody reads: `tokens` in all.

    starts, owners: place of the first token of each prompt; whose each token is; positions: (1, tokens). Attention
    pads the prompts again, those of like length together: group after group in one block of `padded` tokens, of which
    `places` are those of the row.
    """

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        self.lengths, self.filler = tuple(lengths), -sum(lengths) % ROUND
        own = [*lengths, self.filler] if self.filler else list(lengths)
        self.tokens, sizes = sum(own), torch.tensor(own)
        starts = sizes.cumsum(0) - sizes
        self.owners = torch.repeat_interleave(torch.arange(len(sizes)), sizes).to(device)
        self.starts = starts[: len(lengths)].to(device)
        within = torch.arange(self.tokens) - torch.repeat_interleave(starts, sizes)
        self.positions = within.unsqueeze(0).to(device)
        self.groups: list[Group] = []
        """The filler is a prompt as well here, the last."""
        order = sorted(range(len(own)), key=lambda row: own[row])
        first = torch.zeros(len(own), dtype=torch.long)
        self.padded = 0
        for part in cheapest_cut([own[row] for row in order], LARGEST, CALL):
            rows = order[part]
            length = own[rows[-1]]
            first[rows] = self.padded + length * torch.arange(len(rows))
            self.padded += length * len(rows)
            self.groups.append(Group(torch.tensor(rows, device=device), length, sizes[rows].to(device)))
        self.places = (torch.repeat_interleave(first, sizes) + within).to(device)

    def fill(self, tokens: Sequence[int], filler: int) -> Tensor:
        """Something of every token, (1, tokens)."""
        return torch.tensor([[*tokens, *[filler] * self.filler]], device=self.starts.device)

    def fill_states(self, states: Sequence[Tensor]) -> Tensor:
        """Kept states of each prompt, (length, width), as (1, tokens, width)."""
        rest = states[0].new_zeros((self.filler, states[0].shape[1]))
        return torch.cat([*states, rest]).unsqueeze(0).to(self.starts.device)

    def apart(self, states: Tensor) -> list[Tensor]:
        """(1, tokens, width) -> (length, width) of each prompt."""
        return [part.clone() for part in torch.split(states[0], [*self.lengths, self.filler])[: len(self.lengths)]]

    def read_by(self, how: str) -> Tensor | None:
        """The places that `pool` reads, (prompts); None: all of them."""
        if how == "first":
            return self.starts
        return self.starts + torch.tensor(self.lengths, device=self.starts.device) - 1 if how == "last" else None

    def pool(self, states: Tensor, how: str) -> Tensor:
        """(tokens, width) -> (prompts, width), as `heads.pool` does."""
        places = self.read_by(how)
        if places is not None:
            return states[places]
        own = self.owners == torch.arange(len(self.lengths), device=states.device).unsqueeze(1)
        return (own.to(states.dtype) @ states) / own.sum(dim=1, keepdim=True).to(states.dtype)

    def spread(self, states: Tensor) -> list[Tensor]:
        """(1, heads, tokens, size) -> (rows, heads, length, size) of each group, padded with zeros."""
        _, heads, tokens, size = states.shape
        flat = states.transpose(1, 2).reshape(tokens, heads * size)
        block = flat.new_zeros((self.padded, heads * size)).index_copy(0, self.places, flat)
        parts = torch.split(block, [len(group.members) * group.length for group in self.groups])
        return [
            part.view(len(group.members), group.length, heads, size).transpose(1, 2)
            for part, group in zip(parts, self.groups, strict=True)
        ]

    def gather(self, groups: Sequence[Tensor]) -> Tensor:
        """(rows, length, heads, size) of each group -> (1, tokens, heads, size)."""
        shape = groups[0].shape[2:]
        block = torch.cat([group.reshape(-1, shape.numel()) for group in groups])
        found: Tensor = _Real.apply(block, self.places)  # type: ignore[no-untyped-call]
        return found.view(1, self.tokens, *shape)


class _Real(torch.autograd.Function):
    """Rows of a block, each at most once: then the way back is a copy, and no sum."""

    @staticmethod
    def forward(ctx: Any, block: Tensor, places: Tensor) -> Tensor:
        ctx.places, ctx.rows = places, len(block)
        return block.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        return gradient.new_zeros((ctx.rows, gradient.shape[1])).index_copy(0, ctx.places, gradient), None


_STANDING: ContextVar[PackedSequences | None] = ContextVar("standing", default=None)


def current_packing() -> PackedSequences | None:
    """How the prompts of the pass that runs stand; None where they are padded."""
    return _STANDING.get()


@contextmanager
def use_packing(close: PackedSequences | None) -> Iterator[None]:
    """While open, the attention of `models/attention.py` keeps these prompts apart."""
    token = _STANDING.set(close)
    try:
        yield
    finally:
        _STANDING.reset(token)


def packed_inputs(ids: Tensor, close: PackedSequences) -> dict[str, Tensor]:
    """What a model is called with. The mask is not looked at, but a ready one (four axes) keeps it from making one."""
    mask = torch.ones((1, 1, 1, 1), dtype=torch.bool, device=ids.device)
    return {"input_ids": ids, "position_ids": close.positions, "attention_mask": mask}
