"""A model larger than one device: its layers lie on several, in memory and on disk, and are used where they lie."""

import atexit
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from effft.errors import InputError

MAP = "map"


def is_device_map(device: str) -> bool:
    """Whether `device` asks for it: 'map', or 'map:8GB' (at most so much on each)."""
    return device == MAP or device.startswith(f"{MAP}:")


def check_device_map(device: str, strategy: str, trains: bool) -> None:
    """Raise an InputError where the strategy trains, or the size is none."""
    if not is_device_map(device):
        return
    _most(device)
    if trains:
        raise InputError(
            f"device={device}: layers that lie apart are for evaluation alone, and strategy {strategy!r} trains; take "
            "icl or zero_shot, or share the model between processes (deploy/accelerate/fsdp2.yaml)."
        )


def device_map_options(device: str, precision: str) -> dict[str, Any]:
    """What `from_pretrained` is given: accelerate fills the GPUs first, then memory, then a folder.

    precision: 'auto' is bf16 where a GPU has it.
    """
    if not is_device_map(device):
        return {}
    cuda = torch.cuda.is_available()
    native = cuda and torch.cuda.is_bf16_supported(including_emulation=False)
    wide = precision == "fp32" or (precision == "auto" and not native)
    folder = tempfile.mkdtemp(prefix="effft-layers-")  # read as long as the model is used
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    options: dict[str, Any] = {
        "device_map": "auto",
        "offload_folder": folder,
        "dtype": torch.float32 if wide else torch.bfloat16,
    }
    if most := _most(device):
        places = [*range(torch.cuda.device_count()), "cpu"]
        options["max_memory"] = dict.fromkeys(places, most)
    return options


@contextmanager
def placing(device: str) -> Iterator[None]:
    """While open, what transformers says when it finds no place for tied weights (an IndexError) is a sentence.

    Raises:
        InputError: that.
    """
    try:
        yield
    except InputError as error:
        if is_device_map(device) and isinstance(error.__cause__, IndexError):
            raise InputError(f"device={device}: no places for the layers are found; give a larger size.") from error
        raise


def _most(device: str) -> int:
    """Bytes on each place; 0: what is free."""
    from accelerate.utils.modeling import convert_file_size_to_int

    _, _, size = device.partition(":")
    try:
        return int(convert_file_size_to_int(size)) if device != MAP else 0
    except ValueError:
        raise InputError(f"device={device}: must be map, or with a size as in map:8GB (flag --device).") from None
