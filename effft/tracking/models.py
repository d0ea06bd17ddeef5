"""A run's model in MLflow: logging it with its metrics by data set, and finding its folder by URI."""

import math
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric
from mlflow.exceptions import MlflowException

from effft.errors import InputError, RunError, nearest
from effft.evaluation.metric_keys import headlines, parse
from effft.serving.manifest import MANIFEST_FILE, Manifest, read_manifest
from effft.tracking.artifacts import artifacts_at, check_files
from effft.tracking.pyfunc import pyfunc_folder
from effft.tracking.sanitize import sentence_of
from effft.tracking.store import every

ANSWER_SECONDS = 3.0
Digests = Mapping[str, Sequence[str]]  # Split -> (name, digest) of its data set.


def amount_tags(record: Manifest) -> dict[str, str]:
    """How many examples a model was made from: `per_label` or `rows`."""
    return {"per_label": str(record.per_label)} if record.per_label else {"rows": record.rows}


def log_saved_model(
    client: MlflowClient, run_id: str, saved: Path, metrics: Mapping[str, float], digests: Digests
) -> str:
    """Log a saved model as an output of the run; returns its id. One that cannot be stored is marked FAILED."""
    experiment = client.get_run(run_id).info.experiment_id
    record = read_manifest(saved)
    tags = {"strategy": record.method, "task": str(record.task["name"]), **amount_tags(record)}
    params = {"strategy": record.method, "base": record.base.name, "precision": record.precision}
    model = client.create_logged_model(experiment, "model", run_id, tags, params, "classifier")
    files, model_id, now = artifacts_at(client, model.artifact_location), str(model.model_id), int(time.time() * 1000)
    rows = []
    for key, value in headlines(metrics, record.metric).items():  # MLflow copies what the model's page shows to the run
        parts = parse(key)
        if parts and parts.split in digests and math.isfinite(value):
            name, digest = digests[parts.split]
            rows.append(Metric(key, value, now, 0, model_id, name, digest, run_id))
    try:
        with pyfunc_folder(saved, model_id, run_id) as folder:
            files.log_artifacts(str(folder))
            own = [path for path in folder.rglob("*") if path.is_file()]
            check_files(files, {str(path.relative_to(folder)): path.stat().st_size for path in own})
        client.log_batch(run_id, metrics=rows)
        client.finalize_logged_model(model_id, "READY")
        stored = client.get_logged_model(model_id)
        if stored.status != LoggedModelStatus.READY or len(stored.metrics or ()) < len(rows):
            raise MlflowException("it answered with success, but has not all of the model")
    except BaseException:
        marking = threading.Thread(target=client.finalize_logged_model, args=(model_id, "FAILED"), daemon=True)
        marking.start()
        marking.join(ANSWER_SECONDS)  # a server that hangs has been waited for
        raise
    client.log_outputs(run_id, [LoggedModelOutput(model_id, 0)])
    return model_id


def model_of(client: MlflowClient, run_id: str) -> str:
    """Id of the model that a run logged."""
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        raise InputError(f"run {run_id!r}: {sentence_of(error, 200).rstrip('.')}.") from None
    outputs = run.outputs.model_outputs if run.outputs else []
    if not outputs:
        raise InputError(f"run {run_id} logged no model; run it with --log-model true.")
    return str(outputs[-1].model_id)


def fetch(uri: str, client: MlflowClient) -> Path:
    """The folder of a saved model: of `models:/name@alias`, `models:/name/3`, `runs:/<id>/model`, or a local path.

    Raises:
        InputError: There is none; names the nearest registered one. RunError: Its files cannot be read.
    """
    local = Path(uri).expanduser()
    folder = local if local.is_dir() else _download(uri, client)
    manifests = sorted(folder.glob(f"**/{MANIFEST_FILE}"), key=lambda path: len(path.parts))
    if not manifests:
        raise InputError(f"model {uri!r} was not made by effft: {MANIFEST_FILE} is not in it.")
    return manifests[0].parent


def _download(uri: str, client: MlflowClient) -> Path:
    if not uri.startswith(("models:/", "runs:/")):
        raise InputError(
            f"model {uri!r}: no such folder, and no URI; give models:/NAME@champion, models:/NAME/VERSION, "
            "runs:/RUN_ID/model, or a folder."
        )
    try:
        return Path(mlflow.artifacts.download_artifacts(_location(uri, client), tracking_uri=client.tracking_uri))
    except MlflowException as error:
        raise InputError(f"model {uri!r}: {sentence_of(error, 200).rstrip('.')}.{_nearest(uri, client)}") from None
    except OSError as error:
        raise RunError(f"model {uri!r}: its files cannot be read ({error}).") from None


def _location(uri: str, client: MlflowClient) -> str:
    """Where the files are. MLflow would look `models:/` URIs up in its global store, not in the client's."""
    if uri.startswith("runs:/"):
        return str(client.get_logged_model(model_of(client, uri.split("/")[1])).artifact_location)
    name, _, version = uri.removeprefix("models:/").partition("/")
    name, _, alias = name.partition("@")
    if alias:
        version = client.get_model_version_by_alias(name, alias).version
    return str(client.get_model_version_download_uri(name, version))


def _nearest(uri: str, client: MlflowClient) -> str:
    name = uri.removeprefix("models:/").split("@")[0].split("/")[0]
    names = [model.name for model in every(client.search_registered_models)]
    if name in names:
        return " `effft models` lists the versions and aliases."
    return nearest(name, names) or (f" Registered are: {', '.join(names)}." if names else " Nothing is registered.")
