"""BitFit's biases of several trials on one frozen backbone: each row is shifted by what its trial's bias has moved."""

from typing import Any

import torch
from torch import Tensor, nn

from effft.models.backbone import Backbone
from effft.models.layout import is_linear, linear_paths
from effft.multi_adapter.batch import AdapterBatch, inside_model, parameter_dtype


class Shift:
    """A forward hook that adds each row's own bias less the one that is there."""

    def __init__(self, rows: AdapterBatch, own: Tensor, there: Tensor | None) -> None:
        self.rows, self.own, self.there = rows, own, there

    def __call__(self, _module: object, _args: tuple[Any, ...], out: Tensor) -> Tensor:
        """What the module gives, shifted."""
        moved = self.own if self.there is None else self.own - self.there
        spans = self.rows.spans_of(out.numel() // out.shape[-1])
        if spans is not None:
            each = moved.unbind()
            parts = [each[at].expand(size, -1) for at, size in spans]
            return out + torch.cat(parts).reshape(out.shape)
        shifted: Tensor = out.reshape(self.rows.count, -1, out.shape[-1]) + moved[self.rows.owners].unsqueeze(1)
        return shifted.reshape(out.shape)


def biases_of(backbone: Backbone) -> dict[str, Tensor]:
    """What BitFit would move, by the names of a lone run: the body's biases, or zeros where it has none."""
    inside, body = inside_model(backbone), backbone.body
    there = {n: p.detach() for n, p in body.named_parameters() if n.endswith("bias")}
    if not there:
        maps = {path: body.get_submodule(path) for path in linear_paths(body, backbone.layout, "all")}
        there = {
            f"{path}.bias": module.weight.new_zeros(module.out_features)
            for path, module in maps.items()
            if isinstance(module, nn.Linear)
        }
    return {inside + name: bias.to(parameter_dtype(bias.dtype), copy=True) for name, bias in there.items()}


def can_shift(backbone: Backbone) -> bool:
    """Whether every bias is added to what its module gives, and every module sees all tokens of all rows."""
    names = [name.removeprefix(inside_model(backbone)) for name in biases_of(backbone)]
    owners = [(name, backbone.body.get_submodule(name.rpartition(".")[0])) for name in names]
    return all(
        (is_linear(module) or isinstance(module, nn.LayerNorm)) and "expert" not in name for name, module in owners
    )


def there_of(backbone: Backbone, path: str) -> Tensor | None:
    """The bias that a module has."""
    found = backbone.body.get_submodule(path).bias
    return found.detach() if isinstance(found, torch.Tensor) else None
