"""`effft report`: the runs of a task as one page, its Markdown twin and CSV files."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from effft.cli.options import Command, Option, examples, flag, tracking_options
from effft.config import TrackingTarget
from effft.errors import InputError

if TYPE_CHECKING:
    from effft.reports.report import Report
    from effft.tracking.tracker import Tracker

TASK = "agreement"
FOLDER = "report"  # Folder of the report among a run's artifacts.
MOST_WARNINGS = 10  # Warnings in the note of the run; the report lists all.


def make_report(
    task: str,
    study: str,
    out: str,
    parent: str,
    mlflow_url: str,
    watch: int,
    json: bool,
    export: str | None,
    import_: str,
    target: TrackingTarget,
) -> None:
    """Make the report, write it, log it, and tell where it is."""
    from effft.cli import live
    from effft.cli.output import Progress, print_json
    from effft.cli.tracking import ui_line
    from effft.reports.exchange import exported, imported
    from effft.reports.report import build
    from effft.tasks.from_data import task_name
    from effft.tracking import open_tracker
    from effft.tracking.reading import open_reader
    from effft.tracking.tracker import tracked

    if study:
        of_a_task = {
            "task": task != TASK, "parent": parent, "mlflow_url": mlflow_url, "watch": watch, "json": json,
            "export": export, "import_": import_,
        }  # fmt: skip
        if given := ", ".join(flag(name) for name, value in of_a_task.items() if value):
            raise InputError(f"{given}: only for the report of one task; leave it out, or leave --study out.")
        from effft.reports.study import write_study

        with Progress() as progress:
            place = write_study(open_reader(target.uri), study, Path(out or "study"), target.experiment, progress)
        click.echo(f"study: {place}")
        return
    try:
        name = task_name(task)
    except InputError:
        if not import_:
            raise
        name = task  # all its runs may come from elsewhere
    more = imported(Path(import_), name) if import_ else []
    again = ["--task", task, *(["--parent", parent] if parent else []), *(["--import", import_] if import_ else [])]
    command = shlex.join(["effft", "report", *again])
    folder = Path(out or f"report-{name}")

    def make() -> "Report":
        with Progress() as progress:
            return build(
                open_reader(target.uri), name, target.experiment, parent, command, progress, mlflow_url, watch, more
            )

    report = make() if not watch else live.watch(make, folder, watch)
    page = report.write(folder)
    if export:
        replace(report, files=exported(report.data, export)).write(folder / export)
        click.echo(f"exported: {folder / export}", err=json)
    with tracked(open_tracker(target, f"effft/{name}", f"report {name}", {"task": name, "kind": "report"})) as tracker:
        publish(report, page, tracker, stderr=json)
    if json:
        print_json({backbone: table.json() for backbone, table in report.tables.items()})
    if not target.disabled:
        click.echo(f"To look at it in MLflow: {ui_line(target.uri)}", err=json)


def publish(report: "Report", page: Path, tracker: "Tracker", stderr: bool = False) -> None:
    """Log every file and a note that links the page; print where it is, where the runs stand side by side, warnings."""
    from effft.templating import markdown_text
    from effft.tracking.reading import LOCAL_SERVER

    for name, content in report.files.items():
        tracker.text(f"{FOLDER}/{name}", content)
    data = report.data
    view = tracker.view(data.task, data.primary, data.sets, data.home) if report.runs else ""
    server = tracker.url.partition("#")[0]
    link = f"{tracker.url}/artifacts/{FOLDER}/report.html"
    lines = [f"[Report of {report.runs} runs]({link}) (artifact `{FOLDER}/report.html`).", ""]
    if view:
        lines += [f"[Strategies side by side]({server}{view}) in the runs table.", ""]
    tracker.note("\n".join(lines + [f"- {markdown_text(sentence)}" for sentence in report.warnings[:MOST_WARNINGS]]))
    click.echo(f"report of {report.runs} runs: {page}", err=stderr)
    if view:
        click.echo(f"side by side in the UI: {server or f'{LOCAL_SERVER}/'}{view}", err=stderr)
    for sentence in report.warnings:
        click.echo(f"note: {sentence}", err=stderr)


report = Command(
    "report",
    callback=make_report,
    help="Read the runs of a task back from MLflow and write a report: one HTML page that needs no network, the same "
    "in Markdown, and CSV files. They are kept as artifacts of an MLflow run too.",
    epilog=examples(
        "effft report",
        "effft report --task overlap --out report-overlap",
        "effft report --parent RUN_ID",
        "effft report --study reports/study/study.yaml --out reports/study",
    ),
    params=[
        Option("task", "Task name, or the path of a task file (.yaml) or of data", TASK),
        Option("study", "A comparison file of several tasks: one folder of small files, with claims.yaml judged"),
        Option("out", "Folder to write to  [default: report-<task>, or study]"),
        Option("parent", "Run id of a comparison or study, or several with commas: only its runs  [default: all]"),
        Option(
            "mlflow_url", "Server that the page's links to runs lead to  [default: the store's, else the local one]"
        ),
        Option(
            "watch",
            "Seconds after which it is made again and served while a comparison runs",
            0,
            type=click.IntRange(0),
        ),
        Option("json", "Print the tables of results as JSON", False, is_flag=True),
        Option(
            "export",
            "Write the runs for others too: peft (its method comparison), eee (Every Eval Ever)",
            None,
            type=click.Choice(["peft", "eee"]),
        ),
        Option("import_", "File or folder of results of peft's method comparison, which become rows"),
        *tracking_options(),
    ],
)
