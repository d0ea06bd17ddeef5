"""`effft ui` and `effft completion`."""

import os
import sys

import click

SHELLS = ("bash", "zsh", "fish")


@click.command(help="Open the MLflow UI on the runs of this folder (this machine only).")
@click.option("--tracking-uri", default="", help="MLflow store  [default: MLflow's own, ./mlflow.db]")
@click.option("--port", default=5000, show_default=True, help="port on 127.0.0.1")
def ui(tracking_uri: str, port: int) -> None:
    """Replace this process by `mlflow ui`."""
    from effft.cli.tracking import DEFAULT_STORE, store_in_use
    from effft.errors import InputError
    from effft.redaction import redact
    from effft.tracking.postgres import with_driver

    place = with_driver(store_in_use(tracking_uri))
    if place.startswith(("http://", "https://")):
        click.echo(f"the runs are kept by a server: {redact(place)}")
        return
    if not place and not os.path.exists(DEFAULT_STORE):
        raise InputError(
            f"there is no {DEFAULT_STORE} in this folder, so no runs to show; `effft run lora` makes the first one."
        )
    click.echo(f"http://127.0.0.1:{port} (Ctrl-C ends it)")
    sys.stdout.flush()
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port)]
    os.execv(sys.executable, [*command, "--backend-store-uri", place or f"sqlite:///{DEFAULT_STORE}"])  # noqa: S606 # nosec B606 # no shell


@click.command(
    help="Print the completion script of SHELL (bash, zsh or fish).",
    epilog='\b\nExamples:\n  eval "$(effft completion bash)"\n  effft completion fish > '
    "~/.config/fish/completions/effft.fish",
)
@click.argument("shell")
def completion(shell: str) -> None:
    """Click's own script."""
    from click.shell_completion import get_completion_class

    from effft.cli.app import app
    from effft.errors import lookup

    lookup("shell", shell, dict.fromkeys(SHELLS))
    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(app, {}, "effft", "_EFFFT_COMPLETE")
    click.echo(script.source())
