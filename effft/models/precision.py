"""bf16 or fp32: what the hardware does natively, and what a short probe of this model says is faster."""

import copy
import time
from typing import Any

import torch
from torch import Tensor, nn

from effft.distributed.process_group import process_group
from effft.models.backbone import Backbone
from effft.models.forward.partial_forward import block_input
from effft.models.probe_cache import cached_answer, cached_probe, machine_key

NARROW = 256
"""Hidden size below which fp32 is taken without a probe (at 128 bf16 lost by 1.5 on a CPU that has it)."""

GAIN = 1.25
"""How many times faster bf16 must be: well under what it gives where it pays (2 to 4), so noise does not flip it."""

PROBES = "precision.json"
"""Where answers are kept, see `models/remembered.py`."""

ROWS, LENGTH, REPEATS = 8, 32, 5
"""Size of the probe: one block on 256 tokens, forwards and backwards, the best of five."""


def native_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bf16 itself, as torch says."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    ask = getattr(torch.cpu, "get_capabilities", None)
    cached_answer = ask() if ask else {}
    return bool(cached_answer.get("avx512_bf16") or cached_answer.get("amx_bf16") or cached_answer.get("bf16"))


def choose_precision(asked: str, backbone: Backbone, threads: int) -> str:
    """'bf16' or 'fp32': as asked; for 'auto' what is faster here, remembered in a file so that it never flips."""
    if asked != "auto":
        return asked
    if backbone.spread:
        return "bf16" if next(backbone.model.parameters()).dtype == torch.bfloat16 else "fp32"
    device = process_group().device if process_group().sharded else backbone.device
    if backbone.width < NARROW or not native_bf16(device):
        return "fp32"
    if device.type == "cuda":
        return "bf16"
    faster = _remembered(backbone, threads) == "bf16"
    return "bf16" if process_group().first(float(faster)) else "fp32"  # each process would have its own opinion


def _remembered(backbone: Backbone, threads: int) -> str:
    if backbone.device.type == "meta":  # a skeleton cannot be probed; wide models were never slower where it is native
        return cached_answer(PROBES, machine_key(backbone, threads)) or "bf16"
    return cached_probe(
        PROBES,
        machine_key(backbone, threads),
        ("bf16", "fp32"),
        lambda: "bf16" if probe(backbone, threads) >= GAIN else "fp32",
    )


def probe(backbone: Backbone, threads: int) -> float:
    """Seconds of one block in fp32 over its seconds in bf16, forwards and backwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        ids = torch.ones((ROWS, LENGTH), dtype=torch.long, device=backbone.device)
        states, args, kwargs = block_input(backbone, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, 0)
        return _seconds(backbone, states, args, kwargs, torch.float32) / _seconds(
            backbone, states, args, kwargs, torch.bfloat16
        )
    finally:
        torch.set_num_threads(before)


def _seconds(backbone: Backbone, states: Tensor, args: Any, kwargs: Any, dtype: torch.dtype) -> float:
    block = copy.deepcopy(backbone.layout.blocks[0]).to(dtype)

    def cast(value: Any) -> Any:
        if isinstance(value, Tensor) and value.is_floating_point():
            return value.to(dtype)
        return tuple(map(cast, value)) if isinstance(value, tuple) else value

    args, kwargs = cast(tuple(args)), {name: cast(value) for name, value in kwargs.items()}
    best = float("inf")
    for _ in range(REPEATS):
        entering = states.to(dtype).detach().requires_grad_(True)
        start = time.perf_counter()
        with torch.enable_grad():
            out = block(entering, *args, **kwargs)
            (out[0] if isinstance(out, tuple) else out).sum().backward()
        best = min(best, time.perf_counter() - start)
    return best


def store_in_bf16(modules: nn.Module) -> dict[int, Tensor]:
    """Store every parameter in bf16, in place; id of a moving one -> what that rounding took from its fp32 values.

    Buffers (rotary frequencies) stay as they are.
    """
    remainders: dict[int, Tensor] = {}
    moving = [p for p in modules.parameters() if p.requires_grad]
    # one block, which the allocator gets from the system, so that its heap is left to what comes and goes
    device = moving[0].device if moving else None
    room = torch.empty(sum(p.numel() for p in moving), dtype=torch.int16, device=device)
    for parameter in modules.parameters():
        if not parameter.is_floating_point():  # stored in few bits
            continue
        exact = parameter.data
        parameter.data = exact.to(torch.bfloat16)
        if parameter.requires_grad:
            own, room = room.tensor_split([parameter.numel()])
            own = own.view(parameter.shape)
            remainders[id(parameter)] = own.copy_(remainder_of(exact.float(), parameter.data))
    return remainders


def remainder_of(exact: Tensor, rounded: Tensor) -> Tensor:
    """The low bits of fp32 values beside their bf16 rounding, int16: both together are the values, in as many bytes.

    There is one value too many for 16 bits: one just between two bf16 numbers comes back a unit of fp32's last place
    (6e-8 of it) lower or higher.
    """
    lost = exact.view(torch.int32) - (rounded.view(torch.int16).int() << 16)
    return lost.clamp_(max=(1 << 15) - 1).to(torch.int16)


def master_of(rounded: Tensor, remainder: Tensor) -> Tensor:
    """The fp32 values of a bf16 copy and what its rounding took."""
    return (rounded.view(torch.int16).int() << 16).add_(remainder).view(torch.float32)
