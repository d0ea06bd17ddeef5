"""bf16 or fp32: what the hardware does natively; bf16 copies of fp32 weights."""

from collections.abc import Callable, Collection

import torch
from torch import Tensor, nn

from effft.distributed.process_group import process_group
from effft.models.backbone import Backbone
from effft.models.forward.attention import NARROW
from effft.progress import say_once


def native_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bf16 itself, according to torch (of a CPU, it says so from torch 2.10 on)."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    ask = getattr(torch.cpu, "get_capabilities", None)
    return ask is not None and any(ask().get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def choose_precision(precision: str, backbone: Backbone, native: Callable[[torch.device], bool] = native_bf16) -> str:
    """'bf16' or 'fp32': as asked; for 'auto' bf16 where the hardware multiplies it natively and the model is wide."""
    if precision != "auto":
        if precision == "bf16" and not native(backbone.device):
            _tell_emulated(backbone.device.type)
        return precision
    if backbone.has_device_map:
        return "bf16" if next(backbone.model.parameters()).dtype == torch.bfloat16 else "fp32"
    device = process_group().device if process_group().sharded else backbone.device
    faster = backbone.width >= NARROW and native(device)
    # the processes of a run may be on different machines, so all take the first one's answer
    return "bf16" if process_group().from_first_process(float(faster)) else "fp32"


def _tell_emulated(device: str) -> None:
    say_once(
        f"precision=bf16: this {device} has no bf16 arithmetic and emulates it, at up to a hundred times the time; "
        "leave precision out, in the study's file as well, for what the hardware is good at, or take fp32."
    )


def store_in_bf16(modules: nn.Module, kept: Collection[int] = ()) -> dict[int, Tensor]:
    """Store every parameter in bf16, in place. Buffers (rotary frequencies) stay as they are.

    Args:
        modules: the model.
        kept: ids of parameters that stay as they are.

    Returns:
        For each trainable parameter, by its id, what rounding took from its fp32 values (see `remainder_of`).
    """
    remainders: dict[int, Tensor] = {}
    trainable = [p for p in modules.parameters() if p.requires_grad and id(p) not in kept]
    # one block, so that the allocator maps it from the system and its heap is left to short-lived tensors
    device = trainable[0].device if trainable else None
    block = torch.empty(sum(p.numel() for p in trainable), dtype=torch.int16, device=device)
    for parameter in modules.parameters():
        if not parameter.is_floating_point() or id(parameter) in kept:  # quantized
            continue
        exact = parameter.data
        parameter.data = exact.to(torch.bfloat16)
        if parameter.requires_grad:
            remainder, block = block.tensor_split([parameter.numel()])
            remainder = remainder.view(parameter.shape)
            remainders[id(parameter)] = remainder.copy_(remainder_of(exact.float(), parameter.data))
    return remainders


def remainder_of(exact: Tensor, rounded: Tensor) -> Tensor:
    """What rounding fp32 values to bf16 took away, as int16: both together are the values, in as many bytes.

    Exact but for one case, which 16 bits cannot hold: a value halfway between two bf16 numbers comes back off by one
    unit in fp32's last place (6e-8 of it).
    """
    lost = exact.view(torch.int32) - (rounded.view(torch.int16).int() << 16)
    return lost.clamp_(max=(1 << 15) - 1).to(torch.int16)


def master_of(rounded: Tensor, remainder: Tensor) -> Tensor:
    """The fp32 values, from their bf16 rounding and its remainder."""
    return (rounded.view(torch.int16).int() << 16).add_(remainder).view(torch.float32)
