"""GGUF files: one file with configuration, tokenizer and quantized weights, made once into a folder of safetensors."""

import contextlib
import io
from importlib.util import find_spec
from pathlib import Path

import torch

from effft.errors import InputError, MemoryShortError, RunError
from effft.models.conversion import made_once, save_made
from effft.models.out_of_memory import out_of_memory
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
        try:
            _convert(name, path, new)
        except (InputError, RunError, OSError):
            raise
        except Exception as error:  # the libraries below raise a dozen kinds
            if out_of_memory(error):
                raise MemoryShortError(f"model {name!r}: there is not enough memory to de-quantize it.") from error
            raise InputError(
                f"model {name!r}: this GGUF file cannot be loaded ({type(error).__name__}: "
                f"{' '.join(str(error).split())[:160]}); fetch it again, or take another model."
            ) from error

    return made_once(name, [], [path], write)


def _convert(name: str, path: Path, new: Path) -> None:
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    place = {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name, "local_files_only": True}
    config = transformers.AutoConfig.from_pretrained(**place)
    if config.model_type not in CAUSAL or config.is_encoder_decoder:
        raise InputError(f"model {name!r} ({config.model_type}): only decoders are read from GGUF files.")
    options = {"dtype": torch.float32, "output_loading_info": True}
    with contextlib.redirect_stderr(io.StringIO()):  # a bar of progress that has no switch
        model, report = transformers.AutoModelForCausalLM.from_pretrained(**place, **options)
    if missing := report["missing_keys"]:
        raise InputError(
            f"model {name!r}: its weights lack {min(missing)}, which would be random; fetch it again, whole."
        )
    with torch.device("meta"):  # transformers saves no model whose configuration says that it was quantized
        plain = type(model)(config)
    plain.load_state_dict(model.state_dict(), assign=True)
    plain.tie_weights()
    save_made(name, plain, new)
    transformers.AutoTokenizer.from_pretrained(**place).save_pretrained(new)
