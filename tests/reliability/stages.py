"""The stages of a run, as a process tells of them."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from effft.runs import experiment, plan

STAGES = {
    "load": (plan, "prepare"),
    "train": (experiment, "adapt"),
    "evaluation": (experiment, "evaluate"),
    "model": (experiment, "_save_model"),
}
"""Stage -> the function that begins it."""


def noting(path: Path, entering: Callable[[str], object] = str, leaving: Callable[[str], object] = str) -> Any:
    """What makes a process write the name of each stage into `path` as it begins, and call the other two with it."""

    def note() -> None:
        for stage, (home, name) in STAGES.items():
            function = getattr(home, name)
            users = [module for module in sys.modules.values() if vars(module).get(name) is function]
            for module in users:  # whoever imported it already has the function under its own name
                setattr(module, name, told(stage, function))

    def told(stage: str, function: Any) -> Any:
        def telling(*words: Any, **named: Any) -> Any:
            with path.open("a") as file:
                file.write(f"{stage}\n")
            entering(stage)
            try:
                return function(*words, **named)
            finally:
                leaving(stage)

        return telling

    return note
