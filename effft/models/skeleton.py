"""A backbone without weights: every shape, no memory. `effft estimate` runs on it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from effft.models.backbone import Backbone, drop_unused, reader_of
from effft.models.conversion import explained
from effft.models.description import describe, max_positions
from effft.models.forward.sequence_packing import PackedSequences


class Skeleton(Backbone):
    """On torch's meta device.

    Models look at the values of a mask, and on this device there are none: decoders are given a 4-d mask (with
    positions, where they are all of the model), encoders no mask at all.
    """

    def _keywords(self, inputs: Mapping[str, Any], packing: PackedSequences | None) -> dict[str, Any]:
        if packing is None:
            inputs = {name: value for name, value in inputs.items() if name != "attention_mask"}
            inputs |= causal_mask(*inputs["input_ids"].shape) if self.decoder else {}
            if "decoder_input_ids" in inputs:
                mask = causal_mask(*inputs["decoder_input_ids"].shape)["attention_mask"]
                inputs |= {"decoder_attention_mask": mask}
        return super()._keywords(inputs, packing)


def causal_mask(rows: int, length: int) -> dict[str, Tensor]:
    """Causal mask and positions of unpadded rows."""
    mask = torch.ones((rows, 1, length, length), dtype=torch.bool, device="meta")
    return {"attention_mask": mask, "position_ids": torch.arange(length, device="meta").expand(rows, length)}


def skeleton(name: str, revision: str = "", need_lm_head: bool = False) -> Skeleton:
    """Build it from the configuration and the tokenizer alone; no weights are needed, read or downloaded.

    Raises:
        InputError: as `load`, or its code needs values.
    """
    import transformers

    known = describe(name, revision, need_lm_head)
    with torch.device("meta"):
        model = getattr(transformers, known.kind).from_config(known.config)
    drop_unused(model, need_lm_head)
    if need_lm_head and getattr(known.config, "scale_decoder_outputs", True) is False:  # T5 1.1: its files hold a head
        model.lm_head.weight = torch.nn.Parameter(torch.empty_like(model.lm_head.weight))
    reader_of(model).get_input_embeddings().padding_idx = None  # a sparse gradient would look for it by value
    model.eval().requires_grad_(False)
    with torch.no_grad(), explained(name, "no estimate can be made of its type", "`effft run` tells what it takes"):
        ids = torch.zeros((1, 1), dtype=torch.long, device="meta")
        mask = causal_mask(1, 1) if known.decoder else {}
        width = int(reader_of(model)(input_ids=ids, **mask).last_hidden_state.shape[-1])
    positions = max_positions(known.config)
    return Skeleton(
        name, "", model, known.tokenizer, known.decoder, need_lm_head, width, positions,
        decoder_start=known.decoder_start,
    )  # fmt: skip
