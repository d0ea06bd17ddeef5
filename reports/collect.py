"""Runs read back from MLflow as one wide table; nothing else is asked."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from effft.errors import InputError, nearest
from reports.bulk import read_database

TAGS = (
    "task", "strategy", "backbone", "per_label", "seed", "data_seed", "kind", "study", "trainable", "notes",
    "git_commit", "mlflow.parentRunId",
)  # fmt: skip
"""Tags that the report reads; the column of `mlflow.parentRunId` is `parent`."""

KINDS_APART = ("comparison", "study", "report", "reference", "trial")
"""Runs that are no measurement of a strategy on a task."""


@dataclass(frozen=True)
class Collected:
    """frame: one row a run (information, tags, `param:<name>`, `metric:<key>`). place: where it was read."""

    frame: pd.DataFrame
    experiment: str
    experiment_id: str


Row = dict[str, Any]


def collect(client: MlflowClient, experiment: str, parent: str = "") -> Collected:
    """All runs of an experiment, or the children of one run.

    Raises:
        InputError: there is no such experiment, with the nearest name.
    """
    try:
        found = client.get_experiment_by_name(experiment)
    except MlflowException as error:
        raise InputError(f"experiment {experiment!r}: {' '.join(str(error).split())[:200]}") from None
    if found is None:
        names = [e.name for e in client.search_experiments() if e.name.startswith("effft/")]
        known = ", ".join(names) or "none yet; `effft compare` makes the first"
        raise InputError(f"no experiment {experiment!r}; with runs of effft: {known}.{nearest(experiment, names)}")
    rows = read_runs(client, str(found.experiment_id), parent)
    return Collected(as_frame(rows), experiment, str(found.experiment_id))


def read_runs(client: MlflowClient, experiment_id: str, parent: str = "") -> Iterable[Row]:
    """A row a run: from the database in one go where MLflow keeps one, else through MLflow's own search."""
    rows = read_database(client, experiment_id)
    if rows is None:
        rows = search(client, experiment_id)
    return [row for row in rows if not parent or row["tags"].get("mlflow.parentRunId") == parent]


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


def of(row: Mapping[str, Any], key: str) -> float:
    """A metric of a row, NaN when it is not there."""
    value = row.get(f"metric:{key}")
    return float("nan") if value is None else float(value)


def only(frame: pd.DataFrame, kinds: Sequence[str]) -> pd.DataFrame:
    """Rows of these kinds."""
    return frame[frame["kind"].isin(kinds)]
