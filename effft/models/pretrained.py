"""One `from_pretrained` call; its many ways to fail become sentences."""

import logging
from functools import cache
from pathlib import Path
from typing import Any

from effft.data import hub
from effft.errors import InputError, MemoryShortError, RunError
from effft.models.corruption import describe_partial_cache, find_corruption
from effft.models.out_of_memory import out_of_memory

BUILT_IN = {"tiny-lm": Path(__file__).parent / "tiny_lm"}
"""Models that come with this package."""


def from_pretrained(kind: str, source: str, name: str, revision: str, **options: Any) -> Any:
    """What the class `kind` of transformers makes of a folder, or of a hub id. name: as the user gave it.

    A hub that does not answer is asked once, for some seconds; then only the cache is.

    Raises:
        InputError: it cannot be loaded. MemoryShortError: there is no room for it.
    """
    import transformers
    from huggingface_hub import constants
    from transformers.utils import logging as their_logging

    their_logging.set_verbosity_error()
    their_logging.disable_progress_bar()
    if kind.startswith("AutoModel"):
        options["use_safetensors"] = True
    local = Path(source).is_dir()
    online = not local and _answers(constants.ENDPOINT)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # a line for every try
    try:
        return getattr(transformers, kind).from_pretrained(
            source, revision=revision or "main", local_files_only=not online, trust_remote_code=False, **options
        )
    except Exception as error:
        at = f"model {name!r}" + (f" at revision {revision!r}" if revision else "")
        if out_of_memory(error):
            raise MemoryShortError(f"{at}: there is not enough memory to load it.") from error
        said = " ".join(str(error).split())
        if "trust_remote_code" in said:
            raise InputError(
                f"{at} needs code from the hub to run, which is never executed here; take another model."
            ) from error
        raise (_of_folder(at, kind, source, error) if local else _of_hub(at, name, online, error)) from error


@cache
def _answers(endpoint: str) -> bool:
    return hub.reachable(endpoint)


def _of_folder(at: str, kind: str, source: str, error: Exception) -> InputError | RunError:
    said = " ".join(str(error).split())[:160]
    if fault := find_corruption(Path(source)):
        return InputError(f"{at}: {fault}; fetch the folder again.")
    if kind == "AutoTokenizer":
        return InputError(f"{at}: no tokenizer can be read from the folder ({said}).")
    return InputError(f"{at}: the folder cannot be loaded ({type(error).__name__}: {said}).")


def _of_hub(at: str, name: str, online: bool, error: Exception) -> InputError:
    said = " ".join(str(error).split())
    known = f"{at}: neither built in ({', '.join(BUILT_IN)}) nor a local folder, and "
    if not online:
        part = describe_partial_cache(name)
        there = f"its copy in the cache cannot be used: {part}" if part else "it is not in the cache"
        return InputError(
            f"{known}the hub is not reachable (or HF_HUB_OFFLINE is set), and {there}; give a downloaded folder with "
            "--model FOLDER."
        )
    if "safetensors" in said:
        return InputError(f"{at}: it has no safetensors weights, and pickle is never loaded; convert it first.")
    return InputError(
        f"{known}the hub does not give it ({type(error).__name__}: {said[:120]}); check the name, or give a "
        "downloaded folder with --model FOLDER."
    )
