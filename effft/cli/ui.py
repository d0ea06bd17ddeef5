"""`effft ui` and `effft completion`."""

import os
import socket
import sys

import click

from effft.cli.options import Command, Option, examples, tracking_uri_option
from effft.errors import InputError

PORT = 5000
"""MLflow's own default."""


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
    from effft.cli.tracking import DEFAULT_STORE, store_in_use
    from effft.redaction import redact
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


@click.command(
    cls=Command,
    params=[click.Argument(["shell"], type=click.Choice(["bash", "zsh", "fish"]), metavar="SHELL")],
    epilog=examples('eval "$(effft completion bash)"', "effft completion fish > ~/.config/fish/completions/effft.fish"),
)
def completion(shell: str) -> None:
    """Print the completion script of a shell."""
    from click.shell_completion import get_completion_class

    from effft.cli.app import app

    complete = get_completion_class(shell)
    assert complete is not None
    click.echo(complete(app, {}, "effft", "_EFFFT_COMPLETE").source())
