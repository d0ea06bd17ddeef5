"""A backbone without weights: every shape, no memory. What `effft estimate` runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from effft.models.backbone import Backbone, body_of, describe, drop_pooler, max_positions
from effft.models.forward.sequence_packing import PackedSequences


@dataclass
class Skeleton(Backbone):
    """On torch's meta device.

    Models look at the values of a mask, and here are none: decoders are given a ready one with positions (as
    `SharedStart` does), encoders none at all.
    """

    def hidden(
        self, inputs: Mapping[str, Any], close: PackedSequences | None = None, places: Tensor | None = None
    ) -> Tensor:
        """As in `Backbone`."""
        return super().hidden(inputs if close else self._ready(inputs), close, places)

    def answer_logits(
        self,
        inputs: Mapping[str, Any],
        answers: Tensor,
        rows: Tensor | None = None,
        close: PackedSequences | None = None,
        words: Tensor | None = None,
    ) -> Tensor:
        """As in `Backbone`."""
        return super().answer_logits(inputs if close else self._ready(inputs), answers, rows, close, words)

    def _ready(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        rest = {name: value for name, value in inputs.items() if name != "attention_mask"}
        return rest | (ready_mask(*rest["input_ids"].shape) if self.decoder else {})


def ready_mask(rows: int, length: int) -> dict[str, Tensor]:
    """Causal mask and positions of unpadded rows."""
    mask = torch.ones((rows, 1, length, length), dtype=torch.bool, device="meta")
    return {"attention_mask": mask, "position_ids": torch.arange(length, device="meta").expand(rows, length)}


def skeleton(name: str, revision: str = "", need_lm_head: bool = False) -> Skeleton:
    """From the configuration and the tokenizer alone; no weights are needed, read or downloaded.

    Raises:
        InputError: as `load`.
    """
    import transformers

    known = describe(name, revision, need_lm_head)
    with torch.device("meta"):
        model = getattr(transformers, known.kind).from_config(known.config)
    drop_pooler(model)
    model.get_input_embeddings().padding_idx = None  # a sparse gradient would look for it by value
    model.eval().requires_grad_(False)
    with torch.no_grad():
        ids = torch.zeros((1, 1), dtype=torch.long, device="meta")
        mask = ready_mask(1, 1) if known.decoder else {}
        width = int(body_of(model)(input_ids=ids, **mask).last_hidden_state.shape[-1])
    positions = max_positions(known.config)
    return Skeleton(name, "", model, known.tokenizer, known.decoder, need_lm_head, width, positions)
