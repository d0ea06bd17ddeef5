"""GGUF files: one file with configuration, tokenizer and quantized weights, made once into a folder of safetensors."""

import contextlib
import io
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from effft.errors import InputError
from effft.models.conversion import explained, made_once, save_made
from effft.progress import say


def check_installed(name: str) -> None:
    """Refuse a GGUF file that cannot be read here.

    Raises:
        InputError: the package for it is not installed.
    """
    if find_spec("gguf") is None:
        raise InputError(f"model {name!r}: a GGUF file needs the package gguf; `pip install '.[gguf]'`.")


def converted(name: str, path: Path) -> Path:
    """A folder with the configuration, the tokenizer and the weights of a GGUF file, de-quantized to fp32.

    Args:
        name: The model as the user gave it, for messages.
        path: The file.

    Raises:
        InputError: It cannot be read, or holds no decoder.
        MemoryShortError: There is no memory for it.
        RunError: The cache cannot be written.
    """
    check_installed(name)

    def write(new: Path) -> None:
        say(f"{name}: converted once from {path.name} to fp32 safetensors, which takes a minute or more")
        with explained(name, "this GGUF file cannot be loaded", "fetch it again, or take another model"):
            model, tokenizer = _read(name, path)
        save_made(name, model, new)
        tokenizer.save_pretrained(new)

    return made_once(name, [], [path], write)


def _read(name: str, path: Path) -> tuple[Any, Any]:
    """The model, with a configuration that says nothing of bits, and its tokenizer."""
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    place: dict[str, Any] = {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name}
    place |= {"local_files_only": True, "trust_remote_code": False}
    config = transformers.AutoConfig.from_pretrained(**place)  # nosec B615 # a file on disk
    if config.model_type not in CAUSAL or config.is_encoder_decoder:
        raise InputError(f"model {name!r} ({config.model_type}): only decoders are read from GGUF files.")
    options = {"dtype": torch.float32, "output_loading_info": True}
    with contextlib.redirect_stderr(io.StringIO()):  # a bar of progress that has no switch
        model, report = transformers.AutoModelForCausalLM.from_pretrained(**place, **options)  # nosec B615
    if missing := report["missing_keys"]:
        raise InputError(
            f"model {name!r}: its weights lack {min(missing)}, which would be random; fetch it again, whole."
        )
    with torch.device("meta"):  # transformers saves no model whose configuration says that it was quantized
        plain = type(model)(config)
    plain.load_state_dict(model.state_dict(), assign=True)
    plain.tie_weights()
    return plain, transformers.AutoTokenizer.from_pretrained(**place)  # nosec B615
