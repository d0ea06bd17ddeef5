"""Where runs are kept, how to view them, and `effft resend`."""

import os
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path

import click

from effft.cli.options import Command, tracking_uri_option
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
    from effft.tracking.resend import resend as send

    sent = send(Path(file).expanduser(), tracking_uri)
    if sent.again:
        click.echo(f"{file} has been sent already; nothing was done.")
        return
    runs = f"{len(sent.runs)} runs" if len(sent.runs) > 1 else f"run {sent.runs[0]}"
    click.echo(f"sent: {sent.writes} writes of {runs}; {file} may be removed. look: {ui_line(tracking_uri)}")
