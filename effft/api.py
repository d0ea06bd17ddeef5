"""The interface for Python: what the command line does, with results as values.

The command line calls the same functions and prints what they return.
"""

import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np
from numpy.typing import NDArray

from effft.config import RunConfig, TrackingTarget, make_config
from effft.data.files import write_jsonl
from effft.errors import InputError
from effft.evaluation.metrics import softmax
from effft.progress import ProgressCallback, say, silent
from effft.runs.compare import PlannedComparison
from effft.runs.experiment import Result, execute
from effft.runs.grid import comparison_of
from effft.runs.plan import prepare
from effft.runs.session import Session
from effft.serving.load import SavedModel
from effft.serving.manifest import Manifest, read_manifest
from effft.tracked_comparison import track_comparison
from effft.tracking import check_target, open_tracker
from effft.tracking.tracker import Tracker, tracked

if TYPE_CHECKING:
    from pandas import DataFrame

    from effft.choice.choice import Answer

Data: TypeAlias = Union[str, Path, "DataFrame"]
Rows: TypeAlias = Union[Sequence[str], Sequence[Sequence[str]], "DataFrame"]


class AdaptedModel:
    """A model that `save` wrote, or that a run made.

    Args:
        folder: The saved model; read when it is first used.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._place: tempfile.TemporaryDirectory[str] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """The bytes of the saved model's files, and everything else that is no cache of it."""
        files = {str(p.relative_to(self._folder)): p.read_bytes() for p in self._folder.rglob("*") if p.is_file()}
        kept = {name: value for name, value in vars(self).items() if name not in ("manifest", "_model")}
        return kept | {"_folder": files, "_place": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Write the files into a temporary folder of this process."""
        vars(self).update(state)
        self._place = tempfile.TemporaryDirectory(prefix="effft-adapted-")
        self._folder = Path(self._place.name) / "saved"
        for name, content in state["_folder"].items():
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    @cached_property
    def manifest(self) -> Manifest:
        """What the saved model says of itself."""
        return read_manifest(self._folder)

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names, in the order of the columns of `predict_proba`."""
        return self.manifest.labels

    @cached_property
    def _model(self) -> SavedModel:
        return SavedModel.load(self._folder)

    def predict(self, texts: Rows) -> list[Any]:
        """The label of each text; of each row of texts where the task has several text fields.

        Where a text can have several labels, the list of them.

        Args:
            texts: Texts; or rows of texts in the order of the fields; or a DataFrame with a column for each field.

        Raises:
            InputError: a value is no text, or a row has another number of texts.
        """
        task = self.manifest.read_task()
        names = [task.named(answer) for answer in self._scores(texts).argmax(axis=-1).tolist()]
        return names if task.multi_label else [name for (name,) in names]

    def predict_proba(self, texts: Rows) -> NDArray[np.float64]:
        """Probabilities, (rows, labels); `texts` as for `predict`."""
        probabilities = softmax(self._scores(texts))
        return probabilities[..., 1] if self.manifest.multi_label else probabilities

    def save(self, folder: str | Path) -> Path:
        """Copy the model to a new folder: `effft.load(folder)`, `effft predict --model FOLDER` read it.

        Raises:
            InputError: the folder is there already.
        """
        to = Path(folder).expanduser()
        if to.exists():
            raise InputError(f"folder {to}: it is there already; name a new one.")
        shutil.copytree(self._folder, to)
        return to

    def _scores(self, texts: Rows) -> NDArray[np.float64]:
        fields = self.manifest.fields
        if isinstance(texts, str):
            raise InputError("predict takes a list of texts; put the one text into a list.")
        if hasattr(texts, "columns"):
            frame: Any = texts
            texts = list(zip(*(frame[name] for name in _columns(frame, self.manifest)), strict=True))
        rows = [(row,) if len(fields) == 1 and not isinstance(row, list | tuple) else tuple(row) for row in texts]
        for number, row in enumerate(rows):
            if len(row) != len(fields):
                raise InputError(f"row {number}: {len(row)} texts where {len(fields)} are read ({', '.join(fields)}).")
        if not rows:
            return np.empty((0, *self.manifest.read_task().score_shape))
        return self._model.scores(rows)


class Adaptation(AdaptedModel):
    """What a run gave: the adapted model, and what it measured.

    result: metrics, notes and predictions. run_id: of the tracked run, '' where nothing is tracked.
    """

    def __init__(self, result: Result, run_id: str, place: "tempfile.TemporaryDirectory[str]") -> None:
        super().__init__(Path(place.name) / "saved")
        self.result, self.run_id, self._place = result, run_id, place  # the folder goes with the last reference

    @property
    def metrics(self) -> dict[str, float]:
        """Every number by its key, such as `in_domain/accuracy` or `ood/books/macro_f1_low`."""
        return self.result.metrics

    def __repr__(self) -> str:
        primary = self.result.primary
        shown = {k: round(v, 3) for k, v in self.metrics.items() if k.endswith(f"/{primary}") and "slice" not in k}
        return f"<Adaptation {self.result.name}: {shown}>"


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
        no_tracking: Keep nothing.
        **flags: Every flag of `effft run STRATEGY --help`: `text="body"`, `label="stars"`, `model=...`, `per_label=8`.

    Raises:
        InputError: anything that the command line would refuse, in the same sentence.
    """
    place = tempfile.TemporaryDirectory(prefix="effft-adapted-")
    with tempfile.TemporaryDirectory(prefix="effft-data-") as rows:
        config = make_config({**_spelled(flags), **data_flags(data, test, ood, Path(rows), name), "strategy": strategy})
        target = TrackingTarget(tracking_uri, experiment, no_tracking)
        check_target(target)
        result, tracker = track_run(config, target, keep=Path(place.name) / "saved")
    return Adaptation(result, tracker.run_id, place)


def load(folder: str | Path) -> AdaptedModel:
    """A model that `save` wrote.

    Raises:
        InputError: the folder holds none.
    """
    model = AdaptedModel(Path(folder).expanduser())
    assert model.manifest
    return model


def track_run(
    config: RunConfig, target: TrackingTarget, progress: ProgressCallback = silent, keep: Path | None = None
) -> tuple[Result, Tracker]:
    """Check everything, open the tracked run, train and evaluate.

    keep: a new folder for the adapted model.
    """
    progress("load", 0, 0)
    plan = prepare(config, Session(keep=False))
    tracker = open_tracker(target, plan.experiment, plan.name, plan.tags)
    with tracked(tracker):
        for note in plan.notes:
            say(note)
        return execute(plan, tracker, progress, keep=keep), tracker


def compare(
    strategies: Sequence[str] = (),
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
        **flags: Every other flag of `effft compare --help`: `per_label=[8, 32]`, `model=...`.

    Returns:
        A row for each strategy and number of examples, best in domain first, as in the table of `effft compare`: the
        mean of the main metric on each split with `_sd`, `_low` and `_high`, gap, labels used, costs, remarks. With
        several tasks there is a column `task`.

    Raises:
        InputError: anything that the command line would refuse, in the same sentence.
    """
    import pandas as pd

    with tempfile.TemporaryDirectory(prefix="effft-data-") as rows:
        given: dict[str, Any] = {k: "" if v is None else str(v) for k, v in _spelled(flags).items()}
        given |= data_flags(data, test, ood, Path(rows), name)
        given |= {"seeds": seeds, "data_seeds": data_seeds, "demo_seeds": demo_seeds}
        chosen = comparison_of(preset, ",".join(strategies), **given)
        target = TrackingTarget(tracking_uri, experiment, no_tracking)
        check_target(target)
        job = PlannedComparison(chosen.runs(), workers, Session())
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
    models: Sequence[str] = (),
    ood: Data | Mapping[str, Data] | None = None,
    test: Data | None = None,
    name: str = "data",
    study: str = "",
    storage: str = "sqlite:///optuna.db",
    tracking_uri: str = "",
    experiment: str = "",
    no_tracking: bool = False,
    progress: ProgressCallback = silent,
    began: float | None = None,
    **flags: Any,
) -> "Answer":
    """Which strategy to take for these rows, within these minutes: `effft choose`.

    Args:
        data: As for `adapt`.
        minutes: What everything may take, the final training included.
        memory: What a training may take, such as '8GB'.
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
        progress: Called with what is measured.
        began: When the work began, as `time.monotonic` tells it; now, where not given.
        **flags: Every other flag of `effft choose --help`: `rows=64`, `epochs=10`.

    Returns:
        The answer: `candidate` is what to use, `sentences` say why, `table` has every candidate.

    Raises:
        InputError: anything that the command line would refuse, in the same sentence.
    """
    from effft.choice.candidates import limits_of
    from effft.choice.choice import plan_choice, run_choice
    from effft.search.storage import check_storage

    began, limits = began or time.monotonic(), limits_of(minutes, memory, latency)
    with tempfile.TemporaryDirectory(prefix="effft-data-") as rows:
        given = {**_spelled(flags), **data_flags(data, test, ood, Path(rows), name)}
        config, target = make_config(given), TrackingTarget(tracking_uri, experiment, no_tracking)
        check_target(target)
        check_storage(storage)
        progress("load", 0, 0)
        session = Session()
        plan = plan_choice(given, list(models) or [config.model], limits, study, session)
        return run_choice(plan, storage, target, session, began, progress, say)


def data_flags(
    data: Data | None, test: Data | None, ood: Data | Mapping[str, Data] | None, folder: Path, name: str
) -> dict[str, str]:
    """The flags `data`, `test` and `ood`; a DataFrame becomes a file in `folder`, that of `data` is called `name`."""

    def named(value: Any, name: str) -> str:
        return str(write_jsonl(folder / f"{name}.jsonl", value)) if hasattr(value, "columns") else str(value)

    given = {"data": (data, name), "test": (test, f"{name}-test")}
    flags = {flag: named(value, file) for flag, (value, file) in given.items() if value is not None}
    if ood is not None:
        sets = ood if isinstance(ood, Mapping) else {"ood": ood}
        flags["ood"] = ",".join(named(value, str(file)) for file, value in sets.items())
    return flags


def _spelled(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Lists as the command line spells them: text=["premise", "hypothesis"] is `--text premise,hypothesis`."""
    return {k: ",".join(map(str, v)) if isinstance(v, list | tuple) else v for k, v in flags.items()}


def _columns(frame: Any, manifest: Manifest) -> list[str]:
    """The columns of a DataFrame that hold the fields: of their names, or of the columns that the task reads."""
    sources = manifest.read_task().train.sources[0].fields
    found = []
    for field in manifest.fields:
        names = [name for name in (field, *sources.get(field, ())) if name in frame.columns]
        if not names:
            raise InputError(f"the DataFrame has no column {field!r}; it has: {', '.join(map(str, frame.columns))}.")
        found.append(names[0])
    return found
