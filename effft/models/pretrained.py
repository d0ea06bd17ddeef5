"""One `from_pretrained` call; its many ways to fail become sentences, and broken downloads are recognised."""

import json
import logging
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from effft.data import hub
from effft.errors import InputError, MemoryShortError, RunError
from effft.models.out_of_memory import out_of_memory

BUILT_IN = {"tiny-lm": Path(__file__).parent / "tiny_lm"}
"""Models that come with this package."""

INDEX = "model.safetensors.index.json"


def from_pretrained(kind: str, source: str, name: str, revision: str, **options: Any) -> Any:
    """What the transformers class `kind` makes of a folder or a hub id.

    A hub that does not answer within some seconds is not asked again; then only the cache is.

    Args:
        kind: name of the class, such as 'AutoConfig'.
        source: a folder or a hub id.
        name: the model as the user gave it, for messages.
        revision: of a hub model; '' is its main branch.
        options: passed on.

    Raises:
        InputError: it cannot be loaded.
        MemoryShortError: it does not fit into memory.
    """
    import transformers
    from huggingface_hub import constants
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    if kind.startswith("AutoModel"):
        options["use_safetensors"] = True
    local = Path(source).is_dir()
    if local:
        _check_shards(Path(source), name)
    online = not local and _answers(constants.ENDPOINT)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it warns about every attempt
    try:
        with hub.checked_downloads() if online else nullcontext():
            return getattr(transformers, kind).from_pretrained(
                source, revision=revision or "main", local_files_only=not online, trust_remote_code=False, **options
            )
    except InputError:
        raise
    except Exception as error:
        model = f"model {name!r}" + (f" at revision {revision!r}" if revision else "")
        if out_of_memory(error):
            raise MemoryShortError(f"{model}: there is not enough memory to load it.") from error
        if "trust_remote_code" in str(error):
            raise InputError(
                f"{model} needs code from the hub to run, which is never executed here; take another model."
            ) from error
        explain = _explain_folder(model, kind, source, error) if local else _explain_hub(model, name, online, error)
        raise explain from error


@cache
def _answers(endpoint: str) -> bool:
    return hub.reachable(endpoint)


def _explain_folder(model: str, kind: str, source: str, error: Exception) -> InputError | RunError:
    reason = " ".join(str(error).split())[:160]
    if problem := find_corruption(Path(source)):
        return InputError(f"{model}: {problem}; fetch the folder again.")
    if kind == "AutoTokenizer":
        return InputError(f"{model}: no tokenizer can be read from the folder ({reason}).")
    return InputError(f"{model}: the folder cannot be loaded ({type(error).__name__}: {reason}).")


def _explain_hub(model: str, name: str, online: bool, error: Exception) -> InputError:
    reason = " ".join(str(error).split())
    nowhere = f"{model}: neither built in ({', '.join(BUILT_IN)}) nor a local folder, and "
    if not online:
        partial = _describe_partial_cache(name)
        cached = f"its copy in the cache cannot be used: {partial}" if partial else "it is not in the cache"
        return InputError(
            f"{nowhere}the hub is not reachable (or HF_HUB_OFFLINE is set), and {cached}; give a downloaded folder "
            "with --model FOLDER."
        )
    if "safetensors" in reason:
        return InputError(f"{model}: it has no safetensors weights, and pickle is never loaded; convert it first.")
    return InputError(
        f"{nowhere}the hub does not give it: {hub.refusal(error)}; or give a downloaded folder with --model FOLDER."
    )


def _check_shards(folder: Path, name: str) -> None:
    """Refuse an index of shards that leads out of its folder: transformers would read whatever it names."""
    try:
        shards = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return  # no index, or a damaged one, which loading finds
    for shard in shards:
        if Path(str(shard)).name != shard:
            raise InputError(
                f"model {name!r}: {INDEX} names {shard!r}, which lies outside of the folder; fetch it again."
            )


def find_corruption(folder: Path) -> str:
    """What a broken download or a full disk left wrong in a folder, as a clause; '' where nothing is wrong."""
    if unfinished := sorted(folder.rglob("*.incomplete")):
        return f"its download is not whole ({unfinished[0].name} in {unfinished[0].parent})"
    try:
        shards = set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values())
    except FileNotFoundError:
        shards = set()
    except (OSError, ValueError, KeyError, AttributeError) as error:
        return f"{INDEX} in it is damaged ({error})"
    if absent := sorted(name for name in shards if not (folder / name).is_file()):
        return f"{absent[0]} is missing, which {INDEX} names"
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt"):
                pass
        except (OSError, SafetensorError) as error:
            return f"{path.name} in it is damaged or cut short ({error})"
    return ""


def _describe_partial_cache(name: str) -> str:
    """What the hub's cache holds of a model that cannot be loaded from it, as a clause; '' where it holds nothing."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
    if not folder.is_dir():
        return ""
    problems = [find_corruption(part) for part in (folder, *sorted(folder.glob("snapshots/*")))]
    return next((problem for problem in problems if problem), "files are missing")
