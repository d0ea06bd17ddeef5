"""A backbone without weights: every shape, no memory. `effft estimate` runs on it."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from effft.models.backbone import Backbone, drop_unused, reader_of
from effft.models.conversion import explained
from effft.models.description import describe, max_positions
from effft.models.forward.sequence_packing import PackedSequences

LENGTH = 8
"""Tokens of the text that tells what a model has to be given."""

NO_ESTIMATE = ("no estimate can be made of its type", "`effft run` tells what it takes")
"""The sentence about a model whose code looks at values."""


@dataclass
class Skeleton(Backbone):
    """On torch's meta device.

    Models look at the values of a mask, and on this device there are none: decoders are given a 4-d mask (with
    positions, where they are all of the model), encoders no mask at all; or the other way round, where only that works.

    Attributes:
        masked: whether it is given a mask.
    """

    masked: bool = False

    def _keywords(self, inputs: Mapping[str, Any], packing: PackedSequences | None) -> dict[str, Any]:
        if packing is None:
            inputs = {name: value for name, value in inputs.items() if name != "attention_mask"}
            inputs |= mask_of(inputs["input_ids"], self.decoder) if self.masked else {}
            if "decoder_input_ids" in inputs:
                inputs |= {"decoder_attention_mask": mask_of(inputs["decoder_input_ids"])["attention_mask"]}
        return super()._keywords(inputs, packing)


def mask_of(ids: Tensor, positions: bool = False) -> dict[str, Tensor]:
    """Mask of unpadded rows of ids. positions: with theirs, which a decoder takes from its mask else."""
    rows, length = ids.shape
    mask = {"attention_mask": torch.ones((rows, 1, length, length), dtype=torch.bool, device="meta")}
    return mask | ({"position_ids": torch.arange(length, device="meta").expand(rows, length)} if positions else {})


def skeleton(name: str, revision: str = "", need_lm_head: bool = False) -> Skeleton:
    """Build it from the configuration and the tokenizer alone; no weights are needed, read or downloaded.

    Raises:
        InputError: as `load`, or its code needs values.
    """
    import transformers

    known = describe(name, revision, need_lm_head)
    with torch.device("meta"):
        model = getattr(transformers, known.kind).from_config(deepcopy(known.config))
    drop_unused(model, need_lm_head)
    if need_lm_head and getattr(known.config, "scale_decoder_outputs", True) is False:  # T5 1.1: its files hold a head
        model.lm_head.weight = torch.nn.Parameter(torch.empty_like(model.lm_head.weight))
    reader_of(model).get_input_embeddings().padding_idx = None  # a sparse gradient would look for it by value
    reader_of(model).config.pad_token_id = None  # for which a model without a mask looks in the ids, to warn of it
    model.eval().requires_grad_(False)
    ids = torch.zeros((1, LENGTH), dtype=torch.long, device="meta")

    def width(mask: Mapping[str, Tensor]) -> int:
        return int(reader_of(model)(input_ids=ids, **mask).last_hidden_state.shape[-1])

    usual, other = (mask_of(ids, True), {}) if known.decoder else ({}, mask_of(ids))
    with torch.no_grad(), explained(name, *NO_ESTIMATE):
        try:
            found, mask = width(usual), usual
        except (RuntimeError, ValueError):
            found, mask = width(other), other
    return Skeleton(
        name, "", model, known.tokenizer, known.decoder, need_lm_head, found, max_positions(known.config),
        decoder_start=known.decoder_start, masked=bool(mask),
    )  # fmt: skip
