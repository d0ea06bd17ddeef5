"""What a short probe of this machine said, kept in a file, so that a choice never flips between runs."""

import json
import os
import platform
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import torch

from effft.models.backbone import Backbone


def cached_probe(file: str, key: str, answers: Sequence[str], ask: Callable[[], str]) -> str:
    """The answer known to this key, one of `answers`; asked for and kept where there is none."""
    found = cached_answer(file, key)
    if found in answers:
        return found
    chosen = ask()
    path, kept = probe_file(file), _read(probe_file(file))
    with suppress(OSError):  # a home that cannot be written costs a probe a run
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(f".{os.getpid()}")
        new.write_text(json.dumps(kept | {key: chosen}, indent=1))
        new.replace(path)
    return chosen


def cached_answer(file: str, key: str) -> str:
    """What an earlier probe said; '' where there was none."""
    return _read(probe_file(file)).get(key, "")


def _read(path: Path) -> dict[str, str]:
    with suppress(OSError, ValueError):
        found = json.loads(path.read_text())
        if isinstance(found, dict):
            return found
    return {}


def probe_file(file: str) -> Path:
    """Where decisions are kept; deleting it asks the machine again."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "effft" / file


def machine_key(backbone: Backbone, threads: int) -> str:
    """This machine and this kind of model."""
    block = backbone.layout.blocks[0]
    size = sum(p.numel() for p in block.parameters())
    ask = getattr(torch.cpu, "get_capabilities", None)
    name = (ask() if ask else {}).get("cpu_name", "")
    machine = f"{platform.machine()} {name} {os.cpu_count()}"
    return f"{machine}, torch {torch.__version__}, {threads} threads, {type(block).__name__} {backbone.width} {size}"
