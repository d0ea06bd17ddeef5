"""What can be chosen: the portfolio for every model, and what of it fits into memory, time and latency."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from effft.config import PART_FIELDS, RunConfig, make_config
from effft.errors import InputError, positive
from effft.runs.controls import bag_of_words, majority
from effft.runs.estimate import Skeletons, estimate
from effft.runs.grid import holders
from effft.runs.plan import Fold, prepare_validation
from effft.runs.session import Session
from effft.strategies.parts import Pattern
from effft.strategies.strategy import compose
from effft.tasks.yaml_file import read_values

PORTFOLIO = Path(__file__).parent / "portfolio.yaml"
CONTROLS = {"majority": majority, "bag_of_words": bag_of_words}
"""Rows that know less than a model; they take the examples of `STAND_IN`."""

STAND_IN = "probe"
UNITS = {
    "memory": {"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12},
    "latency": {"ms": 1.0, "s": 1000.0},
}
"""What a limit is given in: bytes, and milliseconds a query."""


@dataclass(frozen=True)
class Limits:
    """What the user has: seconds for everything, bytes of memory, milliseconds a query; infinite where not given."""

    seconds: float
    memory: float = float("inf")
    latency: float = float("inf")


@dataclass(frozen=True)
class Candidate:
    """A configuration that can be chosen. name: as tables call it. control: of a row that is no model, else ''."""

    name: str
    config: RunConfig
    control: str = ""
    tuned: bool = False

    @property
    def label(self) -> str:
        """The name, with a mark where a search has tuned it."""
        return f"{self.name} tuned" if self.tuned else self.name


def limits_of(minutes: str | float, memory: str = "", latency: str = "") -> Limits:
    """The limits as typed: minutes '20', memory '8GB', latency '50ms'.

    Raises:
        InputError: no number above 0, or no unit that is known.
    """
    given = {name: _quantity(name, text) for name, text in (("memory", memory), ("latency", latency)) if text}
    return Limits(60 * positive("minutes", str(minutes)), **given)


def _quantity(name: str, text: str) -> float:
    units = UNITS[name]
    found = re.fullmatch(rf"\s*(\d+\.?\d*|\.\d+)\s*({'|'.join(units)})\s*", text, re.IGNORECASE)
    if not found or not float(found[1]):
        example = "8GB" if name == "memory" else "50ms"
        raise InputError(
            f"{name}={text}: must be a number above 0 with a unit ({', '.join(units)}), such as {example} "
            f"(flag --{name})."
        )
    return float(found[1]) * next(size for unit, size in units.items() if unit.lower() == found[2].lower())


def candidates(values: Mapping[str, Any], models: Sequence[str], session: Session) -> list[Candidate]:
    """The portfolio for these models, by rising cost.

    Args:
        values: RunConfig fields that all share; a parameter of a part goes to the strategies that have it.
        models: Their names.
        session: Has the task.

    Raises:
        InputError: a value breaks a law, no candidate has a parameter, or the task cannot be read.
    """
    entries = read_values(PORTFOLIO, "portfolio")
    raced = [compose(str(entry["strategy"])) for entry in entries if entry["strategy"] not in CONTROLS]
    for key, value in values.items():
        if key in PART_FIELDS and value not in (None, "") and not holders(key, raced):
            raise InputError(f"none of the strategies that can be chosen has the parameter {key!r}; leave it out.")
    last = [model.rstrip("/").rpartition("/")[2] for model in models]
    shown = dict(zip(models, last if len({*last}) == len(models) else models, strict=True))
    shared = {name: value for name, value in values.items() if name not in PART_FIELDS}
    task = session.task(make_config({**shared, "model": models[0]}))
    found: list[Candidate] = []
    for entry, model in product(entries, models):
        name = str(entry["strategy"])
        control = name if name in CONTROLS else ""
        if control and model != models[0]:
            continue
        strategy = compose(STAND_IN if control else name)
        own = {key: value for key, value in values.items() if strategy in holders(key, raced)}
        where = f" on {shown[model]}" if len(models) > 1 and not control else ""
        patterns = list(task.patterns) if isinstance(strategy.input, Pattern) and not own.get("pattern") else []
        for pattern in [*patterns, "all"] if len(patterns) > 1 else [""]:
            settings = {**entry.get("settings", {}), **own, "strategy": strategy.name, "model": model}
            config = make_config({**shared, **settings, **({"pattern": pattern} if pattern else {})})
            label = control.replace("_", " ") or name + (f" ({pattern})" if pattern else "") + where
            found.append(Candidate(label, config, control))
    return found


def needs(candidate: Candidate, fold: Fold, skeletons: Skeletons) -> dict[str, float | str]:
    """What one training, validated on a fold, would take: seconds, bytes, milliseconds a query; or why it cannot be."""
    if candidate.control:
        return {"seconds": 1.0, "memory": 0.0, "latency": 0.0}
    try:
        one = estimate(candidate.config, skeletons, fold)
        held = len(prepare_validation(candidate.config, skeletons, fold).evaluated["validation"])
    except InputError as error:
        return {"refused": str(error)}
    seconds, query = one.train_seconds + one.evaluation_seconds, 1000 * one.evaluation_seconds / held
    return {"seconds": seconds, "memory": float(one.peak), "latency": query, "parameters": float(one.total)}


def excess(found: Mapping[str, Any], limits: Limits, trainings: int, kept: float) -> str:
    """Why a candidate does not fit; '' where it does.

    Args:
        found: as of `needs`, or as measured.
        limits: what there is.
        trainings: how many of them there must be time for.
        kept: bytes that the process holds beside a training.
    """
    if "refused" in found:
        return str(found["refused"])
    memory, seconds = found["memory"] + kept, trainings * found["seconds"]
    if memory > limits.memory:
        return f"it would take {memory / 1e6:,.0f} MB, more than {limits.memory / 1e6:,.3g} MB"
    if found["latency"] > limits.latency:
        return f"a query would take {found['latency']:.3g} ms, more than {limits.latency:g} ms"
    if seconds >= limits.seconds:
        return f"its {trainings} trainings would take {seconds / 60:.1f} minutes, all of the time or more"
    return ""
