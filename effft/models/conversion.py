"""Models that transformers cannot load as they lie there, written once as safetensors into a cache of ours."""

import hashlib
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open

from effft.disk import SMALL_FILES, cache_folder, file_digest, written_whole
from effft.errors import EffftError, InputError, MemoryShortError, RunError
from effft.models.out_of_memory import out_of_memory


def made_once(name: str, small: Sequence[Path], sources: Sequence[Path], write: Callable[[Path], None]) -> Path:
    """A folder of safetensors in the cache, made once for the same bytes of all the files, and found again.

    Args:
        name: The model as the user gave it, for messages.
        small: Files that are copied.
        sources: Other files that it is made of.
        write: Writes the weights, and what else is not copied, into the folder.

    Raises:
        InputError: A file is no regular one, or `write` says so.
        RunError: The cache cannot be written.
    """
    parts = [f"{path.name} {file_digest(path)}" for path in (*small, *sources)]
    target = cache_folder() / "converted" / hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if not _is_whole(target):
                for left in [target, *target.parent.glob(f".{target.name}-*")]:  # damaged, or of a killed process
                    shutil.rmtree(left, ignore_errors=True)
                with written_whole(target) as new:
                    new.mkdir()
                    for path in small:
                        shutil.copyfile(path, new / path.name)
                    write(new)
    except (OSError, SafetensorError) as error:
        raise RunError(
            f"model {name!r}: it could not be written as safetensors to {target.parent} "
            f"({getattr(error, 'strerror', None) or error}); make room, or set XDG_CACHE_HOME to another place."
        ) from None
    return target


@contextmanager
def explained(name: str, problem: str, remedy: str) -> Iterator[None]:
    """What goes wrong in here becomes a sentence of this problem, the reason, and this remedy.

    Raises:
        InputError: the sentence.
        MemoryShortError: there is not enough memory.
    """
    try:
        yield
    except EffftError:
        raise
    except Exception as error:  # the libraries below raise a dozen kinds
        if out_of_memory(error):
            raise MemoryShortError(f"model {name!r}: {problem}: there is not enough memory.") from error
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
        raise InputError(f"model {name!r}: {problem} ({reason}); {remedy}.") from error


def save_made(name: str, model: Any, folder: Path, without: Collection[str] = ()) -> None:
    """Write the weights and configuration of a transformers model, and compare what was written.

    Args:
        name: The model as the user gave it, for messages.
        model: A model on the CPU.
        folder: Where to; it exists.
        without: Names of weights to leave out.

    Raises:
        RunError: The disk gives back something else.
    """
    state = {key: value for key, value in model.state_dict().items() if key not in without}
    model.save_pretrained(folder, state_dict=state)
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            wrong = [key for key in file.keys() if key in state and not torch.equal(file.get_tensor(key), state[key])]  # noqa: SIM118
        if wrong:
            raise RunError(f"model {name!r}: {wrong[0]} was not written to {path} as it was made; try again.")


def small_files(folder: Path) -> list[Path]:
    """Configuration and tokenizer of a model."""
    return [path for path in sorted(folder.iterdir()) if path.suffix in SMALL_FILES]


def _is_whole(folder: Path) -> bool:
    files = list(folder.glob("*.safetensors"))
    try:
        for file in files:
            with safe_open(file, framework="pt"):  # knows the length from the head
                pass
    except SafetensorError:
        return False
    return bool(files)
