"""LoRA adapters, through peft (this is the only file that imports it)."""

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from effft.models.backbone import Backbone
from effft.models.layout import linear_paths

ADAPTER = "default"
"""The name peft gives to an adapter that has none."""

ADAPTER_FILE, PEFT_PREFIX = "adapter_model.safetensors", "base_model.model."


def add_lora(
    backbone: Backbone, rank: int, alpha: float, dropout: float, which: str, generator: torch.Generator
) -> list[nn.Parameter]:
    """Add LoRA deltas to the backbone's linear maps, in place; return the new parameters.

    B starts at zero, so the model starts equal to the backbone; A is drawn from `generator` (Kaiming uniform, as
    peft does). Scale alpha / rank (Hu et al. 2021, arXiv 2106.09685, section 4.1).
    """
    from peft import LoraConfig, inject_adapter_in_model

    body = backbone.body
    paths = linear_paths(body, backbone.layout, which)
    before = {id(p) for p in body.parameters()}
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=paths, bias="none")
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.filterwarnings("ignore", message="fan_in_fan_out")
        inject_adapter_in_model(config, body)
    added = [p for p in body.parameters() if id(p) not in before]
    for parameter in added:
        if parameter.dtype == torch.bfloat16 and not backbone.has_device_map:
            parameter.data = parameter.data.float()  # the draws are those of an fp32 backbone
    for name, module in body.named_modules():
        if name.endswith("lora_A.default"):
            with torch.no_grad():
                bound = (1.0 / module.weight.shape[1]) ** 0.5  # kaiming_uniform_ with a = sqrt(5)
                module.weight.copy_(torch.empty(module.weight.shape).uniform_(-bound, bound, generator=generator))
    return added


def save_adapter(folder: Path, weights: Mapping[str, torch.Tensor], settings: Mapping[str, object]) -> None:
    """Write LoRA matrices in peft's own format, so that `PeftModel.from_pretrained` loads them.

    Args:
        folder: made where it does not exist.
        weights: by names within the whole model, as `named_parameters` gives them ('...q_proj.lora_A.default.weight').
        settings: rank, alpha and so on, by the names of `peft.LoraConfig`.
    """
    from peft import LoraConfig
    from safetensors.torch import save_file

    targets = sorted({name.split(".lora_A.")[0] for name in weights if ".lora_A." in name})
    config = LoraConfig(**settings, target_modules=targets, bias="none", inference_mode=True)
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(str(folder))
    renamed = {PEFT_PREFIX + name.replace(f".{ADAPTER}.", "."): tensor for name, tensor in weights.items()}
    save_file(renamed, folder / ADAPTER_FILE, metadata={"format": "pt"})


def read_adapter(folder: Path) -> dict[str, torch.Tensor]:
    """Read what `save_adapter` wrote, by the names of `named_parameters`."""
    from safetensors.torch import load_file

    return {
        name.removeprefix(PEFT_PREFIX).replace(".weight", f".{ADAPTER}.weight"): tensor
        for name, tensor in load_file(folder / ADAPTER_FILE).items()
    }


def merge_lora(body: nn.Module) -> None:
    """Add every LoRA delta to the weights of its linear map, in place, and remove the adapters."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for path, module in list(body.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            parent, _, name = path.rpartition(".")
            setattr(body.get_submodule(parent) if parent else body, name, module.get_base_layer())
