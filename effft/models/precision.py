"""bf16 or fp32: what the hardware does natively, and what a short probe of this model finds faster."""

import copy
import json
import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from effft.disk import cache_folder, read_text, written_whole
from effft.distributed.process_group import process_group
from effft.models.backbone import Backbone
from effft.models.forward.attention import NARROW
from effft.models.forward.partial_forward import block_input

GAIN = 1.25
"""How many times faster bf16 must be: well under what it gives where it pays (2 to 4), so noise does not decide."""

ROWS, LENGTH, REPEATS = 8, 32, 5
"""Size of the probe: one block on 256 tokens, forwards and backwards, the best of five."""


def native_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bf16 itself, according to torch."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return any(cpu_capabilities().get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def measured_speedup(backbone: Backbone, threads: int) -> float:
    """Seconds of one block in fp32 over its seconds in bf16, forwards and backwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        ids = torch.ones((ROWS, LENGTH), dtype=torch.long, device=backbone.device)
        states, args, kwargs = block_input(backbone, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, 0)
        fp32, bf16 = (_seconds(backbone, states, args, kwargs, dtype) for dtype in (torch.float32, torch.bfloat16))
        return fp32 / bf16
    finally:
        torch.set_num_threads(before)


def choose_precision(
    asked: str,
    backbone: Backbone,
    threads: int,
    native: Callable[[torch.device], bool] = native_bf16,
    speedup: Callable[[Backbone, int], float] = measured_speedup,
) -> str:
    """'bf16' or 'fp32': as asked; for 'auto' what is faster here, kept in a file so that the choice never changes."""
    if asked != "auto":
        return asked
    if backbone.has_device_map:
        return "bf16" if next(backbone.model.parameters()).dtype == torch.bfloat16 else "fp32"
    device = process_group().device if process_group().sharded else backbone.device
    if backbone.width < NARROW or not native(device):
        return "fp32"
    if device.type == "cuda":
        return "bf16"
    key = machine_key(backbone, threads)
    if backbone.device.type == "meta":  # a skeleton cannot be probed; wide models were never slower in native bf16
        faster = cached_answers().get(key, "bf16")
    else:
        faster = cached_probe(key, lambda: "bf16" if speedup(backbone, threads) >= GAIN else "fp32")
    # every process would measure for itself, so all take the first one's answer
    return "bf16" if process_group().from_first_process(float(faster == "bf16")) else "fp32"


def cached_probe(key: str, probe: Callable[[], str]) -> str:
    """The answer kept for this key; where there is none, `probe` is asked and its answer kept."""
    answers, path = cached_answers(), probe_file()
    if key not in answers:
        answers[key] = probe()
        with suppress(OSError):  # a home that cannot be written costs one probe in every run
            path.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(path) as new:
                new.write_text(json.dumps(answers, indent=1))
    return answers[key]


def cached_answers() -> dict[str, str]:
    """What earlier probes answered, by key."""
    with suppress(OSError, ValueError):
        answers = json.loads(read_text(probe_file(), "file"))
        if isinstance(answers, dict):
            return answers
    return {}


def probe_file() -> Path:
    """Where the answers are kept; after it is deleted the machine is probed again."""
    return cache_folder() / "precision.json"


def machine_key(backbone: Backbone, threads: int) -> str:
    """This machine and this kind of model."""
    block = backbone.layout.blocks[0]
    size = sum(p.numel() for p in block.parameters())
    machine = f"{platform.machine()} {cpu_capabilities().get('cpu_name', '')} {os.cpu_count()}"
    return f"{machine}, torch {torch.__version__}, {threads} threads, {type(block).__name__} {backbone.width} {size}"


def cpu_capabilities() -> dict[str, object]:
    """What torch knows of this CPU; {} before torch 2.10."""
    ask = getattr(torch.cpu, "get_capabilities", None)
    return dict(ask()) if ask else {}


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
    """Store every parameter in bf16, in place. Buffers (rotary frequencies) stay as they are.

    Returns:
        For each trainable parameter, by its id, what rounding took from its fp32 values (see `remainder_of`).
    """
    remainders: dict[int, Tensor] = {}
    trainable = [p for p in modules.parameters() if p.requires_grad]
    # one block, so that the allocator maps it from the system and its heap is left to short-lived tensors
    device = trainable[0].device if trainable else None
    block = torch.empty(sum(p.numel() for p in trainable), dtype=torch.int16, device=device)
    for parameter in modules.parameters():
        if not parameter.is_floating_point():  # quantized
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
