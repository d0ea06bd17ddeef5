"""LoRA adapters of several trials on one frozen backbone: the base products are made once for all rows of a pass.

The backbone is not changed: hooks stand on its linear maps while a pass of the pack runs.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from effft.models.backbone import Backbone
from effft.models.layout import is_linear, linear_paths
from effft.models.lora import ADAPTER, initial_lora_a
from effft.multi_adapter.batch import AdapterBatch, inside_model, parameter_dtype
from effft.multi_adapter.bias import Shift, there_of
from effft.multi_adapter.stacked_parameters import StackedParameters


class MultiAdapterLora:
    """The adapters (or biases) and heads of a pack, put on `backbone` (and on `head`) for the passes of `over`.

    adapters: names as a lone run's model gives them ('...q_proj.lora_A.default.weight', '...bias'); scales: alpha /
    rank of every trial; heads: 'head.linear.weight' and 'head.linear.bias', where there are heads.
    """

    def __init__(
        self, backbone: Backbone, adapters: StackedParameters, heads: StackedParameters, scales: Sequence[float]
    ) -> None:
        self.backbone, self.adapters, self.heads = backbone, adapters, heads
        self.scales = torch.tensor(scales, device=backbone.device).to(adapters.work.dtype).view(-1, 1, 1)
        inside = inside_model(backbone)
        known = adapters.parameters
        self.maps = {
            name.split(".lora_A.")[0].removeprefix(inside): _Pair(
                known[name], known[name.replace(".lora_A.", ".lora_B.")], adapters.sizes(name)
            )
            for name in known
            if ".lora_A." in name
        }
        self.biases = {
            name.removeprefix(inside).removesuffix(".bias"): known[name] for name in known if ".lora_" not in name
        }

    @contextmanager
    def over(self, rows: AdapterBatch, head: nn.Linear | None) -> Iterator[None]:
        """While open, a pass over these rows gives every row its trial's adapters and head."""
        with ExitStack() as stack:
            for path, pair in self.maps.items():
                hook = _Delta(rows, pair, self.scales)
                stack.callback(self.backbone.body.get_submodule(path).register_forward_hook(hook).remove)
            for path, bias in self.biases.items():
                shift = Shift(rows, bias, there_of(self.backbone, path))
                stack.callback(self.backbone.body.get_submodule(path).register_forward_hook(shift).remove)
            if head is not None:
                known = self.heads.parameters
                own = _Head(rows, known["head.linear.weight"], known["head.linear.bias"])
                stack.callback(head.register_forward_hook(own).remove)
            yield


class _Pair(NamedTuple):
    """LoRA's matrices of one map: down (trials, largest rank, inputs), up (trials, outputs, largest rank).

    ranks: each trial's own; 0 where it does not adapt this map.
    """

    down: Tensor
    up: Tensor
    ranks: list[int]


class _Delta:
    """Adds each row's own low-rank product to what a linear map gives."""

    def __init__(self, rows: AdapterBatch, pair: _Pair, scales: Tensor) -> None:
        self.rows, self.scales = rows, scales
        self.down, self.up, self.ranks = pair

    def __call__(self, _module: object, args: tuple[Any, ...], out: Tensor) -> Tensor:
        rows = self.rows
        spans = rows.spans_of(out.numel() // out.shape[-1])
        if spans is not None:
            return self._by_span(spans, args[0], out)
        low = torch.bmm(rows.together(args[0]), rows.of(self.down).mT) * rows.of(self.scales)
        up = rows.of(self.up).mT
        if rows.place is None:
            return torch.baddbmm(out.reshape(rows.trials, -1, out.shape[-1]), low, up).reshape(out.shape)
        return out + rows.apart(torch.bmm(low, up)).reshape(out.shape)

    def _by_span(self, spans: Sequence[tuple[int, int]], states: Tensor, out: Tensor) -> Tensor:
        """Trial by trial at its own rank: nothing is padded."""
        down, up = self.down.unbind(), self.up.unbind()
        sizes = [size for _, size in spans]
        own = states.reshape(-1, states.shape[-1]).split(sizes)  # type: ignore[no-untyped-call]
        base = out.reshape(-1, out.shape[-1]).split(sizes)  # type: ignore[no-untyped-call]
        parts = []
        for (at, _), given, plain in zip(spans, own, base, strict=True):
            rank, moved = self.ranks[at], plain
            if rank:
                moved = torch.addmm(plain, given @ down[at][:rank].mT * self.scales[at], up[at][:, :rank].mT)
            parts.append(moved)
        return torch.cat(parts).reshape(out.shape)


class _Head:
    """Puts each row's own classifier in the place of one."""

    def __init__(self, rows: AdapterBatch, weight: Tensor, bias: Tensor) -> None:
        self.rows, self.weight, self.bias = rows, weight, bias

    def __call__(self, _module: object, args: tuple[Any, ...], out: Tensor) -> Tensor:
        rows = self.rows
        weight, bias = rows.of(self.weight).mT, rows.of(self.bias).unsqueeze(1)
        return rows.apart(torch.baddbmm(bias, rows.together(args[0]), weight)).reshape(out.shape)


def can_share_passes(backbone: Backbone, which: str) -> bool:
    """Whether every adapted map sees all tokens of all rows; experts see some, so their rows are nobody's."""
    return not any("expert" in path for path in linear_paths(backbone.body, backbone.layout, which))


def new_adapter(backbone: Backbone, rank: int, which: str, generator: torch.Generator) -> dict[str, Tensor]:
    """The matrices that `add_lora` would put into the backbone, by the same names and from the same draws."""
    found: dict[str, Tensor] = {}
    inside = inside_model(backbone)
    for path in linear_paths(backbone.body, backbone.layout, which):
        module = backbone.body.get_submodule(path)
        assert is_linear(module)
        weight = backbone.body.get_parameter(f"{path}.weight")
        outputs, inputs = weight.shape if isinstance(module, nn.Linear) else weight.shape[::-1]
        made = {"A": initial_lora_a((rank, inputs), generator), "B": torch.zeros((outputs, rank))}
        for side, matrix in made.items():
            found[f"{inside}{path}.lora_{side}.{ADAPTER}.weight"] = matrix.to(
                weight.device, parameter_dtype(weight.dtype)
            )
    return found
