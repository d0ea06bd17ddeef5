"""Where runs are kept, how to view them, and `effft resend`."""

import os
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path

import click

from effft import tracking
from effft.cli.options import Command, tracking_uri_option
from effft.config import TrackingTarget
from effft.redaction import redact
from effft.tracking.tracker import MemoryTracker, Tracker

DEFAULT_STORE = "mlflow.db"
"""MLflow's own default: an sqlite file in the current folder."""


def open_tracker(experiment: str, name: str, tags: Mapping[str, str], uri: str, no_tracking: bool) -> Tracker:
    """As `effft.tracking.open_tracker`, for callers that have no TrackingTarget yet."""
    return tracking.open_tracker(TrackingTarget(uri, experiment, no_tracking), experiment, name, tags)


def check_tracker(uri: str, no_tracking: bool) -> None:
    """As `effft.tracking.check_target`, for callers that have no TrackingTarget yet."""
    tracking.check_target(TrackingTarget(uri, "", no_tracking))


def store_in_use(uri: str = "") -> str:
    """The tracking URI in use; '' when it is MLflow's default in this folder."""
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI", "")
    path = uri.removeprefix("sqlite:///")
    is_default = uri.startswith("sqlite:///") and Path(path).resolve() == Path(DEFAULT_STORE).resolve()
    return "" if is_default else uri


def how_to_view(tracker: Tracker, uri: str = "") -> str:
    """The line that shows this run; '' where it is not tracked, how to send it where the store did not take it."""
    if isinstance(tracker, MemoryTracker):
        return ""
    from effft.tracking.mlflow_tracker import MlflowTracker

    return (isinstance(tracker, MlflowTracker) and tracker.unsent) or ui_line(uri)


def ui_line(uri: str = "") -> str:
    """What to type, or which address to open, to see the runs."""
    store = redact(store_in_use(uri))
    if store.startswith(("http://", "https://")):
        return store
    program = "effft" if shutil.which("effft") else "python -m effft"
    return f"{program} ui" + (f" --tracking-uri {shlex.quote(store)}" if store else "")


@click.command(cls=Command, params=[click.Argument(["file"]), tracking_uri_option()])
def resend(file: str, tracking_uri: str) -> None:
    """Send what a run kept in FILE (effft-recovery-....jsonl) because its tracking server was away.

    A file is sent once; sending it again does nothing. Without --tracking-uri it goes to the server of the run.
    """
    from effft.tracking.recovery import resend as send

    sent = send(Path(file).expanduser(), tracking_uri)
    if sent.already_sent:
        click.echo(f"{file} has been sent already; nothing was done.")
        return
    runs = f"{len(sent.runs)} runs" if len(sent.runs) > 1 else f"run {sent.runs[0]}"
    click.echo(f"sent: {sent.operations} operations of {runs}; {file} may be removed. view: {ui_line(tracking_uri)}")
