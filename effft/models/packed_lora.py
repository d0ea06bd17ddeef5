"""LoRA adapters of several trials on one frozen backbone: the base products are made once for all rows of a batch.

The backbone is not changed: hooks stand on its linear maps while a pass of the pack runs.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from effft.models.backbone import Backbone
from effft.models.blocks import linear_paths
from effft.models.lora import ADAPTER, drawn_down
from effft.models.stacked import Stacked


class Rows:
    """Whose the rows of a batch are: `owners[i]` is the trial of row i, and a trial's rows stand together.

    Trials with fewer rows than another are filled up with zeros for the products of the adapters alone.
    """

    def __init__(self, owners: Sequence[int], trials: int, device: torch.device) -> None:
        counts = Counter(owners)
        self.count, self.trials, self.most = len(owners), len(counts), max(counts.values())
        self.present = None if len(counts) == trials else torch.tensor(list(counts), device=device)
        self.place: Tensor | None = None
        if len(set(counts.values())) > 1:
            places = [at * self.most + i for at, n in enumerate(counts.values()) for i in range(n)]
            self.place = torch.tensor(places, device=device)
        self._last: tuple[Tensor, Tensor] | None = None

    def of(self, stacked: Tensor) -> Tensor:
        """The trials that have rows here, of (trials, ...)."""
        return stacked if self.present is None else stacked.index_select(0, self.present)

    def together(self, states: Tensor) -> Tensor:
        """(rows, ..., width), or the same with its rows and tokens in one axis, as (trials, tokens, width)."""
        if self._last is None or self._last[0] is not states:  # query, key and value read the same states
            self._last = (states, self._together(states))
        return self._last[1]

    def _together(self, states: Tensor) -> Tensor:
        width = states.shape[-1]
        wide = states.reshape(self.count, -1, width)
        if self.place is not None:
            empty = wide.new_zeros((self.trials * self.most, *wide.shape[1:]))
            wide = empty.index_copy(0, self.place, wide)
        return wide.reshape(self.trials, -1, width)

    def apart(self, states: Tensor) -> Tensor:
        """(trials, tokens, width) as (rows, tokens of a row, width)."""
        wide = states.reshape(self.trials * self.most, -1, states.shape[-1])
        return wide if self.place is None else wide.index_select(0, self.place)


class PackedLora:
    """The adapters and heads of a pack, put on `backbone` (and on `head`) for the passes of `over`.

    adapters: names as a lone run's model gives them ('...q_proj.lora_A.default.weight'); scales: alpha / rank of every
    trial; heads: 'head.linear.weight' and 'head.linear.bias', where there are heads.
    """

    def __init__(self, backbone: Backbone, adapters: Stacked, heads: Stacked, scales: Sequence[float]) -> None:
        self.backbone, self.adapters, self.heads = backbone, adapters, heads
        self.scales = torch.tensor(scales, device=backbone.device).to(adapters.work.dtype).view(-1, 1, 1)
        inside = inside_model(backbone)
        known = adapters.parameters
        self.maps = {
            name.split(".lora_A.")[0].removeprefix(inside): (known[name], known[name.replace(".lora_A.", ".lora_B.")])
            for name in known
            if ".lora_A." in name
        }

    @contextmanager
    def over(self, rows: Rows, head: nn.Linear | None) -> Iterator[None]:
        """While open, a pass over these rows gives every row its trial's adapters and head."""
        with ExitStack() as stack:
            for path, pair in self.maps.items():
                hook = _Delta(rows, *pair, self.scales)
                stack.callback(self.backbone.body.get_submodule(path).register_forward_hook(hook).remove)
            if head is not None:
                known = self.heads.parameters
                own = _Head(rows, known["head.linear.weight"], known["head.linear.bias"])
                stack.callback(head.register_forward_hook(own).remove)
            yield


class _Delta:
    """Adds each row's own low-rank product to what a linear map gives."""

    def __init__(self, rows: Rows, down: Tensor, up: Tensor, scales: Tensor) -> None:
        self.rows, self.down, self.up, self.scales = rows, down, up, scales

    def __call__(self, _module: object, args: tuple[Any, ...], out: Tensor) -> Tensor:
        rows = self.rows
        low = torch.bmm(rows.together(args[0]), rows.of(self.down).mT) * rows.of(self.scales)
        up = rows.of(self.up).mT
        if rows.place is None:
            return torch.baddbmm(out.reshape(rows.trials, -1, out.shape[-1]), low, up).reshape(out.shape)
        return out + rows.apart(torch.bmm(low, up)).reshape(out.shape)


class _Head:
    """Puts each row's own classifier in the place of one."""

    def __init__(self, rows: Rows, weight: Tensor, bias: Tensor) -> None:
        self.rows, self.weight, self.bias = rows, weight, bias

    def __call__(self, _module: object, args: tuple[Any, ...], out: Tensor) -> Tensor:
        rows = self.rows
        weight, bias = rows.of(self.weight).mT, rows.of(self.bias).unsqueeze(1)
        return rows.apart(torch.baddbmm(bias, rows.together(args[0]), weight)).reshape(out.shape)


def inside_model(backbone: Backbone) -> str:
    """What the name of a module of the body starts with in the whole model: '' or 'model.decoder.'."""
    path = next(name for name, module in backbone.model.named_modules() if module is backbone.body)
    return f"{path}." if path else ""


def can_pack(backbone: Backbone, which: str) -> bool:
    """Whether every adapted map sees all tokens of all rows; experts see some, so their rows are nobody's."""
    return not any("expert" in path for path in linear_paths(backbone.body, backbone.anatomy, which))


def new_adapter(backbone: Backbone, rank: int, which: str, generator: torch.Generator) -> dict[str, Tensor]:
    """The matrices that `add_lora` would put into the backbone, by the same names and from the same draws."""
    from effft.models.blocks import is_linear

    found: dict[str, Tensor] = {}
    inside = inside_model(backbone)
    for path in linear_paths(backbone.body, backbone.anatomy, which):
        module = backbone.body.get_submodule(path)
        assert is_linear(module)
        weight = backbone.body.get_parameter(f"{path}.weight")
        outputs, inputs = weight.shape if isinstance(module, nn.Linear) else weight.shape[::-1]
        made = {"A": drawn_down((rank, inputs), generator), "B": torch.zeros((outputs, rank))}
        for side, matrix in made.items():
            found[f"{inside}{path}.lora_{side}.{ADAPTER}.weight"] = matrix.to(weight.device, _wide(weight.dtype))
    return found


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype == torch.bfloat16 else dtype


def bytes_of(weights: Mapping[str, Tensor]) -> int:
    """What a trial of these parameters adds to a pack: values, gradient, and two means."""
    return 4 * sum(weight.numel() * weight.element_size() for weight in weights.values())
