"""Demonstrations chosen for each text: the nearest by the backbone's own states."""

from collections.abc import Sequence

import torch
from torch import Tensor

from effft.data.examples import Example
from effft.models.backbone import Backbone
from effft.models.heads import pool


class NearestDemonstrations:
    """For each text, the demonstrations most like it: cosine of the mean last hidden states, centred on the pool's.

    Every text is read alone, so that what is chosen for it depends on no other text.

    Args:
        backbone: the model that reads the prompts, frozen.
        demos: the demonstrations to choose from, in the order of `demo_order`.
        shots: how many are chosen.
        order: `nearest-last` puts the nearest right before the text; else the order of the pool stays.
        max_length: tokens of a text that are read.

    References:
        Liu et al. 2022, arXiv 2101.06804.
    """

    def __init__(self, backbone: Backbone, demos: Sequence[Example], shots: int, order: str, max_length: int) -> None:
        self.backbone, self.pool, self.shots, self.order = backbone, tuple(demos), shots, order
        self.max_length = min(max_length, backbone.max_positions)
        self._states: Tensor | None = None
        self._centre: Tensor | float = 0.0

    def __call__(self, texts: Sequence[str], leave_out: bool) -> tuple[Example, ...]:
        """The demonstrations for one example's texts, in order. leave_out: none with the same texts."""
        if self._states is None:
            states = torch.stack([self._state(example.texts) for example in self.pool])
            self._centre = states.mean(dim=0)
            self._states = torch.nn.functional.normalize(states - self._centre, dim=-1)
        nearness = self._states @ (self._state(texts) - self._centre)
        places = torch.argsort(nearness, descending=True, stable=True).tolist()
        chosen = [i for i in places if not leave_out or self.pool[i].texts != tuple(texts)][: self.shots]
        return tuple(self.pool[i] for i in (reversed(chosen) if self.order == "nearest-last" else sorted(chosen)))

    def _state(self, texts: Sequence[str]) -> Tensor:
        """The mean last hidden state over the tokens, (width), fp32; zeros of a model without weights."""
        if self.backbone.device.type == "meta":
            return torch.zeros(self.backbone.width)
        ids = self.backbone.tokenizer("\n".join(texts), verbose=False)["input_ids"][: self.max_length] or [0]
        row = torch.tensor([ids], device=self.backbone.device)
        with torch.inference_mode():
            states = self.backbone.hidden({"input_ids": row, "attention_mask": torch.ones_like(row)})
            return pool(states, torch.ones_like(row), "mean")[0].float().cpu()
