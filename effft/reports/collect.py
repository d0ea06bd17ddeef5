"""The runs of a report as one wide table, read back from MLflow; nothing else is asked."""

import json
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from effft.errors import InputError, nearest
from effft.tracking.reading import PARENT, RunReader, StoredRun

TAGS = (
    "task", "strategy", "backbone", "per_label", "seed", "data_seed", "kind", "study", "tuned", "notes", "git_commit",
    "task_digest", "model_digest",
)  # fmt: skip
"""Tags that the report reads, each a column."""

STUDIES = "studies"
"""Tag of a comparison of tuned strategies: the names of its studies, as JSON."""

NO_RESULT = ("comparison", "study", "report", "control", "trial")
"""Kinds of runs that are no measurement of a strategy on a task."""


@dataclass(frozen=True)
class Collected:
    """frame: one row for every run (information, tags, `param:<name>`, `metric:<key>`); experiment: where they belong.

    studies: the names of the only studies that are meant; None = all of the task.
    """

    frame: pd.DataFrame
    experiment: str
    studies: tuple[str, ...] | None = None


def collect(reader: RunReader, experiment: str, parent: str = "") -> Collected:
    """All runs of an experiment; or, of some parents ('id,id'), their children and the final runs of their studies.

    Raises:
        InputError: There is no such experiment (the nearest name is suggested), or no such parent.
    """
    runs = reader.runs_of(experiment)
    known = reader.experiments()
    if not runs and experiment not in known:
        names = [name for name in known if name.startswith("effft/")]
        listed = ", ".join(names) or "none yet; `effft compare` makes the first"
        raise InputError(f"no experiment {experiment!r}; with runs of effft: {listed}.{nearest(experiment, names)}")
    if not parent:
        return Collected(as_frame(runs), experiment)
    parents = [word.strip() for word in parent.split(",") if word.strip()]
    studies = tuple(name for one in parents for name in studies_under(reader, one))
    chosen = [
        run
        for run in runs
        if run.tags.get(PARENT) in parents or (run.tags.get("kind") == "final" and run.tags.get("study") in studies)
    ]
    return Collected(as_frame(chosen), experiment, studies)


def studies_under(reader: RunReader, parent: str) -> tuple[str, ...]:
    """The studies that a comparison ran, or the study itself.

    Raises:
        InputError: There is no such run.
    """
    run = reader.run(parent)
    if run is None:
        raise InputError(f"parent={parent}: there is no such run in this store (flag --parent).")
    if run.tags.get("kind") == "study":
        return (run.tags.get("study", ""),)
    try:
        return tuple(str(name) for name in json.loads(run.tags.get(STUDIES, "[]")))
    except ValueError:
        return ()


def as_frame(runs: Iterable[StoredRun]) -> pd.DataFrame:
    """One row for every run, the oldest first; numbers that a run lacks are NaN, words that it lacks ''."""
    flat = [
        {"run_id": run.run_id, "name": run.name, "status": run.status, "started": run.started}
        | {tag: run.tags.get(tag, "") for tag in TAGS}
        | {f"param:{key}": value for key, value in run.params.items()}
        | {f"metric:{key}": value for key, value in run.metrics.items()}
        for run in runs
    ]
    frame = pd.DataFrame.from_records(flat, columns=None if flat else ["run_id", "name", "status", "started", *TAGS])
    for name in ("per_label", "seed", "data_seed"):
        frame[name] = pd.to_numeric(frame[name], errors="coerce").astype("Float64").astype("Int64")
    params = [column for column in frame.columns if column.startswith("param:")]
    words = {column: frame[column].fillna("").astype(str) for column in params}
    return frame.assign(**words).sort_values(["started", "run_id"], ignore_index=True)


def metric_names(frame: pd.DataFrame) -> list[str]:
    """The metric keys of the frame."""
    return [column.removeprefix("metric:") for column in frame.columns if column.startswith("metric:")]
