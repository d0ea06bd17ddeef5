"""The last block where few places are read: all tokens give it their keys and values, the rest is made there alone."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

ROUND = 8
"""Places are filled up to a multiple of this, so that few different shapes of products are compiled."""


class LastBlockState:
    """The places of the one row that are read, (places), and the keys and values of all its tokens once they are known.

    places: filled up with the first place; the first `count` are asked for.
    """

    def __init__(self, places: Tensor) -> None:
        self.count = len(places)
        self.places = torch.cat([places, places[:1].expand(-self.count % ROUND)])
        self.known: tuple[Tensor, Tensor] | None = None

    def learn(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of all tokens; the first call breaks off, as nothing else is wanted of all tokens."""
        if self.known is None:
            self.known = (key, value)
            raise _KnownError
        return self.known

    def cut(self, value: Any, tokens: int) -> Any:
        """What is said of each token, said of the places: positions, rotations, rows of a mask."""
        if isinstance(value, tuple):
            return tuple(self.cut(part, tokens) for part in value)
        if not isinstance(value, Tensor):
            return value
        axis = 2 if value.ndim == 4 else min(value.ndim - 1, 1)
        if value.shape[axis] != tokens or any(size != 1 for size in value.shape[:axis]):
            return value
        return value.index_select(axis, self.places)


class _KnownError(Exception):
    """Keys and values are known."""


_ANSWERING: ContextVar[LastBlockState | None] = ContextVar("answering", default=None)


def last_block_state() -> LastBlockState | None:
    """Set while the block that answers runs."""
    return _ANSWERING.get()


@contextmanager
def last_block_at(block: nn.Module, places: Tensor) -> Iterator[None]:
    """While open, `block` gives (1, tokens, width) that is right at `places` and zero elsewhere.

    Its own code runs twice: on all tokens until its attention (`models/attention.py`) has the keys and values, and
    then on the places. So of 12 products as wide as the model only query, key and value see all tokens.
    """
    whole = block.forward

    def answer(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        found = LastBlockState(places)
        token = _ANSWERING.set(found)
        try:
            with suppress(_KnownError):
                return whole(hidden_states, *args, **kwargs)  # a block without attention of ours
            few = (found.cut(value, hidden_states.shape[1]) for value in (hidden_states, *args))
            named = {name: found.cut(value, hidden_states.shape[1]) for name, value in kwargs.items()}
            out = whole(*few, **named)
        finally:
            _ANSWERING.reset(token)
        states = out[0] if isinstance(out, tuple) else out
        rest = hidden_states.new_zeros(hidden_states.shape)
        states = rest.index_copy(1, places, states[:, : found.count])
        return (states, *out[1:]) if isinstance(out, tuple) else states

    block.forward = answer
    try:
        yield
    finally:
        del block.forward  # uncovers the class's own
