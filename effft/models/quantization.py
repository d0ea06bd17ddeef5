"""Frozen backbones with linear maps in 4 or 8 bits, through bitsandbytes."""

from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from effft.distributed.process_group import process_group
from effft.errors import InputError

FLAGS = {"nf4": "is_loaded_in_4bit", "int8": "is_loaded_in_8bit"}
"""Value of `quantize` -> the attribute by which transformers and peft recognise such a model."""


def check_quantize(how: str, strategy: str, frozen: bool, device: torch.device) -> None:
    """Check that a run can use a quantized backbone.

    Args:
        how: 'none', 'nf4' or 'int8'.
        strategy: for messages.
        frozen: whether every pre-trained parameter is frozen.
        device: of the run.

    Raises:
        InputError: the strategy, the device, the installation or the launcher does not allow it.
    """
    if how == "none":
        return
    problem = ""
    if not frozen:
        problem = f"strategy {strategy!r} trains parameters of the backbone, and quantized ones cannot train; "
        problem += "take lora, probe, context_distillation, icl or zero_shot, or"
    elif process_group().sharded:
        problem = "not together with FSDP2; take deploy/accelerate/ddp.yaml, or"
    elif device.type != "cuda":
        problem = f"needs a CUDA device, and this run is on {device.type};"
    elif find_spec("bitsandbytes") is None:
        problem = "bitsandbytes is not installed; `pip install '.[big]'`, or"
    if problem:
        raise InputError(f"quantize={how}: {problem} leave --quantize out.")


def quantization_options(how: str, device: torch.device) -> dict[str, Any]:
    """Keywords for `from_pretrained`. Products are bf16 where the device supports it."""
    if how == "none":
        return {}
    from transformers import BitsAndBytesConfig

    if how == "int8":
        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True), "device_map": {"": device}}
    native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if native else torch.float32,
    )
    return {"quantization_config": config, "device_map": {"": device}}


def mark_quantized(body: nn.Module, how: str) -> None:
    """Set on the body the attribute by which peft recognises the quantized model around it."""
    if how in FLAGS:
        setattr(body, FLAGS[how], True)


def elements(parameter: torch.Tensor) -> int:
    """Number of values a parameter stands for; in 4 bits two of them share a byte."""
    state = getattr(parameter, "quant_state", None)
    return int(state.shape.numel()) if state is not None else parameter.numel()
