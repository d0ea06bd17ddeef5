"""The adapters of several members on one frozen backbone: forward hooks change each member's own rows."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from effft.models.backbone import Backbone
from effft.models.forward.sequence_packing import PackedSequences
from effft.models.layout import in_out_features, is_linear, linear_paths
from effft.models.lora import ADAPTER, initial_lora_a
from effft.strategies.parts import LoRA

Delta = Callable[[Tensor, Tensor], Tensor]
"""Input and output of a module at one member's rows, (rows, width) each -> the output with the member's adapter."""

Deltas = Mapping[nn.Module, Delta]
"""The modules that a member adapts."""


class AdapterBatch:
    """Which member each prompt of a pass belongs to; the prompts of a member are adjacent.

    owners: the member of each prompt. packing: the layout of packed prompts.
    """

    def __init__(self, owners: Sequence[int], packing: PackedSequences | None = None) -> None:
        prompts = Counter(owners)
        self.members, self.prompts, self.packing = list(prompts), list(prompts.values()), packing
        tokens = dict.fromkeys(self.members, 0)
        if packing is not None:
            for owner, length in zip(owners, packing.lengths, strict=True):
                tokens[owner] += length
        self.tokens = list(tokens.values())

    def sizes(self, rows: int) -> list[int]:
        """Rows of each member in a module's flattened output, whether a row is a prompt or a token.

        Filler goes to the last member: no loss depends on it.
        """
        if self.packing is not None:
            sizes = list(self.tokens if rows == self.packing.tokens else self.prompts)
        else:
            sizes = [count * (rows // sum(self.prompts)) for count in self.prompts]
        sizes[-1] += rows - sum(sizes)
        return sizes


@contextmanager
def adapters_on(members: Sequence[Deltas], batch: AdapterBatch) -> Iterator[None]:
    """While open, a pass over `batch` applies to every row the adapters of its member."""
    with ExitStack() as stack:
        for module in dict.fromkeys(module for deltas in members for module in deltas):
            hook = _Hook([members[member].get(module) for member in batch.members], batch)
            stack.callback(module.register_forward_hook(hook).remove)
        yield


class _Hook:
    """Applies to each member's rows its own delta, where it has one for this module."""

    def __init__(self, deltas: Sequence[Delta | None], batch: AdapterBatch) -> None:
        self.deltas, self.batch = deltas, batch

    def __call__(self, _module: object, args: tuple[Any, ...], output: Tensor) -> Tensor:
        outputs = output.reshape(-1, output.shape[-1])
        inputs = args[0].reshape(len(outputs), -1)
        sizes = self.batch.sizes(len(outputs))
        parts = zip(self.deltas, torch.split(inputs, sizes), torch.split(outputs, sizes), strict=True)
        return torch.cat([delta(i, o) if delta else o for delta, i, o in parts]).reshape(output.shape)


def new_lora(
    backbone: Backbone, part: LoRA, generator: torch.Generator
) -> tuple[dict[str, nn.Parameter], dict[nn.Module, Delta]]:
    """The parameters that `add_lora` would add, by the same names and from the same draws, and what they do."""
    parameters, deltas, prefix = dict[str, nn.Parameter](), dict[nn.Module, Delta](), _body_prefix(backbone)
    for path in linear_paths(backbone.body, backbone.layout, part.lora_modules):
        module = backbone.body.get_submodule(path)
        weight, (inputs, outputs) = module.get_parameter("weight"), in_out_features(module)
        a, b = initial_lora_a((part.rank, inputs), generator), torch.zeros((outputs, part.rank))
        pair = [nn.Parameter(matrix.to(weight.device, parameter_dtype(weight.dtype))) for matrix in (a, b)]
        deltas[module] = _lora_delta(pair[0], pair[1], part.alpha / part.rank)
        parameters |= {f"{prefix}{path}.lora_{side}.{ADAPTER}.weight": p for side, p in zip("AB", pair, strict=True)}
    return parameters, deltas


def new_biases(backbone: Backbone) -> tuple[dict[str, nn.Parameter], dict[nn.Module, Delta]]:
    """The parameters that BitFit would train, by the same names: the body's biases, or new zero ones without any."""
    parameters, deltas, prefix = dict[str, nn.Parameter](), dict[nn.Module, Delta](), _body_prefix(backbone)
    for path, module in _biased(backbone).items():
        frozen = module.bias.detach() if isinstance(module.bias, Tensor) else None
        start = module.get_parameter("weight").new_zeros(in_out_features(module)[1]) if frozen is None else frozen
        parameter = nn.Parameter(start.to(parameter_dtype(start.dtype), copy=True))
        deltas[module] = _bias_delta(parameter, frozen)
        parameters[f"{prefix}{path}.bias"] = parameter
    return parameters, deltas


def _lora_delta(a: Tensor, b: Tensor, scale: float) -> Delta:
    def add(inputs: Tensor, outputs: Tensor) -> Tensor:
        low = inputs @ a.to(inputs.dtype).mT * scale
        return torch.addmm(outputs, low, b.to(inputs.dtype).mT)

    return add


def _bias_delta(bias: Tensor, frozen: Tensor | None) -> Delta:
    def shift(_inputs: Tensor, outputs: Tensor) -> Tensor:
        moved = bias.to(outputs.dtype)
        return outputs + (moved if frozen is None else moved - frozen)

    return shift


def head_delta(weight: Tensor, bias: Tensor) -> Delta:
    """A member's own classifier in place of the one that ran."""
    return lambda inputs, _outputs: F.linear(inputs, weight, bias)


def _biased(backbone: Backbone) -> dict[str, nn.Module]:
    """The modules whose biases BitFit trains; the blocks' linear maps where no module has one."""
    body = backbone.body
    paths = [name.rpartition(".")[0] for name, _ in body.named_parameters() if name.endswith("bias")]
    paths = paths or [
        path for path in linear_paths(body, backbone.layout, "all") if isinstance(body.get_submodule(path), nn.Linear)
    ]
    return {path: body.get_submodule(path) for path in paths}


def can_share_lora(backbone: Backbone, which: str) -> bool:
    """Whether every adapted linear map sees all tokens of all rows; experts see some of them."""
    return not any("expert" in path for path in linear_paths(backbone.body, backbone.layout, which))


def can_share_biases(backbone: Backbone) -> bool:
    """Whether every bias is added to what its module returns, and every module sees all tokens of all rows."""
    return all(
        (is_linear(module) or isinstance(module, nn.LayerNorm)) and "expert" not in path
        for path, module in _biased(backbone).items()
    )


def _body_prefix(backbone: Backbone) -> str:
    """What the body's module names start with in the whole model: '' or, say, 'model.decoder.'."""
    path = next(name for name, module in backbone.model.named_modules() if module is backbone.body)
    return f"{path}." if path else ""


def parameter_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type in which trainable parameters are stored when the backbone computes in `dtype`."""
    return torch.float32 if dtype == torch.bfloat16 else dtype
