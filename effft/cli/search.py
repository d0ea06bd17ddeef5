"""`effft search`, `mlflow run . -e search`."""

import time
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from effft.cli.options import FIELDS, Command, Option, Words, examples, option, tracking_options
from effft.cli.run import check_applicable
from effft.config import DATA_FIELDS, TrackingTarget
from effft.errors import InputError, lookup, nearest, positive
from effft.strategies.strategy import NAMED, compose

if TYPE_CHECKING:
    from effft.search.settings import Settings

LIMITS = {"max_trainable_parameters": "trainable_parameters", "max_memory": "peak_memory_mb"}
"""Option -> the resource that it bounds."""


FINALS_SHARE = "0.33"
_PEFT = ("peft_options", "peft_config")
_TEXTS = ("task", *DATA_FIELDS, "model", "revision", "data_dir", "label_words", "device", "metric", *_PEFT)
"""Fields whose text may hold ':' or '|' without being a range."""

SEARCHED = {"alpha"}.union(*(compose(name).space(width=1) for name in NAMED))  # alpha by its ratio to the rank
"""Fields that some strategy's space has: a value given for one fixes it."""


def settings_of(study_values: dict[str, Any], cross_validate: bool) -> "Settings":
    """The study's own settings, checked."""
    from effft.search.samplers import PRUNERS, SAMPLERS
    from effft.search.settings import DIRECTIONS, EXECUTORS, FOLDS, Settings

    lookup("sampler", study_values["sampler"], {**SAMPLERS, "auto": None})
    lookup("pruner", study_values["pruner"], PRUNERS)
    lookup("executor", study_values["executor"], EXECUTORS)
    objectives = tuple(word.strip() for word in study_values["objectives"].split(",") if word.strip())
    for name in objectives:
        lookup("objective", name, DIRECTIONS)
    if not objectives or objectives[0] != "validation" or len(set(objectives)) < len(objectives):
        raise InputError("objectives must start with validation, each once: --objectives validation,peak_memory.")
    limits = [
        (resource, positive(name, study_values[name]) / (1e6 if name == "max_memory" else 1))
        for name, resource in LIMITS.items()
        if study_values[name]
    ]
    folds = study_values["folds"]
    if folds and not (folds.isdecimal() and folds != "1"):
        raise InputError(
            f"folds={folds}: must be a whole number, 0 (the validation draw) or at least 2 (flag --folds)."
        )
    study_values["minutes"] = positive("minutes", study_values["minutes"]) if study_values["minutes"] else 0.0
    share = study_values["finals_share"]
    if share and not study_values["minutes"]:
        raise InputError(f"finals_share={share}: counts with --minutes only; leave it out.")
    study_values["finals_share"] = positive("finals_share", share or FINALS_SHARE, 1, "a number above 0 and below 1")
    study_values["trials"] = study_values["trials"] or (MOST_TRIALS if study_values["minutes"] else 20)
    study_values["folds"] = int(folds) if folds else FOLDS if cross_validate else 0
    study_values |= {"objectives": objectives, "constraints": tuple(limits)}
    return Settings(**{field.name: study_values[field.name] for field in fields(Settings)})


def _field(name: str) -> Option:
    """A RunConfig field; the default of a searched one is that it is searched."""
    return option(name, has_default=name not in SEARCHED)


STUDIES = Path(__file__).parents[1] / "search" / "studies"
"""One study for each strategy, the folder `search` of the project."""


def read_study(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """Make the values of a study file the defaults of the other options; returns the study's name in the storage."""
    path = STUDIES / f"{value}.yaml" if f"{value}.yaml" in {file.name for file in STUDIES.iterdir()} else Path(value)
    if path.suffix not in (".yaml", ".yml") or ctx.resilient_parsing:
        return value
    from effft.search.spaces import read_space_file

    values = read_space_file(str(path))
    known = [str(option.name) for option in ctx.command.params]
    for name in values:
        if name not in known:
            raise InputError(f"study file {path}: no option is called {name!r}.{nearest(name, known)}")
    ctx.default_map = values
    return values.pop("study", "")


MOST_TRIALS = 10_000  # Trials where minutes alone end a search.
AT_LEAST_ONE = click.IntRange(1)
SAMPLERS = Words(("auto", "gp", "tpe", "random", "nsga2"))
PRUNERS = Words(("wilcoxon", "median", "epochs", "none"))
EXECUTORS = Words(("processes", "ray"))
STUDY = [
    Option("strategy", "Strategy, or parts joined by '+'", "lora"),
    Option(
        "trials",
        "Complete trials; the same command continues up to this number  [default: 20, or what fits into --minutes]",
        None,
        type=AT_LEAST_ONE,
    ),
    Option("minutes", "Minutes for everything: trials, re-evaluations and final runs  [default: no limit]"),
    Option("finals_share", f"Share of --minutes for re-evaluations and final runs  [default: {FINALS_SHARE}]"),
    Option(
        "study",
        "Study file (.yaml) or one of the project's by name (lora), whose values other options replace; any other text "
        "names the study in the storage  [default: task/strategy/per_label/model/seeds]",
        is_eager=True,
        callback=read_study,
    ),
    Option("storage", "Optuna storage, any SQLAlchemy URL", "sqlite:///optuna.db"),
    Option("space", "File (.yaml) of names with a value or a range, which flags replace"),
    Option("alpha_ratio", "LoRA alpha / rank, a value or a range (0.5:4:log2)"),
    Option("sampler", "auto takes gp, and tpe from 8 workers or 40 trials on", "auto", type=SAMPLERS),
    Option("pruner", "Over folds and seeds: wilcoxon or median; per epoch: epochs", "wilcoxon", type=PRUNERS),
    Option("objectives", "validation, then any of peak_memory, train_seconds, trainable_parameters", "validation"),
    Option("max_trainable_parameters", "Constraint on the winner"),
    Option("max_memory", "Constraint on the winner: bytes of peak memory"),
    Option("folds", "Cross-validation folds; 0 takes the validation draw  [default: 4 from 8 examples per label on]"),
    Option("inner_seeds", "Seeds that a trial is averaged over", 1, type=AT_LEAST_ONE),
    Option("reseeds", "Fresh seeds that the top 3 and the default are measured with again", 3, type=AT_LEAST_ONE),
    Option("seeds", "Fresh seeds of the final runs", 5, type=AT_LEAST_ONE),
    Option("data_seeds", "Draws of examples in the final runs, from --data-seed on", 1, type=AT_LEAST_ONE),
    Option("workers", "Trials measured at the same time, one thread each", 1, "Workers", type=AT_LEAST_ONE),
    Option(
        "executor", "Who measures: processes of this machine, or a Ray cluster", "processes", "Workers", type=EXECUTORS
    ),
    Option("ray_address", "Ray cluster: auto (this machine's), local (a new one), or host:port", "auto", "Workers"),
    Option("ray_gpus", "Share of a GPU per trial on Ray", 0.0, "Workers"),
]


@click.command(
    cls=Command,
    params=[*STUDY, *(_field(name) for name in FIELDS if name != "log_model"), *tracking_options()],
    epilog=examples(
        "effft search --study lora --task overlap",
        "effft search --study search/adaptive.yaml --trials 40",
        "effft search --strategy adaptive --learning-rate 1e-4:1e-2:log --epochs 20",
        "effft search --strategy lora+pbft --rank 8 --space my_space.yaml --workers 2",
    ),
)
def search(strategy: str, study: str, storage: str, space: str, target: TrackingTarget, **given: Any) -> None:
    """Tune a strategy with Optuna on validation data alone, then measure the winner on fresh seeds, in domain and OOD.

    A value given for a searched parameter fixes it (--rank 8), a range narrows it (--learning-rate 1e-5:1e-3:log). The
    same command continues a study that was stopped.
    """
    began = time.monotonic()
    named = {name: str(given[name]) for name in FIELDS if given.get(name) not in (None, "")}
    study_values = {name: value for name, value in given.items() if name not in FIELDS}
    from effft.search.ray_executor import check_ray
    from effft.search.settings import CROSS_VALIDATED_FROM

    per_label = named.get("per_label", "32")
    many = per_label.isdecimal() and int(per_label) >= CROSS_VALIDATED_FROM
    settings = settings_of(study_values, cross_validate=many or "rows" in named)
    check_ray(settings.executor, settings.ray_address, settings.ray_gpus)
    from effft.cli.output import Progress, console
    from effft.search.planning import plan_study
    from effft.search.spaces import is_range, read_space_file
    from effft.search.storage import check_storage
    from effft.search.study import run_study
    from effft.tracking import check_target

    requested = {name: value for name, value in named.items() if is_range(value) and name not in _TEXTS}
    requested |= {"alpha_ratio": str(study_values["alpha_ratio"])} if study_values.get("alpha_ratio") else {}
    source, typed = click.get_current_context().get_parameter_source, click.core.ParameterSource.COMMANDLINE
    in_file = read_space_file(space) if space else {}
    requested |= {name: value for name, value in in_file.items() if source(name) != typed}
    unknown = [name for name in requested if name not in (*FIELDS, "alpha_ratio")]
    if unknown:
        raise InputError(f"unknown name in the space: {unknown[0]!r}.{nearest(unknown[0], [*FIELDS, 'alpha_ratio'])}")
    values = {name: value for name, value in named.items() if name not in requested}
    check_applicable(compose(strategy), values)
    fixed = {name: value for name, value in values.items() if name in SEARCHED}
    values = {name: value for name, value in values.items() if name not in fixed} | {"strategy": strategy}
    check_storage(storage)
    check_target(target)
    from effft.runs.session import Session

    session = Session()
    with Progress() as progress:
        progress("load", 0, 0)
        plan = plan_study(values, {**fixed, **requested}, settings, study, session)
        result = run_study(plan, storage or "sqlite:///optuna.db", target, session, progress.runs, progress.line, began)
    verdict = "\n".join(result.sentences)
    console().print(f"study {plan.name}: {verdict}", markup=False)
