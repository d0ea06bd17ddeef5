"""LoRA adapters, through peft (this is the only file that imports it)."""

import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from effft.errors import InputError
from effft.models.conversion import explained, made_once, save_made, small_files

ADAPTER = "default"
"""The name peft gives to an adapter that has none."""

ADAPTER_FILE, PEFT_PREFIX = "adapter_model.safetensors", "base_model.model."


def add_lora(
    body: nn.Module, paths: Sequence[str], rank: int, alpha: float, dropout: float, generator: torch.Generator
) -> list[nn.Parameter]:
    """Add LoRA deltas to the linear maps at `paths` of the body, in place; return the new parameters.

    B starts at zero, so the model starts equal to the backbone; A is drawn from `generator` (Kaiming uniform, as
    peft does). Scale alpha / rank (Hu et al. 2021, arXiv 2106.09685, section 4.1).
    """
    from peft import LoraConfig, inject_adapter_in_model

    before = {id(p) for p in body.parameters()}
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=list(paths), bias="none")
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.filterwarnings("ignore", message="fan_in_fan_out")
        inject_adapter_in_model(config, body)
    added = [p for p in body.parameters() if id(p) not in before]
    for parameter in added:
        if parameter.dtype == torch.bfloat16:
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


def merged(name: str, adapter: Path, base: Path) -> Path:
    """The folder of a base whose weights have an adapter of peft's added; made once and found again.

    Args:
        name: The adapter as the user gave it, for messages.
        adapter: Its folder, with safetensors.
        base: The folder of its base, with safetensors.

    Raises:
        InputError: The adapter cannot be added to this base.
        MemoryShortError: There is no memory for it.
        RunError: The cache cannot be written.
    """
    own = [path for path in small_files(adapter) if path.name not in ("adapter_config.json", "config.json")]
    small = [path for path in small_files(base) if not path.name.endswith(".index.json")]
    if has_tokenizer(adapter):
        small = [path for path in small if path.name in ("config.json", "generation_config.json")] + own

    def write(new: Path) -> None:
        path = adapter / ADAPTER_FILE
        with explained(name, f"{path} cannot be read", "fetch it again"), safe_open(path, framework="pt") as file:
            keys = set(file.keys())
        remedy = f"see that {adapter / 'adapter_config.json'} names the base that it was trained on"
        with explained(name, f"this adapter cannot be added to its base in {base}", remedy):
            model, missing = _merge(name, adapter, base, keys)
        save_made(name, model, new, missing)

    sources = [adapter / "adapter_config.json", adapter / ADAPTER_FILE, *sorted(base.glob("*.safetensors"))]
    return made_once(name, small, sources, write)


def has_tokenizer(folder: Path) -> bool:
    """Whether a tokenizer lies in it."""
    return any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json"))


def _merge(name: str, adapter: Path, base: Path, keys: Collection[str]) -> tuple[Any, Collection[str]]:
    """The base with the adapter in its weights, and the names of weights that the base's own files lack."""
    import transformers
    from peft import PeftConfig, PeftModel, get_peft_model_state_dict

    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    kinds = transformers.AutoConfig.from_pretrained(base, **options).architectures or [""]  # nosec B615 # on disk
    kind = getattr(transformers, kinds[0], transformers.AutoModel)
    options |= {"dtype": torch.float32, "output_loading_info": True, "use_safetensors": True}
    model, report = kind.from_pretrained(base, **options)
    config = PeftConfig.from_pretrained(str(adapter))
    if config.is_prompt_learning:
        raise InputError(
            f"model {name!r}: an adapter of type {config.peft_type.value} changes no weights, so it cannot be part of "
            "a model; take one of LoRA, or the base alone."
        )
    names = {path.rpartition(".")[2] for path, _ in model.named_modules()}
    unused = {part for part in ("pooler", *(config.modules_to_save or ())) if part not in names}  # a classifier's own
    wanted = {key for key in keys if unused.isdisjoint(key.split("."))}
    places = (model, model.base_model, nn.ModuleDict({model.base_model_prefix: model}))  # trained with a head, without
    place = next((part for part in places if _fits(part, [key.removeprefix(PEFT_PREFIX) for key in wanted])), None)
    if place is None:
        raise ValueError("its names of weights are those of another architecture")
    config.task_type, config.modules_to_save = None, sorted(set(config.modules_to_save or ()) - unused) or None
    with warnings.catch_warnings(action="ignore"):  # of the heads left out, and of layouts that peft handles
        adapted = PeftModel.from_pretrained(place, str(adapter), config=config)
        absent = wanted - get_peft_model_state_dict(adapted, save_embedding_layers=False).keys()
        if absent:
            raise ValueError(f"its settings have no place for {min(absent)}")
        adapted.merge_and_unload()
    return model, report["missing_keys"]


def _fits(model: nn.Module, paths: Iterable[str]) -> bool:
    """Whether every path leads into a module of the model that has no modules of its own."""
    leaves = {path for path, module in model.named_modules() if not any(True for _ in module.children())}
    return all(not leaves.isdisjoint(accumulate(path.split("."), "{}.{}".format)) for path in paths)
