"""A comparison as data: a YAML file of grids over tasks, strategies and seeds, and the runs that it stands for.

The files in `presets/` come with the package; one of your own has the same keys.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from effft.config import CONSTRAINT_MESSAGES, DATA_FIELDS, Amount, RunConfig, make_config
from effft.errors import InputError, lookup, nearest
from effft.runs.grid import CONTROLS, SEEDS, ComparedRun, Grid
from effft.strategies.strategy import NAMED, check_trains, compose
from effft.tasks.yaml_file import read_values

PRESETS = {path.stem: path for path in sorted((Path(__file__).parent / "presets").glob("*.yaml"))}
"""Comparisons that come with the package, by name."""


class Comparison(BaseModel):
    """What a comparison file holds: grids, whose runs with equal settings are the same run.

    models: those of every grid that names none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    about: str = ""
    models: tuple[str, ...] = ()
    grids: tuple[Grid, ...] = Field(default=(Grid(),), min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _spread_models(cls, value: Any) -> Any:
        grids = value.get("grids", [{}]) if isinstance(value, dict) and value.get("models") else None
        if not isinstance(grids, list):
            return value
        return value | {"grids": [{"models": value["models"], **g} if isinstance(g, dict) else g for g in grids]}

    def runs(self) -> list[ComparedRun]:
        """The runs of all grids, each once; of several models, the rows are named after theirs too."""
        runs = told_apart(list(dict.fromkeys(run for grid in self.grids for run in grid.runs())))
        if len({run.config.model for run in runs}) == 1:
            return runs
        return [replace(run, variant=f"{run.variant} on {run.config.model}") for run in runs]

    def overridden(
        self,
        tasks: Sequence[str],
        strategies: Sequence[str],
        amounts: Mapping[str, Sequence[Any]],
        settings: Mapping[str, Any],
        **fields: Any,
    ) -> "Comparison":
        """The comparison with what the command line gives.

        Args:
            tasks: Where grids name them all, every grid keeps its own; else they replace those of the first grid.
                () = as in the file.
            strategies: Likewise, of the grids that are left.
            amounts: Likewise, `per_label` or `rows`, but where no grid names one they replace those of every grid.
            settings: Replace settings of all grids. A model that grids name among their `models` keeps these grids.
            fields: Other fields of every grid; None = as in the file.
        """
        given = {name: value for name, value in fields.items() if value is not None}
        given |= {"pairs": 0} if given.keys() & {"seeds", "data_seeds"} else {}
        given |= {"models": ()} if "model" in settings else {}
        kept = [grid for grid in self.grids if settings.get("model") in grid.models] or list(self.grids)
        chosen = {"tasks": tasks, "strategies": strategies, **amounts}
        for key, values in ((key, values) for key, values in chosen.items() if values):
            named = {*values} <= {value for grid in kept for value in getattr(grid, key)}
            other = dict.fromkeys(("per_label", "rows"), ()) if key in amounts else {}
            for place, grid in enumerate(kept):
                replaced = not named and (place == 0 or key in amounts)
                own = values if replaced else [value for value in values if value in getattr(grid, key)]
                kept[place] = grid.model_copy(update={**other, key: tuple(own)})
            kept = [grid for grid in kept if getattr(grid, key)]
        grids = []
        for grid in kept:
            changed = {"settings": grid.settings | dict(settings)}
            changed |= {"preferred": {name: value for name, value in grid.preferred.items() if name not in settings}}
            grids.append(grid.model_copy(update={**given, **changed}))
        return self.model_copy(update={"grids": tuple(grids)})


def told_apart(runs: Sequence[ComparedRun]) -> list[ComparedRun]:
    """Rows of several grids that are called alike, named after the settings in which they differ, as lists are."""
    rows: dict[tuple[object, ...], list[ComparedRun]] = {}
    places = [(r.variant, r.config.task, r.config.model, Amount.of(vars(r.config))) for r in runs]
    for place, run in zip(places, runs, strict=True):
        rows.setdefault(place, []).append(run)
    names = [name for name in RunConfig.model_fields if name not in SEEDS]
    differing = {
        place: [name for name in names if len({getattr(run.config, name) for run in own}) > 1]
        for place, own in rows.items()
    }
    found = []
    for place, run in zip(places, runs, strict=True):
        values = [(name, getattr(run.config, name)) for name in differing[place]]
        suffix = "".join(f" {name} {value}" for name, value in values if value not in (None, ""))
        found.append(replace(run, variant=run.variant + suffix))
    return found


def split_names(text: str, what: str) -> list[str]:
    """'a, b' -> ['a', 'b'], without repetitions; none at all is an InputError."""
    names = list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not names:
        raise InputError(f"{what} is empty; give at least one, comma-separated.")
    return names


def comparison_of(
    preset: str = "",
    strategies: str = "",
    per_label: str = "",
    rows: str = "",
    seeds: int | None = None,
    data_seeds: int | None = None,
    demo_seeds: int | None = None,
    **settings: str | None,
) -> Comparison:
    """The preset (a name or a file) with what the flags say; '' and None count as not given."""
    given = {name: value for name, value in settings.items() if value}
    if (typed := make_config({name: given.get(name) for name in ("task", *DATA_FIELDS)})).data:
        given |= {"task": typed.task, "data": typed.data}
    task = given.pop("task", None)
    amounts: dict[str, tuple[Any, ...]] = {}
    for name, text in (("per_label", per_label), ("rows", rows)):
        if text:
            configs = [make_config({name: word}) for word in split_names(text, f"--{name.replace('_', '-')}")]
            amounts[name] = tuple(getattr(config, name) for config in configs)
    if len(amounts) > 1:
        raise InputError(f"per_label={per_label} and rows={rows}: give one of --per-label and --rows, not both.")
    names = split_names(strategies, "--strategies") if strategies else []
    made = (read_comparison(preset) if preset else Comparison()).overridden(
        tasks=[task] if task else [],
        strategies=NAMED if names == ["all"] else names,
        amounts=amounts,
        settings=given,
        seeds=seeds,
        data_seeds=data_seeds,
        demo_seeds=demo_seeds,
    )
    composed = [[*grid.strategies, *(CONTROLS[name] for name in grid.controls)] for grid in made.grids]
    check_trains([compose(name) for name in dict.fromkeys(chain.from_iterable(composed))], given)
    return made


def read_comparison(name: str) -> Comparison:
    """A preset by name, or the comparison in a file (.yaml)."""
    path = Path(name).expanduser() if name.endswith((".yaml", ".yml")) else lookup("preset", name, PRESETS)
    try:
        return Comparison.model_validate(read_values(path, "comparison"))
    except ValidationError as error:
        raise InputError(f"comparison {path}: {_sentence(error.errors()[0])}") from None


def _sentence(error: Any) -> str:
    """One fault as a sentence: where it is, the law, the value given."""
    place = ".".join(str(part) for part in error["loc"]) or "the file"
    if error["type"] == "extra_forbidden":
        known = Grid.model_fields if "grids" in error["loc"] else Comparison.model_fields
        return f"unknown key {place}; known: {', '.join(known)}.{nearest(str(error['loc'][-1]), known)}"
    law = CONSTRAINT_MESSAGES.get(error["type"], error["msg"]).format(**error.get("ctx", {}))
    law = law.removeprefix("Value error, ").rstrip(".")
    return f"{place}: {law}{'' if law.endswith('?') else '.'} Given: {str(error['input'])[:60]}."
