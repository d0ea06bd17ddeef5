"""The MLflow experiment that a run belongs to: chosen, created when absent, checked before anything is computed."""

import errno
import os
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException

from effft.errors import InputError, shortened
from effft.redaction import redact
from effft.tracking.postgres import retry
from effft.tracking.tracker import NOTE

DEFAULT_EXPERIMENT = "0"
LONGEST_NAME = 500  # Characters of an experiment's name, MLflow's limit.


def chosen_experiment(client: MlflowClient, name: str, task: str) -> str:
    """Id of the experiment that MLFLOW_EXPERIMENT_ID or MLFLOW_EXPERIMENT_NAME chooses, else of `name`."""
    chosen = os.environ.get("MLFLOW_EXPERIMENT_ID", "")
    if not chosen:
        return experiment_named(client, os.environ.get("MLFLOW_EXPERIMENT_NAME", "") or name, task)
    try:
        experiment = retry(lambda: client.get_experiment(chosen))
    except MlflowException:
        raise InputError(
            f"MLFLOW_EXPERIMENT_ID={chosen}: {redact(str(client.tracking_uri))} has no such experiment; "
            "unset the variable, or set MLFLOW_EXPERIMENT_NAME instead."
        ) from None
    return ready(client, experiment, task)


def experiment_named(client: MlflowClient, name: str, task: str) -> str:
    """Id of an experiment, created when absent."""
    if len(name) > LONGEST_NAME:
        raise InputError(f"experiment {shortened(name)}: {LONGEST_NAME} characters are the most (flag --experiment).")
    experiment = retry(lambda: client.get_experiment_by_name(name))
    if experiment is None:
        try:
            experiment = client.get_experiment(client.create_experiment(name))
        except MlflowException:  # another process may have created it in between
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    return ready(client, experiment, task)


def ready(client: MlflowClient, experiment: Experiment, task: str) -> str:
    """Id of an experiment that takes runs; one without a description gets one.

    Raises:
        InputError: It was deleted, or its files cannot be written.
    """
    if not experiment.experiment_id:
        raise InputError("tracking store: its answer names no experiment, as MLflow's does (flag --tracking-uri).")
    if experiment.lifecycle_stage != "active":
        raise InputError(
            f"experiment {experiment.name!r} was deleted; restore it in MLflow or name another (--experiment)."
        )
    _must_take_files(experiment.artifact_location)
    experiment_id = str(experiment.experiment_id)
    if experiment_id != DEFAULT_EXPERIMENT and NOTE not in experiment.tags:
        about = f"Runs of effft on the task {task}." if task else "Runs of effft."
        tag_experiment(client, experiment_id, NOTE, f"{about} *Views* lines the strategies up.")
    return experiment_id


def tag_experiment(client: MlflowClient, experiment_id: str, key: str, text: str) -> None:
    """Set a tag. Where another process sets it at the same moment, one of the two is enough."""
    try:
        client.set_experiment_tag(experiment_id, key, text)
    except MlflowException:
        if key not in client.get_experiment(experiment_id).tags:
            raise


def _must_take_files(location: str) -> None:
    """Make the folder of an experiment's files, where it is one of this machine, before anything is computed."""
    path = Path(location.removeprefix("file://"))
    if not path.is_absolute():  # a store of its own, such as s3:// or mlflow-artifacts:
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise InputError(
            f"the files of runs go to {path}, which cannot be written ({error.strerror}); work in another folder, "
            "or name another experiment (flag --experiment)."
        ) from None
