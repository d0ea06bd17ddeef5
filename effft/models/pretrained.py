"""One `from_pretrained` call on a local folder; its many ways to fail become sentences."""

from pathlib import Path
from typing import Any

from effft.errors import InputError, MemoryShortError
from effft.models.files import find_corruption
from effft.models.out_of_memory import out_of_memory


def from_pretrained(kind: str, folder: Path, name: str, **options: Any) -> Any:
    """What the transformers class `kind` makes of a folder.

    Args:
        kind: name of the class, such as 'AutoConfig'.
        folder: as `files.model_folder` gives it.
        name: the model as the user gave it, for messages.
        options: passed on.

    Raises:
        InputError: it cannot be loaded.
        MemoryShortError: it does not fit into memory.
    """
    import transformers
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    if kind.startswith("AutoModel"):
        options["use_safetensors"] = True
    try:
        # local_files_only: transformers would also look for conversions that somebody proposed to the hub
        return getattr(transformers, kind).from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, **options
        )
    except Exception as error:  # the libraries below raise a dozen kinds
        model = f"model {name!r}"
        if out_of_memory(error):
            raise MemoryShortError(f"{model}: there is not enough memory to load it.") from error
        if "trust_remote_code" in str(error):
            raise InputError(
                f"{model} needs code from the hub to run, which is never executed here; take another model."
            ) from error
        problem, reason = find_corruption(folder), " ".join(str(error).split())[:160]
        if folder.parent.name == "snapshots":
            raise InputError(
                f"{model}: its copy in the cache cannot be used: {problem or reason}; run the command once with a "
                "network, or give a downloaded folder with --model FOLDER."
            ) from error
        if problem:
            raise InputError(f"{model}: {problem}; fetch the folder again.") from error
        if kind == "AutoTokenizer":
            raise InputError(f"{model}: no tokenizer can be read from the folder ({reason}).") from error
        raise InputError(f"{model}: the folder cannot be loaded ({type(error).__name__}: {reason}).") from error
