"""Stop a transformer before one of its blocks, and go on from there with states computed earlier."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from effft.models.backbone import Backbone
from effft.models.forward.sequence_packing import PackedSequences

PROBE = 4
"""Tokens of each of two texts whose states tell whether a model can go on from the states of a block."""


class _BlockReachedError(Exception):
    """Leaves the forward pass at the block that was asked for."""


def block_input(
    backbone: Backbone, inputs: Mapping[str, Tensor], index: int, packing: PackedSequences | None = None
) -> tuple[Tensor, Any, dict[str, Any]]:
    """Hidden states entering block `index`, (batch, length, width), and the block's other arguments.

    Nothing at or above the block is computed.
    """
    entering: list[tuple[Tensor, Any, dict[str, Any]]] = []

    def stop(_module: object, args: Any, kwargs: dict[str, Any]) -> None:
        rest = dict(kwargs)
        states = args[0] if args else rest.pop("hidden_states")
        entering.append((states, args[1:], rest))
        raise _BlockReachedError

    def see_output(_module: object, _args: object, output: object) -> None:
        backbone.block_values = len(output) if isinstance(output, tuple) else 0

    handles = [backbone.layout.blocks[index].register_forward_pre_hook(stop, with_kwargs=True)]
    handles += [block.register_forward_hook(see_output) for block in backbone.layout.blocks[: min(index, 1)]]
    try:
        with torch.no_grad():
            backbone.hidden(inputs, packing)
    except _BlockReachedError:
        return entering[0]
    finally:
        for handle in handles:
            handle.remove()
    raise AssertionError("the body did not call its block")


def can_start_at_block(backbone: Backbone, index: int) -> bool:
    """Whether states are all that block `index` takes from the blocks below it, and from nowhere else.

    The first block of T5 makes the relative positions of all; a decoder also reads its encoder. Of the others a pass
    of a few tokens tells: XLM adds to a block what stands before it, and ALBERT runs one several times.
    """
    within = backbone.layout.blocks[0].modules()
    if backbone.decoder_start or any(isinstance(part, torch.nn.Embedding) for part in within):
        return False
    if backbone.device.type == "meta":
        return True
    ids = torch.arange(2 * PROBE, device=backbone.device).view(2, PROBE)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with torch.no_grad():
        whole, states = backbone.hidden(inputs), block_input(backbone, inputs, index)[0]
        if states.shape[:2] != ids.shape:
            return False
        with start_at_block(backbone, states.clone(), index):
            return torch.allclose(backbone.hidden(inputs), whole, rtol=0, atol=1e-5 * whole.abs().max().item())


@contextmanager
def start_at_block(backbone: Backbone, states: Tensor, index: int) -> Iterator[None]:
    """While open, the blocks below `index` do nothing, and block `index` reads `states`.

    The model's own code still makes embeddings, masks and positions, which cost little, so this works for every
    architecture; only `forward` of the block instances is replaced.
    """

    def enter(_module: object, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return ((states, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": states})

    def skip(hidden_states: Tensor, *_args: object, **_kwargs: object) -> Tensor | tuple[Tensor | None, ...]:
        return (hidden_states, *[None] * (backbone.block_values - 1)) if backbone.block_values else hidden_states

    below = backbone.layout.blocks[:index]
    handle = backbone.layout.blocks[index].register_forward_pre_hook(enter, with_kwargs=True)
    for block in below:
        block.forward = skip
    try:
        yield
    finally:
        handle.remove()
        for block in below:
            del block.forward  # uncovers the class's own
