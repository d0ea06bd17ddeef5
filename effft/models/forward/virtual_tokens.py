"""Virtual tokens before every text: trained embeddings, or trained keys and values of every block."""

from typing import Any

import torch
from torch import nn


class VirtualTokens:
    """Hooks on a body, as peft's own models read virtual tokens; what the body returns covers the text alone.

    Args:
        body: the transformer.
        source: peft's model; its `get_prompt` gives the embeddings (rows, count, width), or a cache.
        count: virtual tokens.
        keys: whether they are keys and values.

    Attributes:
        active: False leaves the body as it was.
    """

    def __init__(self, body: nn.Module, source: Any, count: int, keys: bool) -> None:
        self.source, self.count, self.keys, self.active = source, count, keys, True
        body.register_forward_pre_hook(self._enter, with_kwargs=True)
        body.register_forward_hook(self._leave)

    def _enter(self, body: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        if not self.active:
            return args, kwargs
        ids = args[0] if args else kwargs.pop("input_ids")
        mask = kwargs.get("attention_mask")
        mask = torch.ones_like(ids) if mask is None else mask
        kwargs["attention_mask"] = torch.cat([mask.new_ones((len(ids), self.count)), mask], dim=1)
        if kwargs.get("token_type_ids") is not None:
            kwargs["token_type_ids"] = None  # as in peft
        embeddings = body.get_input_embeddings()
        prompt = self.source.get_prompt(len(ids))
        if self.keys:
            return (), {**kwargs, "input_ids": ids, "past_key_values": prompt}
        texts = embeddings(ids)
        return (), {**kwargs, "inputs_embeds": torch.cat([prompt.to(texts.dtype), texts], dim=1)}

    def _leave(self, _body: object, _args: object, output: Any) -> Any:
        if self.active and not self.keys:
            output.last_hidden_state = output.last_hidden_state[:, self.count :]
        return output
