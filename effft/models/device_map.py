"""A model larger than one device: its layers lie on several devices, in memory and on disk."""

import atexit
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from effft.errors import InputError


def is_device_map(device: str) -> bool:
    """Whether `device` is 'map', or 'map:8GB' (at most so much on each device)."""
    return device.partition(":")[0] == "map"


def check_device_map(device: str, strategy: str, trains: bool) -> None:
    """Raise an InputError where the strategy trains, or the size is not one."""
    if not is_device_map(device):
        return
    _max_bytes(device)
    if trains:
        raise InputError(
            f"device={device}: layers on several devices are for evaluation only, and strategy {strategy!r} trains; "
            "take icl or zero_shot, or share the model between processes (deploy/accelerate/fsdp2.yaml)."
        )


def device_map_options(device: str, precision: str) -> dict[str, Any]:
    """Keywords for `from_pretrained`: accelerate fills the GPUs first, then memory, then a folder.

    precision: 'auto' is bf16 where a GPU supports it.
    """
    if not is_device_map(device):
        return {}
    native = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    fp32 = precision == "fp32" or (precision == "auto" and not native)
    folder = tempfile.mkdtemp(prefix="effft-layers-")  # read for as long as the model is used
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    options: dict[str, Any] = {
        "device_map": "auto",
        "offload_folder": folder,
        "dtype": torch.float32 if fp32 else torch.bfloat16,
    }
    if size := _max_bytes(device):
        options["max_memory"] = dict.fromkeys([*range(torch.cuda.device_count()), "cpu"], size)
    return options


@contextmanager
def explain_no_place(device: str) -> Iterator[None]:
    """While open, the IndexError that transformers raises when it finds no place for tied weights is a sentence.

    Raises:
        InputError: in its stead.
    """
    try:
        yield
    except InputError as error:
        if is_device_map(device) and isinstance(error.__cause__, IndexError):
            raise InputError(f"device={device}: the layers do not fit anywhere; give a larger size.") from error
        raise


def _max_bytes(device: str) -> int:
    """Bytes allowed on each device; 0: what is free."""
    from accelerate.utils.modeling import convert_file_size_to_int

    _, separator, size = device.partition(":")
    try:
        return int(convert_file_size_to_int(size)) if separator else 0
    except ValueError:
        raise InputError(f"device={device}: must be map, or with a size as in map:8GB (flag --device).") from None
