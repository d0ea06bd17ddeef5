"""The files of a model as a local folder, whatever was named: built in, a folder, a hub id."""

import hashlib
import json
import os
from collections.abc import Callable, Collection
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

from safetensors import SafetensorError, safe_open

from effft.data import hub
from effft.disk import check_regular, read_text
from effft.errors import InputError, nearest

BUILT_IN = {"tiny-lm": Path(__file__).parent / "tiny_lm"}
"""Models that come with this package."""

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
    folder = Path(name).expanduser()
    if folder.is_dir():
        _check_adapter(name, folder)
        if not (folder / "config.json").is_file():
            raise InputError(f"model {name!r}: the folder has no config.json, so it is not a transformers model.")
        if not _weights_in(folder, os.listdir(folder)):
            suffixes = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".gguf")
            others = ", ".join(sorted(path.name for path in folder.iterdir() if path.suffix in suffixes))
            raise InputError(
                f"model {name!r}: weights must be {' or '.join(WEIGHTS)}, whole or in shards with an index; the folder "
                f"has {f'only {others}' if others else 'none'}."
            )
        return
    if folder.is_file():
        raise InputError(f"model {name!r} is a file; give the folder that holds config.json and *.safetensors.")
    looks_like_path = name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name
    if looks_like_path or not name.strip():
        raise InputError(f"model {name!r}: no such folder; give a local folder, a hub id, or {' or '.join(BUILT_IN)}.")
    if "/" not in name and (hint := nearest(name, BUILT_IN)):
        raise InputError(f"unknown model {name!r}.{hint} A hub id or a local folder works too.")


def model_folder(name: str, revision: str = "") -> Path:
    """The local folder with configuration and tokenizer; what a hub model lacks in the cache is fetched.

    Raises:
        InputError: no such model, or the hub does not give it.
    """
    folder = BUILT_IN.get(name, Path(name).expanduser())
    if not folder.is_dir():
        folder = _fetch(name, revision, _descriptions)
        _check_adapter(name, folder)
    for file in _descriptions(os.listdir(folder)):
        if (folder / file).is_file() and (size := (folder / file).stat().st_size) > LARGEST_DESCRIPTION:
            raise InputError(f"model {name!r}: {file} has {size:,} bytes; {LARGEST_DESCRIPTION:,} are the most.")
    return folder


def _check_adapter(name: str, folder: Path) -> None:
    """Say what to do with an adapter, which transformers alone cannot load."""
    adapter = folder / "adapter_config.json"
    if (folder / "config.json").is_file() or not adapter.is_file():
        return
    try:
        base = json.loads(read_text(adapter, "adapter")).get("base_model_name_or_path")
    except (ValueError, AttributeError):
        base = None
    raise InputError(
        f"model {name!r} is an adapter for {base or 'another model'}, not a whole model; add it to its base once and "
        "give the new folder: with `effft export --merge` where effft made it, else with peft's `merge_and_unload` and "
        "`save_pretrained`, the tokenizer too."
    )


def with_weights(folder: Path, name: str) -> Path:
    """The folder of the model with its weights, fetched if need be.

    Args:
        folder: As `model_folder` gives it.
        name: The model as the user gave it.

    Raises:
        InputError: weights that are not there, are damaged or lie outside of the folder.
    """
    cached = folder.parent.name == "snapshots"
    if cached and not Path(name).expanduser().is_dir():
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
    return folder


def has_safetensors(folder: Path) -> bool:
    """Whether the weights in a folder are safetensors; else they are `.bin` files."""
    return not any(file.endswith(".bin") for file in _weights_in(folder, os.listdir(folder)))


def _fetch(name: str, revision: str, wanted: Callable[[Collection[str]], list[str]]) -> Path:
    """The folder of a hub model in the hub's cache, with the wanted files."""
    model = f"model {name!r}" + (f" at revision {revision!r}" if revision else "")
    nowhere = f"{model}: neither built in ({', '.join(BUILT_IN)}) nor a local folder, and "
    try:
        folder = hub.fetch_model(name, revision, wanted)
    except InputError:
        raise
    except Exception as error:  # the libraries below raise a dozen kinds
        raise InputError(
            f"{nowhere}the hub does not give it: {hub.refusal(error, name)}; or give a downloaded folder with --model "
            "FOLDER."
        ) from error
    if folder is None:
        raise InputError(
            f"{nowhere}the hub is not reachable (or HF_HUB_OFFLINE is set), and it is not in the cache; give a "
            "downloaded folder with --model FOLDER."
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
    local = name in BUILT_IN or Path(name).expanduser().is_dir()
    cached = None if local else hub.cached_model(name, revision)
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

    A hub model that is not in the cache is identified by its name and revision.
    """
    folder: Path | None = BUILT_IN.get(name, Path(name).expanduser())
    assert folder is not None
    if not folder.is_dir() and (folder := hub.cached_model(name, revision)) is None:
        return hashlib.sha256(f"{name}@{revision}".encode()).hexdigest()[:16]
    digest = hashlib.sha256()
    files = sorted([*folder.glob("*.safetensors"), *folder.glob("*.safetensors.index.json")])
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
