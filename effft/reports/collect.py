"""Runs read back from MLflow as one wide table; nothing else is asked."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from effft.errors import InputError, nearest
from effft.reports.bulk import read_database
from effft.tracking.mlflow_tracker import HOME

TAGS = (
    "task", "strategy", "backbone", "per_label", "seed", "data_seed", "kind", "study", "tuned", "trainable", "notes",
    "git_commit", "mlflow.parentRunId",
)  # fmt: skip
"""Tags that the report reads; the column of `mlflow.parentRunId` is `parent`."""

STUDIES = "studies"
"""Tag of a comparison of tuned strategies: the names of its studies, as JSON."""

KINDS_APART = ("comparison", "study", "report", "reference", "trial")
"""Runs that are no measurement of a strategy on a task."""


@dataclass(frozen=True)
class Collected:
    """frame: one row a run (information, tags, `param:<name>`, `metric:<key>`). experiment: where they belong.

    studies: the only ones that are meant, by name; None = all of the task.
    """

    frame: pd.DataFrame
    experiment: str
    studies: tuple[str, ...] | None = None


Row = dict[str, Any]


def collect(client: MlflowClient, experiment: str, parent: str = "") -> Collected:
    """All runs that belong to an experiment; or, of some parents ('id,id'), the children and the finals of studies.

    Raises:
        InputError: there is no such experiment, with the nearest name; no such parent.
    """
    try:
        found = client.get_experiment_by_name(experiment)
        places = {} if found is None else {str(found.experiment_id): False}
        places |= {place: True for place in host_experiments(client, experiment) if place not in places}
    except MlflowException as error:
        raise InputError(f"experiment {experiment!r}: {' '.join(str(error).split())[:200]}") from None
    if not places:
        names = [e.name for e in client.search_experiments() if e.name.startswith("effft/")]
        known = ", ".join(names) or "none yet; `effft compare` makes the first"
        raise InputError(f"no experiment {experiment!r}; with runs of effft: {known}.{nearest(experiment, names)}")
    rows = [
        row
        for place, foreign in places.items()
        for row in read_runs(client, place)
        if not foreign or row["tags"].get(HOME) == experiment
    ]
    if not parent:
        return Collected(as_frame(rows), experiment)
    parents = [word.strip() for word in parent.split(",") if word.strip()]
    studies = tuple(name for one in parents for name in studies_under(client, one))
    mine = [row for row in rows if is_under(row, parents, studies)]
    return Collected(as_frame(mine), experiment, studies)


def host_experiments(client: MlflowClient, experiment: str) -> list[str]:
    """Experiments that hold runs of another one: `mlflow run` puts its run, and with it the children, into Default."""
    words = f"tags.`{HOME}` = {quoted(experiment)}"
    every = [str(e.experiment_id) for e in client.search_experiments() if e.name != experiment]
    return [place for place in every if client.search_runs([place], words, max_results=1)]


def quoted(text: str) -> str:
    """A value as MLflow's filters take it; one with both kinds of quotes cannot be said, and finds nothing."""
    return f'"{text}"' if "'" in text else f"'{text}'"


def studies_under(client: MlflowClient, parent: str) -> tuple[str, ...]:
    """The studies that a comparison ran, or the study itself.

    Raises:
        InputError: there is no such run.
    """
    try:
        tags = client.get_run(parent).data.tags
    except MlflowException:
        raise InputError(f"parent={parent}: there is no such run in this store (flag --parent).") from None
    if tags.get("kind") == "study":
        return (tags.get("study", ""),)
    try:
        return tuple(str(name) for name in json.loads(tags.get(STUDIES, "[]")))
    except ValueError:
        return ()


def is_under(row: Row, parents: Sequence[str], studies: Sequence[str]) -> bool:
    """Whether a run is a child of one of the parents, or a final of one of their studies."""
    tags = row["tags"]
    return tags.get("mlflow.parentRunId") in parents or (tags.get("kind") == "final" and tags.get("study") in studies)


def read_runs(client: MlflowClient, experiment_id: str) -> Iterable[Row]:
    """A row a run: from the database in one go where MLflow keeps one, else through MLflow's own search."""
    rows = read_database(client, experiment_id)
    return search(client, experiment_id) if rows is None else rows


def search(client: MlflowClient, experiment_id: str) -> list[Row]:
    """Every active run through the client, page by page (10 ms a run)."""
    rows: list[Row] = []
    token = None
    while True:
        page: Any = client.search_runs([experiment_id], max_results=1000, page_token=token)
        rows += [
            {
                "run_id": run.info.run_id,
                "name": run.info.run_name,
                "status": run.info.status,
                "started": run.info.start_time,
                "metrics": run.data.metrics,
                "params": run.data.params,
                "tags": run.data.tags,
            }
            for run in page
        ]
        token = page.token
        if not token:
            return rows


def as_frame(rows: Iterable[Row]) -> pd.DataFrame:
    """One row a run; numbers that a run lacks are NaN, words that it lacks ''."""
    flat = [
        {key: row[key] for key in ("run_id", "name", "status", "started")}
        | {tag.replace("mlflow.parentRunId", "parent"): row["tags"].get(tag, "") for tag in TAGS}
        | {f"param:{key}": value for key, value in row["params"].items()}
        | {f"metric:{key}": value for key, value in row["metrics"].items()}
        for row in rows
    ]
    base = ["run_id", "name", "status", "started", *(t.replace("mlflow.parentRunId", "parent") for t in TAGS)]
    frame = pd.DataFrame.from_records(flat) if flat else pd.DataFrame(columns=base)
    for name in ("per_label", "seed", "data_seed"):
        frame[name] = pd.to_numeric(frame[name], errors="coerce").astype("Float64").astype("Int64")
    params = [c for c in frame.columns if c.startswith("param:")]
    return frame.assign(**{c: frame[c].fillna("").astype(str) for c in params}).sort_values(
        ["started", "run_id"], ignore_index=True
    )


def metric_names(frame: pd.DataFrame) -> list[str]:
    """The metric keys of the frame."""
    return [c.removeprefix("metric:") for c in frame.columns if c.startswith("metric:")]
