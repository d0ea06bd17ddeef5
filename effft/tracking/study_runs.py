"""The runs of a search study: a parent that a later process goes on with, and a child for every trial."""

import os
from collections.abc import Mapping
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from effft.tracking.mlflow_tracker import MlflowTracker, _send
from effft.tracking.store import prepare_store, quiet_mlflow, resolve_uri
from effft.tracking.tracker import Status

TRIAL = "optuna.trial"
"""Tag of a child: the number of its trial."""


def open_parent(experiment: str, name: str, tags: Mapping[str, str], uri: str, known: str) -> MlflowTracker:
    """The parent run of a study: `known` when it is there, else a new one (or the one that `mlflow run` made).

    A run that `mlflow run` made for a study that has a parent already is only tagged with it. Experiments that
    `mlflow run` chose for this process count for the parent alone.
    """
    given = os.environ.get("MLFLOW_RUN_ID", "")
    if known and _is_there(known, uri):
        os.environ["MLFLOW_RUN_ID"] = known
    tracker = MlflowTracker.open(experiment, name, tags, tracking_uri=uri, recover=False)  # Optuna knows it all
    if given:
        os.environ.pop("MLFLOW_EXPERIMENT_ID", None)
    if known == tracker.run_id:
        _send(tracker.client.update_run, known, status="RUNNING")
        if given and given != known:
            _send(tracker.client.set_tag, given, "study.parent", known)
    return tracker


def _is_there(run_id: str, uri: str) -> bool:
    quiet_mlflow()
    place = resolve_uri(uri)
    prepare_store(place)
    try:
        return bool(MlflowClient(tracking_uri=place).get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException:
        return False


def trial_runs(parent: MlflowTracker) -> dict[int, tuple[str, str]]:
    """Trial number -> (run id, status) of the children of a study's parent."""
    words = f"tags.`mlflow.parentRunId` = '{parent.run_id}'"
    found: dict[int, tuple[str, str]] = {}
    token = None
    while True:
        page: Any = _send(parent.client.search_runs, [parent.experiment_id], words, max_results=1000, page_token=token)
        for run in page:
            if TRIAL in run.data.tags:
                found[int(run.data.tags[TRIAL])] = (run.info.run_id, run.info.status)
        token = page.token
        if not token:
            return found


def reopen_run(parent: MlflowTracker, run_id: str) -> MlflowTracker:
    """A tracker on a child run that exists; what it logged stays."""
    known = _send(parent.client.get_run, run_id).data.params
    return MlflowTracker(parent.line, parent.experiment_id, run_id, known)


def set_status(parent: MlflowTracker, run_id: str, status: Status) -> None:
    """Set how a child run ended."""
    _send(parent.client.set_terminated, run_id, status)
