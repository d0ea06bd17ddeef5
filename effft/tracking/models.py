"""A finished run's model in MLflow: a LoggedModel with its metrics by data set, and the folder of one by URI."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, Metric
from mlflow.exceptions import MlflowException

from effft.errors import InputError, RunError, nearest
from effft.redaction import redact
from effft.serving.manifest import MANIFEST_FILE, read_manifest
from effft.tracking.pyfunc import pyfunc_folder
from effft.tracking.sanitize import LONGEST_TAG, safe_key, truncate

GLOBAL = "MLFLOW_TRACKING_URI"

Digests = Mapping[str, tuple[str, str]]
"""Split -> (name, digest) of its data set."""


def keep_model(client: MlflowClient, run_id: str, saved: Path, metrics: Mapping[str, float], digests: Digests) -> str:
    """Log the saved model as an output of the run; return its id. A model that cannot be kept is marked FAILED."""
    run = client.get_run(run_id)
    record = read_manifest(saved)
    tags = {"strategy": record.strategy, "task": str(record.task["name"]), "per_label": str(record.per_label)}
    params = {"strategy": record.strategy, "base": record.base.name, "precision": record.precision}
    model = client.create_logged_model(run.info.experiment_id, "model", run_id, tags, params, "classifier")
    model_id: str = model.model_id
    try:
        with pyfunc_folder(saved, model_id, run_id) as folder:
            client.log_model_artifacts(model_id, str(folder))
    except BaseException:
        client.finalize_logged_model(model_id, "FAILED")
        raise
    client.finalize_logged_model(model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(model_id, 0)])
    rows = _metrics(metrics, digests, model_id, run_id)
    if rows:
        client.log_batch(run_id, metrics=rows)
    return model_id


def _metrics(metrics: Mapping[str, float], digests: Digests, model_id: str, run_id: str) -> list[Metric]:
    """The splits' own metrics (no slices), each with its data set: what the model's page shows."""
    now, rows = int(time.time() * 1000), []
    for key, value in metrics.items():
        split = key.rpartition("/")[0]
        if split in digests and value == value:
            data, digest = digests[split]
            rows.append(Metric(safe_key(key), value, now, 0, model_id, data, digest, run_id))
    return rows


def model_of(client: MlflowClient, run_id: str) -> str:
    """Id of the model that a run logged.

    Raises:
        InputError: no such run, or it logged none.
    """
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        raise InputError(f"run {run_id!r}: {_said(error)}.") from None
    outputs = run.outputs.model_outputs if run.outputs else []
    if not outputs:
        raise InputError(f"run {run_id} logged no model; run it with --log-model true.")
    return str(outputs[-1].model_id)


def fetch(uri: str, client: MlflowClient) -> Path:
    """The folder of a saved model: of `models:/name@alias`, `models:/name/3`, `runs:/<id>/model`, or a local path.

    Raises:
        InputError: there is none, with the nearest registered name. RunError: the store does not give it.
    """
    local = Path(uri).expanduser()
    folder = local if local.is_dir() else _download(uri, client)
    found = sorted(folder.glob(f"**/{MANIFEST_FILE}"), key=lambda path: len(path.parts))
    if not found:
        raise InputError(f"model {uri!r} was not made by effft: {MANIFEST_FILE} is not in it.")
    return found[0].parent


def _download(uri: str, client: MlflowClient) -> Path:
    if not uri.startswith(("models:/", "runs:/")):
        raise InputError(
            f"model {uri!r}: no such folder, and no URI; give models:/NAME@champion, models:/NAME/VERSION, "
            "runs:/RUN_ID/model, or a folder."
        )
    try:
        source = f"models:/{model_of(client, uri.split('/')[1])}" if uri.startswith("runs:/") else uri
        with speaking_to(client):
            return Path(mlflow.artifacts.download_artifacts(source))
    except MlflowException as error:
        raise InputError(f"model {uri!r}: {_said(error)}.{_nearest(uri, client)}") from None
    except OSError as error:
        raise RunError(f"model {uri!r}: its files cannot be read ({error}).") from None


@contextmanager
def speaking_to(client: MlflowClient) -> Iterator[None]:
    """MLflow's global store is the client's: `models:/` URIs are looked up there, whatever client asks."""
    before = os.environ.get(GLOBAL)
    mlflow.set_tracking_uri(client.tracking_uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(None)  # type: ignore[arg-type] # MLflow's own way to forget it
        if before is not None:
            os.environ[GLOBAL] = before


def _nearest(uri: str, client: MlflowClient) -> str:
    name = uri.removeprefix("models:/").split("@")[0].split("/")[0]
    known = [model.name for model in client.search_registered_models()]
    if name in known:
        return " `effft models` lists the versions and aliases."
    return nearest(name, known) or (f" Registered are: {', '.join(known)}." if known else " Nothing is registered.")


def _said(error: Exception) -> str:
    return truncate(redact(" ".join(str(error).split())), LONGEST_TAG)[:200].rstrip(".")
