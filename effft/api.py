"""The interface for Python: what the command line does, with results as values.

The command line calls the same functions and prints what they return.
"""

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

from effft.adapted_model import Adaptation, AdaptedModel
from effft.config import RunConfig, TrackingTarget, make_config
from effft.data.files import write_jsonl
from effft.errors import InputError
from effft.progress import ProgressCallback, say, silent
from effft.runs.compare import PlannedComparison
from effft.runs.comparison_file import comparison_of
from effft.runs.experiment import Result, execute
from effft.runs.plan import check_saved, prepare
from effft.runs.session import Session
from effft.spellings import DATA_FILE, data_address
from effft.strategies.strategy import check_trains, compose
from effft.tasks.from_data import task_name
from effft.tracking import check_target, open_tracker
from effft.tracking.tracker import Tracker, tracked

if TYPE_CHECKING:
    from pandas import DataFrame

    from effft.choice.choice import Answer

Data: TypeAlias = Union[str, Path, "DataFrame"]


def adapt(
    strategy: str = "lora",
    data: Data | None = None,
    *,
    test: Data | None = None,
    ood: Data | Mapping[str, Data] | None = None,
    name: str = "data",
    tracking_uri: str = "",
    experiment: str = "",
    no_tracking: bool = False,
    **flags: Any,
) -> Adaptation:
    """Adapt a model with a strategy and measure it: `effft run STRATEGY`.

    Args:
        strategy: Name, or parts joined by '+'.
        data: Labelled rows: a DataFrame, a file, or a data set of the hub. Without them name a `task`.
        test: More such rows for the evaluation in domain.
        ood: Rows of another kind; several by name.
        name: Name of the task where `data` is a DataFrame.
        tracking_uri: MLflow tracking URI ('' = MLFLOW_TRACKING_URI, else ./mlflow.db).
        experiment: MLflow experiment ('' = effft/<task>).
        no_tracking: Keep no run.
        **flags: Every flag of `effft run STRATEGY --help`: `text="body"`, `label="stars"`, `model=...`, `per_label=8`.

    Raises:
        InputError: anything that the command line would refuse, in the same sentence.
    """
    check_trains([compose(strategy)], [name for name, value in flags.items() if value not in (None, "")])
    place = tempfile.TemporaryDirectory(prefix="effft-adapted-")
    with tempfile.TemporaryDirectory(prefix="effft-data-") as rows:
        config = make_config({**_spelled(flags), **data_flags(data, test, ood, Path(rows), name), "strategy": strategy})
        target = TrackingTarget(tracking_uri, experiment, no_tracking)
        check_target(target, config.log_model)
        result, tracker = track_run(config, target, keep=Path(place.name) / "saved")
    return Adaptation(result, tracker.run_id, place)


def load(folder: str | Path) -> AdaptedModel:
    """A model that `save` wrote.

    Raises:
        InputError: the folder holds none.
    """
    model = AdaptedModel(Path(folder).expanduser().resolve())  # it is read later, wherever the process is then
    assert model.manifest
    return model


def track_run(
    config: RunConfig, target: TrackingTarget, progress: ProgressCallback = silent, keep: Path | None = None
) -> tuple[Result, Tracker]:
    """Check everything, open the tracked run, train and evaluate.

    keep: a new folder for the adapted model.
    """
    progress("load", 0, 0)
    if keep:
        check_saved(config)
    plan = prepare(config, Session(keep=False))
    batches = plan.folds or plan.evaluated.keys() & {"validation", "in_domain"}
    if (keep or config.log_model) and plan.strategy.calibrates_batches and not batches:
        raise InputError(
            "calibration=batch: a saved model keeps that of the texts that are measured in domain or out of fold, and "
            "none are; take another --calibration."
        )
    tracker = open_tracker(target, plan.experiment, plan.name, plan.tags)
    with tracked(tracker):
        for note in plan.notes:
            say(note)
        return execute(plan, tracker, progress, keep=keep), tracker


def compare(
    strategies: Sequence[str] | str = (),
    data: Data | None = None,
    *,
    test: Data | None = None,
    ood: Data | Mapping[str, Data] | None = None,
    name: str = "data",
    preset: str = "",
    seeds: int | None = None,
    data_seeds: int | None = None,
    demo_seeds: int | None = None,
    workers: int = 1,
    tracking_uri: str = "",
    experiment: str = "",
    no_tracking: bool = False,
    **flags: Any,
) -> "DataFrame":
    """Run several strategies on the same examples: `effft compare`.

    Args:
        strategies: Names, or parts joined by '+'; all named ones where none is given.
        data: As for `adapt`.
        test: As for `adapt`.
        ood: As for `adapt`.
        name: As for `adapt`.
        preset: Comparison to start from: quick, reference, published, or a file (.yaml).
        seeds: Number of seeds (3).
        data_seeds: Number of few-shot draws (1).
        demo_seeds: Number of draws of demonstrations (1).
        workers: Runs at the same time, in processes of one thread.
        tracking_uri: As for `adapt`.
        experiment: As for `adapt`.
        no_tracking: As for `adapt`.
        **flags: Every flag of a run: `per_label=[8, 32]`, `model=...`.

    Returns:
        A row for each strategy and number of examples, best in domain first, as in the table of `effft compare`: the
        mean of the main metric on each split with `_sd`, `_low` and `_high`, gap, labels used, costs, remarks. With
        several tasks there is a column `task`.

    Raises:
        InputError: anything that the command line would refuse, in the same sentence.
    """
    import pandas as pd

    from effft.tracked_comparison import track_comparison

    with tempfile.TemporaryDirectory(prefix="effft-data-") as rows:
        given: dict[str, Any] = {k: "" if v is None else str(v) for k, v in _spelled(flags).items()}
        given |= data_flags(data, test, ood, Path(rows), name)
        given |= {"seeds": seeds, "data_seeds": data_seeds, "demo_seeds": demo_seeds}
        chosen = comparison_of(preset, ",".join(_names(strategies)), **given)
        target = TrackingTarget(tracking_uri, experiment, no_tracking)
        runs = chosen.runs()
        check_target(target, any(run.config.log_model for run in runs))
        job = PlannedComparison(runs, workers, Session())
        with track_comparison(job, target, lambda compared: None) as found:
            frames = [task.table.frame().assign(task=task.name) for task in found]
    table = pd.concat(frames, ignore_index=True)
    return table if len(frames) > 1 else table.drop(columns="task")


def choose(
    data: Data | None = None,
    *,
    minutes: float | str = 20,
    memory: str = "",
    latency: str = "",
    models: Sequence[str] | str = (),
    ood: Data | Mapping[str, Data] | None = None,
    test: Data | None = None,
    name: str = "data",
    study: str = "",
    storage: str = "sqlite:///optuna.db",
    tracking_uri: str = "",
    experiment: str = "",
    no_tracking: bool = False,
    average: bool = False,
    progress: ProgressCallback = silent,
    began: float | None = None,
    **flags: Any,
) -> "Answer":
    """Which strategy to take for these rows, within these minutes: `effft choose`.

    Args:
        data: As for `adapt`.
        minutes: What everything may take, the final training included.
        memory: What the process may take, such as '8GB'.
        latency: What a query may take, such as '50ms'.
        models: Models to choose from; `model` where none is given.
        ood: As for `adapt`.
        test: As for `adapt`; nothing selects on it.
        name: As for `adapt`.
        study: Name of the study in the storage, which an interrupted choice goes on in.
        storage: Optuna storage, any SQLAlchemy URL.
        tracking_uri: As for `adapt`.
        experiment: As for `adapt`.
        no_tracking: As for `adapt`; the recommended model is not kept then.
        average: Train all finalists; the model is the mean of their probabilities, weighted by P(best).
        progress: Called with what is measured.
        began: When the work began, as `time.monotonic` tells it; now, where not given.
        **flags: Every other flag of `effft choose --help`: `rows=64`, `epochs=10`.

    Returns:
        The answer: `candidate` is what to use, `sentences` say why, `table` has every candidate.

    Raises:
        InputError: anything that the command line would refuse, in the same sentence.
    """
    from effft.choice.candidates import limits_of
    from effft.choice.choice import run_choice
    from effft.choice.plan import plan_choice
    from effft.search.storage import check_storage

    if "strategy" in flags:
        raise InputError("strategy: a choice is among all of them; leave it out, or take effft.adapt.")
    if own := {"log_model", "cross_validation"} & flags.keys():
        raise InputError(f"{min(own)}: a choice decides this itself; leave it out.")
    began, limits = began or time.monotonic(), limits_of(minutes, memory, latency)
    with tempfile.TemporaryDirectory(prefix="effft-data-") as rows:
        given = {**_spelled(flags), **data_flags(data, test, ood, Path(rows), name)}
        config, target = make_config(given), TrackingTarget(tracking_uri, experiment, no_tracking)
        check_target(target)
        check_storage(storage)
        progress("load", 0, 0)
        if not given.keys() & {"data", "task"}:
            say(f"neither --data nor --task is given, so this is about the built-in task {config.task!r}.")
        session = Session()
        plan = plan_choice(given, _names(models) or [config.model], limits, study, session, average)
        return run_choice(plan, storage, target, session, began, progress, say)


def _names(given: Sequence[str] | str) -> list[str]:
    """A name by itself is one of a list; each once."""
    return [name for name in dict.fromkeys([given] if isinstance(given, str) else given) if name]


def data_flags(
    data: Data | None, test: Data | None, ood: Data | Mapping[str, Data] | None, folder: Path, name: str
) -> dict[str, str]:
    """The flags `data`, `test` and `ood`; a DataFrame becomes a file in `folder`, that of `data` is called `name`.

    Raises:
        InputError: a DataFrame cannot be written, or a set of `ood` would be called otherwise than its key.
    """
    name = name.replace("/", "-")

    def named(value: Any, name: str) -> str:
        if not hasattr(value, "columns") and not isinstance(value, str | PathLike):
            raise InputError(
                f"{name}: this is a {type(value).__name__}; give a DataFrame, a path or a data set's name."
            )
        if not hasattr(value, "columns"):
            return str(value)
        own = folder / name  # so that a frame called `train` keeps its name
        own.mkdir(parents=True)
        return str(write_jsonl(own / f"{own.name}.jsonl", value))

    given = {"data": (data, name), "test": (test, f"{name}-test")}
    flags = {flag: named(value, file) for flag, (value, file) in given.items() if value is not None}
    for key, value in ood.items() if isinstance(ood, Mapping) else ():
        address = f"{key}/{key}.jsonl" if hasattr(value, "columns") else data_address(str(value))
        if DATA_FILE.fullmatch(address) and (found := task_name(address)) != str(key):
            raise InputError(
                f"ood={key}: this set would be called {found!r}, as files and data sets of the hub keep theirs and "
                "a name has no other characters than letters, digits, '_', '-' and '.'; give it that name."
            )
    if ood is not None:
        sets = ood if isinstance(ood, Mapping) else {"ood": ood}
        flags["ood"] = ",".join(named(value, f"ood/{key}") for key, value in sets.items())
    return flags


def _spelled(flags: Mapping[str, Any]) -> dict[str, Any]:
    """As on the command line: mappings as JSON, lists with commas (text=["a", "b"] is --text a,b), paths as text."""

    def spelled(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return ",".join(map(str, value))
        return json.dumps(value) if isinstance(value, Mapping) else str(value) if isinstance(value, Path) else value

    return {name: spelled(value) for name, value in flags.items()}
