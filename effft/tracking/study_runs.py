"""The runs of a search study: a parent that a later process continues, and a child for every trial."""

import os
from collections.abc import Collection, Mapping
from functools import partial

from mlflow.exceptions import MlflowException

from effft.tracking.mlflow_tracker import MlflowTracker
from effft.tracking.postgres import retry
from effft.tracking.recovery import store_error
from effft.tracking.store import open_client, search_all_runs
from effft.tracking.tracker import Tracker

TRIAL = "optuna.trial"  # Tag of a child: the number of its trial.
FORMER = "former final"  # Kind of the final runs of a winner that more trials have replaced.


def open_parent(experiment: str, name: str, tags: Mapping[str, str], uri: str, run_id: str) -> MlflowTracker:
    """The parent run of a study: `run_id` when the store has it, else a new one (or the one that `mlflow run` made).

    A run that `mlflow run` made for a study that has a parent already is only tagged with it. An experiment that
    `mlflow run` chose for this process counts for the parent alone.
    """
    adopted = os.environ.get("MLFLOW_RUN_ID", "")
    client = open_client(uri)
    try:
        exists = bool(run_id) and client.get_run(run_id).info.lifecycle_stage == "active"
    except MlflowException:
        exists = False
    if exists:
        os.environ["MLFLOW_RUN_ID"] = run_id
    parent = MlflowTracker.open(experiment, name, tags, tracking_uri=uri, recover=False)  # Optuna's storage has it all
    if adopted:
        os.environ.pop("MLFLOW_EXPERIMENT_ID", None)
    try:
        if exists:
            retry(lambda: client.update_run(run_id, status="RUNNING"))
            if adopted not in ("", run_id):
                client.set_tag(adopted, "study.parent", run_id)
    except (MlflowException, OSError) as error:
        raise store_error(error) from error
    return parent


def trial_runs(parent: MlflowTracker) -> dict[int, tuple[str, str]]:
    """Trial number -> (run id, status) of the children of a study's parent."""
    words = f"tags.`mlflow.parentRunId` = '{parent.run_id}'"
    try:
        runs = retry(lambda: list(search_all_runs(parent.client, [parent.home_id], words)))
    except (MlflowException, OSError) as error:
        raise store_error(error) from error
    return {int(run.data.tags[TRIAL]): (run.info.run_id, run.info.status) for run in runs if TRIAL in run.data.tags}


def settle_finals(parent: Tracker, roles: Mapping[str, str], made: Collection[str], winner: int) -> None:
    """Tag final runs with what they are now, and end those whose process died after their last result was kept.

    roles: run id -> 'winner' or 'default'. made: ids of all final runs that the study has made; those of a winner that
    it had before are no result any more. winner: number of its trial.
    """
    assert isinstance(parent, MlflowTracker)
    client, trial = parent.client, {"trial": str(winner)}
    for run_id in {*roles, *made}:
        try:
            run, role, tags = retry(partial(client.get_run, run_id)), roles.get(run_id), dict[str, str]()
        except MlflowException:  # another store has it
            continue
        if role:
            tags = {"kind": "final", "role": role, "tuned": str(role == "winner").lower()}
            tags |= trial if role == "winner" else {}
        elif run.data.tags.get("role") == "winner" and not trial.items() <= run.data.tags.items():
            tags = {"kind": FORMER}
        for name, value in tags.items() if run.info.lifecycle_stage == "active" else ():
            if run.data.tags.get(name) != value:
                retry(partial(client.set_tag, run_id, name, value))
        if role and run.info.status != "FINISHED":
            client.set_terminated(run_id, "FINISHED")
