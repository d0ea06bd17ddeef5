"""Where results go: trackers in memory and in MLflow, and MLflow's model registry. Importing it loads no vendor."""

import os
from collections.abc import Mapping

from effft.config import TrackingTarget
from effft.errors import InputError
from effft.tracking.tracker import MemoryTracker, Tracker

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # mlflow reads it once, when it is imported
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # the address may contain a password


def open_tracker(target: TrackingTarget, experiment: str, name: str, tags: Mapping[str, str]) -> Tracker:
    """A new run, or the one that `mlflow run` made for this process; in memory where tracking is disabled.

    experiment: the one to use where the target names none. tags: `kind` is 'run' where they name none.

    Raises:
        InputError: The store cannot be opened. RunError: The tracking server does not answer.
    """
    if target.disabled:
        return MemoryTracker(name=name, tag_values=dict(tags))
    from effft.tracking.mlflow_tracker import MlflowTracker

    tracker: Tracker = MlflowTracker.open(target.experiment or experiment, name, tags, target.uri)
    return tracker


def check_target(target: TrackingTarget, log_model: bool = False) -> None:
    """Refuse a place that cannot keep runs, or is none for a model, before models and data are read."""
    if target.disabled and log_model:
        raise InputError("log_model=true: without tracking no model is kept; leave --log-model or --no-tracking out.")
    if not target.disabled:
        from effft.tracking.store import check_place, resolve_uri

        check_place(resolve_uri(target.uri))
