"""Where runs are kept, and the line that opens the UI on them."""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from effft.redaction import redact
from effft.tracking.tracker import MemoryTracker, Tracker

DEFAULT_STORE = "mlflow.db"
"""MLflow's own default: an sqlite file in the current folder."""


def open_tracker(experiment: str, name: str, tags: Mapping[str, str], uri: str, no_tracking: bool) -> Tracker:
    """A new MLflow run, or the one that `mlflow run` made for this process; in memory when nothing is to be kept."""
    if no_tracking:
        return MemoryTracker(name=name, labels=dict(tags))
    from effft.tracking.mlflow_tracker import MlflowTracker

    tracker: Tracker = MlflowTracker.open(experiment, name, tags, tracking_uri=uri)
    return tracker


def check_tracker(uri: str, no_tracking: bool) -> None:
    """Refuse a place that cannot keep runs before models and data are read.

    Raises:
        InputError: a folder, a file in no folder, or no permission.
    """
    if not no_tracking:
        from effft.tracking.store import check_place, resolve_uri

        check_place(resolve_uri(uri))


def store_in_use(uri: str = "") -> str:
    """The tracking URI in use; '' when it is MLflow's default in this folder."""
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI", "")
    path = uri.removeprefix("sqlite:///")
    is_default = uri.startswith("sqlite:///") and Path(path).resolve() == Path(DEFAULT_STORE).resolve()
    return "" if is_default else uri


def how_to_view(tracker: Tracker, uri: str = "") -> str:
    """The line that shows this run: nothing where none is kept, how to send it where the server went away."""
    if isinstance(tracker, MemoryTracker):
        return ""
    from effft.tracking.mlflow_tracker import MlflowTracker

    remedy = tracker.remedy if isinstance(tracker, MlflowTracker) else ""
    return f"`{remedy}` sends these results when the tracking server is back" if remedy else ui_line(uri)


def ui_line(uri: str = "") -> str:
    """What to type, or where to look, to see the runs."""
    place = redact(store_in_use(uri))
    if place.startswith(("http://", "https://")):
        return place
    return "mlflow ui" + (f" --backend-store-uri {shlex.quote(place)}" if place else "")
