"""Run the last block only at the positions that are read; keys and values still cover every token."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

ROUND = 8
"""Positions are padded to a multiple of this, so that products have few different shapes."""


class LastBlockState:
    """The positions of the row that are read, and the keys and values of all tokens once they are known.

    positions: padded with the first one; `count` of them are asked for.
    """

    def __init__(self, positions: Tensor) -> None:
        self.count = len(positions)
        self.positions = torch.cat([positions, positions[:1].expand(-self.count % ROUND)])
        self.keys_and_values: tuple[Tensor, Tensor] | None = None

    def all_tokens(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of all tokens: the first call stores them and leaves the block, as nothing else is needed."""
        if self.keys_and_values is None:
            self.keys_and_values = (key, value)
            raise _KeysAndValuesKnownError
        return self.keys_and_values

    def select(self, value: Any, tokens: int) -> Any:
        """An argument of the block (states, positions, rotations, a mask) at the positions, where it is per token."""
        if isinstance(value, tuple):
            return tuple(self.select(part, tokens) for part in value)
        if not isinstance(value, Tensor):
            return value
        axis = 2 if value.ndim == 4 else min(value.ndim - 1, 1)
        if value.shape[axis] != tokens or any(size != 1 for size in value.shape[:axis]):
            return value
        return value.index_select(axis, self.positions)


class _KeysAndValuesKnownError(Exception):
    """Leaves the block after its first run."""


_CURRENT: ContextVar[LastBlockState | None] = ContextVar("last block", default=None)


def last_block_state() -> LastBlockState | None:
    """The state while the last block runs, else None."""
    return _CURRENT.get()


@contextmanager
def last_block_at(block: nn.Module, positions: Tensor) -> Iterator[None]:
    """While open, `block` returns (1, tokens, width) that is right at `positions` and zero elsewhere.

    Its own code runs twice: on all tokens up to its attention (`attention.py`), which takes the keys and values, and
    then on the positions. Of the block's 12 products of the model's width only query, key and value cover all tokens.
    """
    original = block.forward

    def forward(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        state = LastBlockState(positions)
        token = _CURRENT.set(state)
        try:
            with suppress(_KeysAndValuesKnownError):
                return original(hidden_states, *args, **kwargs)  # a block that does not use our attention
            tokens = hidden_states.shape[1]
            selected = (state.select(value, tokens) for value in (hidden_states, *args))
            out = original(*selected, **{name: state.select(value, tokens) for name, value in kwargs.items()})
        finally:
            _CURRENT.reset(token)
        states = out[0] if isinstance(out, tuple) else out
        full = hidden_states.new_zeros(hidden_states.shape).index_copy(1, positions, states[:, : state.count])
        return (full, *out[1:]) if isinstance(out, tuple) else full

    block.forward = forward
    try:
        yield
    finally:
        del block.forward  # uncovers the class's own
