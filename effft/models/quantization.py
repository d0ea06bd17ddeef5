"""A frozen backbone whose linear maps are stored in 4 or 8 bits, through bitsandbytes."""

from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from effft.distributed.process_group import process_group
from effft.errors import InputError

FLAGS = {"nf4": "is_loaded_in_4bit", "int8": "is_loaded_in_8bit"}
"""Value of `quantize` -> the attribute by which transformers and peft know such a model."""


def check_quantize(how: str, strategy: str, frozen: bool, device: torch.device, saves: bool) -> None:
    """frozen: no parameter that the backbone came with moves; saves: the model is to be kept.

    Raises:
        InputError: the strategy, the device, the installation or the launcher is not for it.
    """
    if how == "none":
        return
    said = f"quantize={how}"
    if not frozen:
        raise InputError(
            f"{said}: strategy {strategy!r} moves parameters of the backbone, and in few bits they cannot move; take "
            "lora, probe, context_distillation, icl or zero_shot, or leave --quantize out."
        )
    if process_group().sharded:
        raise InputError(f"{said}: not together with FSDP2; take deploy/accelerate/ddp.yaml, or leave --quantize out.")
    if saves:
        raise InputError(f"{said}: a saved model stands on the whole backbone; leave --log-model or --quantize out.")
    if device.type != "cuda":
        raise InputError(f"{said}: needs a CUDA device, and this run is on {device.type}; leave --quantize out.")
    if find_spec("bitsandbytes") is None:
        raise InputError(f"{said}: bitsandbytes is not installed; `pip install '.[big]'`, or leave --quantize out.")


def quantized_options(how: str, device: torch.device) -> dict[str, Any]:
    """What `from_pretrained` is given. Products are bf16 where the device has it; the weights go there at once."""
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


def mark(body: nn.Module, how: str) -> None:
    """Let peft know the body by itself, as it knows the model around it."""
    if how in FLAGS:
        setattr(body, FLAGS[how], True)


def elements(parameter: torch.Tensor) -> int:
    """Numbers that a parameter stands for; several share a byte in 4 bits."""
    state = getattr(parameter, "quant_state", None)
    return int(state.shape.numel()) if state is not None else parameter.numel()
