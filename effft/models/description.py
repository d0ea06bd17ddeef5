"""What is known of a model without its weights: whether there is one, its configuration and its tokenizer."""

from pathlib import Path
from typing import Any, NamedTuple

import torch

from effft.errors import InputError, nearest
from effft.models.device_map import is_device_map
from effft.models.pretrained import BUILT_IN, from_pretrained

POSITIONS_AFTER_PAD = ("roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "data2vec-text", "esm", "mpnet")
"""Model types whose position ids start after the id of the padding token."""


class ModelDescription(NamedTuple):
    """source: a folder or hub id. kind: the transformers class that builds the model."""

    source: str
    config: Any
    tokenizer: Any
    decoder: bool
    kind: str


def check_name(name: str) -> None:
    """Refuse what can be neither a built-in model, a folder nor a hub id, before anything is imported or downloaded.

    Raises:
        InputError: with the nearest built-in name, or what the folder lacks.
    """
    if name in BUILT_IN:
        if not (BUILT_IN[name] / "model.safetensors").is_file():
            raise InputError(
                f"model {name!r}: its weights are not in {BUILT_IN[name]}; make them with `python -m effft pretrain`."
            )
        return
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise InputError(f"model {name!r}: the folder has no config.json, so it is not a transformers model.")
        if not any(folder.glob("*.safetensors")):
            others = sorted(p.name for p in [*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")])
            why = f"only {', '.join(others)}, and pickle is never loaded" if others else "none"
            raise InputError(f"model {name!r}: weights must be safetensors; the folder has {why}.")
        return
    if folder.is_file():
        raise InputError(f"model {name!r} is a file; give the folder that holds config.json and *.safetensors.")
    looks_like_path = name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name
    if looks_like_path or not name.strip():
        raise InputError(f"model {name!r}: no such folder; give a local folder, a hub id, or {' or '.join(BUILT_IN)}.")
    if "/" not in name and (hint := nearest(name, BUILT_IN)):
        raise InputError(f"unknown model {name!r}.{hint} A hub id or a local folder works too.")


def describe(name: str, revision: str, need_lm_head: bool) -> ModelDescription:
    """Read configuration and tokenizer.

    Raises:
        InputError: no such model, no LM head, hub not reachable.
    """
    source = str(BUILT_IN.get(name, Path(name).expanduser() if Path(name).expanduser().is_dir() else name))
    config = from_pretrained("AutoConfig", source, name, revision)
    if getattr(config, "is_encoder_decoder", False):
        raise InputError(f"model {name!r} ({config.model_type}) is an encoder-decoder; take a decoder or an encoder.")
    decoder = _is_decoder(config)
    kind = ("AutoModelForCausalLM" if decoder else "AutoModelForMaskedLM") if need_lm_head else "AutoModel"
    if need_lm_head and not decoder and not _has_masked_lm_head(config):
        raise InputError(
            f"model {name!r} ({', '.join(config.architectures or ['?'])}) has no pre-trained language-modelling head, "
            "so it has no answer for a verbalizer; take vanilla, lora, adaptive, bitfit or probe."
        )
    return ModelDescription(source, config, from_pretrained("AutoTokenizer", source, name, revision), decoder, kind)


def _is_decoder(config: Any) -> bool:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as MASKED

    kind = config.model_type
    if kind in MASKED and kind in CAUSAL:  # BERT can be built as a decoder; its weights say what it is
        return any("CausalLM" in name or "LMHeadModel" in name for name in config.architectures or [])
    if kind not in MASKED and kind not in CAUSAL:
        raise InputError(f"model type {kind!r} is neither a decoder nor an encoder of text known to transformers.")
    return kind in CAUSAL


def _has_masked_lm_head(config: Any) -> bool:
    return any("MaskedLM" in name or "PreTraining" in name for name in config.architectures or [])


def max_positions(config: Any) -> int:
    """Most tokens the model can read, special tokens included."""
    positions = getattr(config, "max_position_embeddings", None)
    if not positions or positions < 0:
        return 1 << 30
    return int(positions) - (int(config.pad_token_id) + 1 if config.model_type in POSITIONS_AFTER_PAD else 0)


def resolve_device(device: str) -> torch.device:
    """'auto' is CUDA where there is one, else the CPU; with a device map, where inputs go.

    Raises:
        InputError: not a device, or not one of this machine.
    """
    if device == "auto" or is_device_map(device):
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        chosen = torch.device("meta")
    if chosen.type not in ("cpu", "cuda"):
        raise InputError(f"device={device}: must be auto, cpu, cuda, cuda:N or map (flag --device).")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device={device}: this machine has {torch.cuda.device_count()} CUDA devices (flag --device).")
    return chosen
