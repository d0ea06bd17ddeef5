"""`.bin` weights: read by torch's restricted unpickler, made once into a folder of safetensors."""

import hashlib
import json
import pickle  # nosec B403: only its error class
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import TensorSpec, safe_open, serialize_file
from torch import Tensor

from effft.errors import InputError, RunError
from effft.models.conversion import made_once, small_files

Contents = dict[str, tuple[torch.dtype, torch.Size, str]]
"""Name of a tensor -> its type, shape, and the SHA-256 of its bytes."""


def converted(name: str, folder: Path, files: Sequence[str]) -> Path:
    """A folder like `folder` whose weights are safetensors.

    Args:
        name: The model as the user gave it, for messages.
        folder: Holds configuration, tokenizer and `.bin` weights.
        files: Names of the files of the weights, an index first where there is one.

    Raises:
        InputError: A file needs more than tensors to be read, or is damaged.
        RunError: The cache cannot be written.
    """
    small = [path for path in small_files(folder) if path.name not in files]
    return made_once(name, small, [folder / file for file in files], lambda new: _convert(name, folder, files, new))


def _convert(name: str, folder: Path, files: Sequence[str], new: Path) -> None:
    """Write every shard, and the index of what really is in them."""
    places: dict[str, str] = {}
    indexed = len(files) > 1
    for file in files[1:] if indexed else files:
        written = new / f"{Path(file).stem.replace('pytorch_model', 'model')}.safetensors"
        tensors = _read(name, folder / file)
        contents = _contents(tensors.items())
        specs = {
            key: TensorSpec(
                dtype=str(value.dtype).removeprefix("torch."), shape=list(value.shape), data_ptr=value.data_ptr(),
                data_len=value.nbytes,
            )
            for key, value in tensors.items()
        }  # fmt: skip
        serialize_file(specs, written, {"format": "pt"})  # straight from the mapped file; tied tensors each by name
        del tensors, specs
        if _contents(_stored(written)) != contents:
            raise RunError(f"model {name!r}: what was written to {written} is not what {file} holds; try again.")
        places |= dict.fromkeys(contents, written.name)
    if indexed:
        index = {"metadata": {}, "weight_map": places}
        (new / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def _read(name: str, path: Path) -> dict[str, Tensor]:
    """The tensors of a `.bin` file, mapped from disk where its format allows it. Nothing in it is executed."""
    try:
        # weights_only: an unpickler that knows tensors and containers of them, and no other function or class
        with warnings.catch_warnings(action="ignore"):  # of pickles of another protocol
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        found = str(error).partition("WeightsUnpickler error: ")[2].partition(" was not an allowed")[0].split("\n")[0]
        raise InputError(
            f"model {name!r}: reading {path.name} needs more than tensors ({found or 'it is no pickle of tensors'}), "
            "and nothing that can execute code is loaded; take a model or revision with safetensors."
        ) from None
    except Exception as error:  # what the unpickler meets in a damaged file
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"model {name!r}: {path.name} in {path.parent} is damaged or cut short ({reason}); fetch it again."
        ) from None
    tensors = {key: value.detach() for key, value in loaded.items()} if _is_state_dict(loaded) else {}
    if not tensors:
        raise InputError(
            f"model {name!r}: {path.name} holds no table of named tensors, as weights of transformers are; give the "
            "folder that `save_pretrained` wrote."
        )
    return {key: value if value.is_contiguous() else value.contiguous() for key, value in tensors.items()}


def _is_state_dict(loaded: object) -> bool:
    return isinstance(loaded, Mapping) and all(
        isinstance(key, str) and isinstance(value, Tensor) and value.layout is torch.strided and not value.is_quantized
        for key, value in loaded.items()
    )


def _stored(path: Path) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a file; opened anew for each, so that only one at a time counts as memory."""
    with safe_open(path, framework="pt") as file:
        names = list(file.keys())
    for name in names:
        with safe_open(path, framework="pt") as file:
            yield name, file.get_tensor(name)


def _contents(tensors: Iterable[tuple[str, Tensor]]) -> Contents:
    return {
        key: (value.dtype, value.shape, hashlib.sha256(value.reshape(-1).view(torch.uint8).numpy().data).hexdigest())
        for key, value in tensors
    }
