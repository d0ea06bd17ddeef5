"""Answers of short probes of this machine, kept in a file, so that a choice never changes between runs."""

import json
import os
import platform
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

from effft.models.backbone import Backbone


def cached_probe(key: str, probe: Callable[[], str]) -> str:
    """The answer kept for this key; where there is none, `probe` is asked and its answer kept."""
    if answer := cached_answer(key):
        return answer
    path, answers, answer = probe_file(), _read(), probe()
    with suppress(OSError):  # a home that cannot be written costs one probe in every run
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(f".{os.getpid()}")
        new.write_text(json.dumps(answers | {key: answer}, indent=1))
        new.replace(path)
    return answer


def cached_answer(key: str) -> str:
    """What an earlier probe answered; '' where there was none."""
    return _read().get(key, "")


def _read() -> dict[str, str]:
    with suppress(OSError, ValueError):
        answers = json.loads(probe_file().read_text())
        if isinstance(answers, dict):
            return answers
    return {}


def probe_file() -> Path:
    """Where the answers are kept; after it is deleted the machine is probed again."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "effft" / "precision.json"


def machine_key(backbone: Backbone, threads: int) -> str:
    """This machine and this kind of model."""
    block = backbone.layout.blocks[0]
    size = sum(p.numel() for p in block.parameters())
    machine = f"{platform.machine()} {cpu_capabilities().get('cpu_name', '')} {os.cpu_count()}"
    return f"{machine}, torch {torch.__version__}, {threads} threads, {type(block).__name__} {backbone.width} {size}"


def cpu_capabilities() -> dict[str, object]:
    """What torch knows of this CPU; {} before torch 2.10."""
    ask = getattr(torch.cpu, "get_capabilities", None)
    return dict(ask()) if ask else {}
