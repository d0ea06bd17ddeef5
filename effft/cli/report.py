"""`effft report`: the runs of a task as one page, its Markdown twin and CSVs."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from effft.reports.report import Report
    from effft.tracking.tracker import Tracker

FOLDER = "report"
"""Folder of the report among a run's artifacts."""

LOCAL = "http://127.0.0.1:5000/"
"""Where `mlflow ui` answers."""


@click.command(
    help="Read the runs of a task back from MLflow and write a report: one HTML page that needs no network, the same "
    "in Markdown, and CSVs. They are kept as artifacts of an MLflow run too.",
    epilog="\b\nExamples:\n  effft report\n  effft report --task cola --out report-cola\n"
    "  effft report --parent RUN_ID",
)
@click.option("--task", default="agreement", show_default=True, help="task name, or the path of a task file (.yaml)")
@click.option("--out", default="", help="folder to write to  [default: report-<task>]")
@click.option("--parent", default="", help="run id of a comparison or study, or several: only its runs  [default: all]")
@click.option("--tracking-uri", default="", help="MLflow store  [default: MLflow's own, ./mlflow.db]")
@click.option("--experiment", default="", help="MLflow experiment  [default: effft/<task>]")
@click.option("--no-tracking", is_flag=True, help="write the files only, keep no MLflow run")
def report(task: str, out: str, parent: str, tracking_uri: str, experiment: str, no_tracking: bool) -> None:
    """Make it, write it, log it, say where it is."""
    from effft.cli.output import Progress
    from effft.cli.tracking import open_tracker, ui_line
    from effft.reports.report import build
    from effft.tasks.task import load_task
    from effft.tracking.store import open_client
    from effft.tracking.tracker import tracked

    name = load_task(task, allow_outside=True).name  # no file is read
    home = experiment or f"effft/{name}"
    command = " ".join(["effft", "report", "--task", shlex.quote(task), *(["--parent", parent] if parent else [])])
    client = open_client(tracking_uri)
    with Progress() as progress:
        made = build(client, name, experiment, parent, command, progress)
    page, view = made.write(Path(out or f"report-{name}")), ""
    if not no_tracking:
        with tracked(
            open_tracker(home, f"report {name}", {"task": name, "kind": "report"}, tracking_uri, False)
        ) as tracker:
            view = keep(tracker, made)
    say(made, page, view)
    if not no_tracking:
        click.echo(f"look: {ui_line(tracking_uri)}")


def keep(tracker: "Tracker", made: "Report") -> str:
    """Log every file, and a note that links the page; the address of the runs side by side, '' where there is none."""
    for name, content in made.files.items():
        tracker.text(f"{FOLDER}/{name}", content)
    from effft.tracking.mlflow_tracker import MlflowTracker

    view = tracker.view(made.task, made.metric, made.sets) if isinstance(tracker, MlflowTracker) and made.runs else ""
    server = tracker.url.partition("#")[0]
    tracker.note(note(tracker, made, f"{server}{view}" if view else ""))
    return f"{server or LOCAL}{view}" if view else ""


def note(tracker: "Tracker", made: "Report", view: str) -> str:
    """What the run's page in the UI says: where the report is, the runs side by side, and what is wrong."""
    link = f"{tracker.url}/artifacts/{FOLDER}/report.html"
    lines = [f"[Report of {made.runs} runs]({link}) (artifact `{FOLDER}/report.html`).", ""]
    if view:
        lines += [f"[Strategies side by side]({view}) in the runs table.", ""]
    lines += [f"- {plain(sentence)}" for sentence in made.warnings[:10]]
    return "\n".join(lines)


def plain(text: str) -> str:
    """Names from runs shown as text in a note."""
    from effft.reports.markdown import plain as escaped

    return escaped(text)


def say(made: "Report", page: Path, view: str) -> None:
    """Where the page is, where the runs stand side by side, and the faults."""
    click.echo(f"report of {made.runs} runs: {page}")
    if view:
        click.echo(f"side by side in the UI: {view}")
    for sentence in made.warnings:
        click.echo(f"fault: {sentence}")
