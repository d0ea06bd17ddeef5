"""Where runs are kept and how to view them: `effft ui`, `effft resend`; and `effft completion`."""

import os
import shlex
import shutil
import socket
import sys
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from effft.cli.options import Command, Option, examples, tracking_uri_option
from effft.errors import InputError
from effft.redaction import redact
from effft.tracking.tracker import Tracker

DEFAULT_STORE = "mlflow.db"  # MLflow's own default: an sqlite file in the current folder.
PORT = 5000  # MLflow's own default.


def store_in_use(uri: str = "") -> str:
    """The tracking URI in use; '' when it is MLflow's default in this folder."""
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI", "")
    path = uri.removeprefix("sqlite:///")
    is_default = uri.startswith("sqlite:///") and Path(path).resolve() == Path(DEFAULT_STORE).resolve()
    return "" if is_default else uri


def how_to_view(tracker: Tracker, uri: str = "") -> str:
    """The line that shows this run; '' where it is not tracked, how to send it where the store did not take it."""
    return (tracker.unsent or ui_line(uri)) if tracker.run_id else ""


def ui_line(uri: str = "") -> str:
    """What to type, or which address to open, to see the runs."""
    store = redact(store_in_use(uri))
    if store.startswith(("http://", "https://")):
        return store
    program = "effft" if shutil.which("effft") else "python -m effft"
    return f"{program} ui" + (f" --tracking-uri {shlex.quote(store)}" if store else "")


@click.command(
    cls=Command,
    params=[
        Option("port", f"Port on 127.0.0.1  [default: {PORT}, or a free one]", None, type=click.IntRange(1, 65535)),
        tracking_uri_option(),
    ],
    epilog=examples("effft ui", "effft ui --port 8080"),
)
def ui(port: int | None, tracking_uri: str) -> None:
    """Open the MLflow UI on the runs of this folder, for this machine only, and print each task's address."""
    from effft.tracking.postgres import with_driver
    from effft.tracking.store import open_client
    from effft.tracking.views import pages

    uri = with_driver(store_in_use(tracking_uri))
    served = uri.startswith(("http://", "https://"))
    if not uri and not os.path.exists(DEFAULT_STORE):
        raise InputError(
            f"there is no {DEFAULT_STORE} in this folder, so no runs to show; `effft run lora` makes the first one."
        )
    address = redact(uri).rstrip("/") if served else f"http://127.0.0.1:{_free_port(port)}"
    for name, page in pages(open_client(tracking_uri)):
        click.echo(f"{name}: {address}/{page}")
    if served:
        click.echo(f"The runs are kept by the server {address}")
        return
    click.echo(f"MLflow UI: {address} (Ctrl-C stops it)")
    sys.stdout.flush()
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", address.rpartition(":")[2]]
    os.execv(sys.executable, [*command, "--backend-store-uri", uri or f"sqlite:///{DEFAULT_STORE}"])  # noqa: S606 # nosec B606 # no shell


def _free_port(wanted: int | None) -> int:
    """The port asked for; without one 5000, or any free port when that is taken."""
    for port in (wanted,) if wanted else (PORT, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise InputError(f"port={wanted}: another program uses this port; leave --port out to take a free one.")


@click.command(cls=Command, params=[click.Argument(["file"]), tracking_uri_option()])
def resend(file: str, tracking_uri: str) -> None:
    """Send what a run kept in FILE (effft-recovery-....jsonl) because its tracking server was away.

    A file is sent once; sending it again does nothing. Without --tracking-uri it goes to the server of the run.
    """
    from effft.tracking.resend import resend as send

    sent = send(Path(file).expanduser(), tracking_uri)
    if sent.already_sent:
        click.echo(f"{file} has been sent already; nothing was done.")
        return
    runs = f"{len(sent.runs)} runs" if len(sent.runs) > 1 else f"run {sent.runs[0]}"
    click.echo(f"sent: {sent.operations} operations of {runs}; {file} may be removed. view: {ui_line(tracking_uri)}")


@click.command(
    cls=Command,
    params=[click.Argument(["shell"], type=click.Choice(["bash", "zsh", "fish"]), metavar="SHELL")],
    epilog=examples('eval "$(effft completion bash)"', "effft completion fish > ~/.config/fish/completions/effft.fish"),
)
def completion(shell: str) -> None:
    """Print the completion script of a shell."""
    from effft.cli.app import app

    complete = get_completion_class(shell)
    assert complete is not None
    click.echo(complete(app, {}, "effft", "_EFFFT_COMPLETE").source())
