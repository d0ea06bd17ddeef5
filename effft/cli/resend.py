"""`effft resend`: what a run kept while its tracking server was away."""

from pathlib import Path

import click


def start(file: str, tracking_uri: str) -> None:
    """Send it, and say what arrived."""
    from effft.cli.tracking import ui_line
    from effft.tracking.resend import resend

    sent = resend(Path(file).expanduser(), tracking_uri)
    if sent.again:
        click.echo(f"{file} has been sent already; nothing was done.")
        return
    runs = f"{len(sent.runs)} runs" if len(sent.runs) > 1 else f"run {sent.runs[0]}"
    click.echo(f"sent: {sent.writes} writes of {runs}; {file} may be removed. look: {ui_line(tracking_uri)}")


resend = click.Command(
    "resend",
    callback=start,
    help="Send what a run kept in FILE (effft-recovery-....jsonl) because its tracking server was away. "
    "A file is sent once: after that nothing is done.",
    params=[
        click.Argument(["file"], metavar="FILE"),
        click.Option(["--tracking-uri"], default="", help="MLflow store  [default: the one the run was begun in]"),
    ],
)
