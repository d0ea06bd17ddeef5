"""`effft compare`: the runs of a comparison under one parent run and in one table for each task; `effft reference`."""

import os
import platform
import shlex
import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import click

from effft.cli.options import FIELDS, Command, Option, examples, option, spell, tracking_options
from effft.config import TrackingTarget
from effft.disk import written_whole
from effft.errors import EffftError, InputError, positive
from effft.redaction import redact
from effft.tracking.tracker import Tracker

if TYPE_CHECKING:
    from effft.cli.output import Progress
    from effft.reports.report import Report
    from effft.runs.compare import PlannedComparison
    from effft.search.tuned import TunedComparison
    from effft.tracked_comparison import TaskOutcomes


TRIALS = 20


def compare_strategies(
    tuned: bool,
    trials: int | None,
    minutes: str,
    workers: int,
    out: str,
    json: bool,
    target: TrackingTarget,
    **given: Any,
) -> None:
    """Run several strategies on the same few-shot examples, and print one table: scores, gap, memory, time.

    A preset, or a file of your own, names tasks, strategies, seeds and settings; flags replace what it says, and the
    defaults below are for what it does not say. The same command continues a comparison that was interrupted, unless
    nothing is tracked.
    """
    from effft.cli.output import Progress
    from effft.runs.comparison_file import comparison_of
    from effft.runs.session import Session
    from effft.tracking import check_target

    limit = positive("minutes", minutes) if minutes else 0.0
    if trials and not tuned:
        raise InputError(f"trials={trials}: counts with --tuned true only; leave it out.")
    comparison = comparison_of(**given)
    if Path(out).is_file():
        raise InputError(f"out={out}: this is a file; name a folder (flag --out).")
    if out and target.disabled:
        raise InputError(f"out={out}: without tracking there is no report; leave --out or --no-tracking out.")
    check_target(target, any(run.config.log_model for run in comparison.runs()))
    with Progress() as progress:
        job: TunedComparison | PlannedComparison
        if tuned:
            from effft.search import tuned as search

            job = search.TunedComparison(comparison, trials or TRIALS, progress, progress.line, limit, workers)
        else:
            from effft.runs import compare as runs

            job = runs.PlannedComparison(comparison.runs(), workers, Session(), progress, limit)
        failed = run_tracked(job, target, progress, out, json)
    if failed:
        raise click.exceptions.Exit(1)


def run_tracked(
    job: "TunedComparison | PlannedComparison", target: TrackingTarget, progress: "Progress", out: str, as_json: bool
) -> bool:
    """Work off a comparison under a parent run for each task; print, keep and report what came out.

    Returns:
        Whether a run failed.
    """
    from effft.cli.output import print_json, print_outcomes
    from effft.cli.tracking import how_to_view
    from effft.tracked_comparison import track_comparison

    def show(compared: "TaskOutcomes") -> None:
        progress.stop()
        if not as_json:
            print_outcomes(compared)

    begun = time.monotonic()
    reports: list[Report] = []
    with track_comparison(job, target, show, progress.runs) as by_task:
        for task in by_task:
            if not target.disabled and (report := report_on(task.name, task.parent, target, out, as_json)):
                reports.append(report)
    if out and reports:
        runs = sum(len(task.outcomes) for task in by_task)
        write_readme(Path(out), reports, runs, (time.monotonic() - begun) / 60, job.workers)
    if as_json:
        print_json({task.name: task.json() for task in by_task})
    elif not target.disabled:
        click.echo(f"view: {how_to_view(by_task[-1].parent, target.uri)}")
    return any(task.failed for task in by_task)


def report_on(task: str, parent: Tracker, target: TrackingTarget, out: str, as_json: bool) -> "Report | None":
    """The report of these runs, with the parent run and in a folder; a fault in it does not undo the runs."""
    from effft.cli.report import publish
    from effft.reports.report import build
    from effft.tracking.reading import open_reader

    command = f"effft report --task {task} --parent {parent.run_id}"
    remake = again() if click.get_current_context().params["preset"] else ""
    if parent.unsent:
        click.echo(f"effft: no report yet: {parent.unsent} Then `{command}` makes it.", err=True)
        return None
    try:
        report = build(open_reader(target.uri), task, target.experiment, parent.run_id, remake or command)
        publish(report, report.write(Path(f"report-{task}")), parent, stderr=as_json)
        if out:
            report.write(Path(out) / task, small=True)
        return report
    except (EffftError, OSError) as error:
        click.echo(f"effft: the report could not be made: {error}", err=True)
        return None


def again() -> str:
    """The command line that makes a comparison again."""
    context = click.get_current_context()
    source, typed = context.get_parameter_source, click.core.ParameterSource.COMMANDLINE
    given = {p: context.params[p.name] for p in context.command.params if p.name and source(p.name) == typed}
    words = [[p.opts[0], spell(value)] for p, value in given.items()]
    return redact(shlex.join(["effft", str(context.info_name), *chain.from_iterable(words)]))


def write_readme(folder: Path, reports: "Sequence[Report]", runs: int, minutes: float, workers: int) -> None:
    """What is in the folder of `--out`, and how it was made."""
    links = ", ".join(f"[{report.data.task}]({report.data.task}/report.md)" for report in reports)
    machine = f"{workers} processes of one thread on {os.cpu_count()} cores ({platform.machine()})"
    about = (
        f"{runs} runs, made by `{again()}` in {minutes:.1f} minutes ({machine}): the reports ({links}), their results "
        "and differences as CSV files, and the still figures. The interactive pages are in `report-<task>/`, the runs "
        "in MLflow."
    )
    reference = click.get_current_context().info_name == "reference"
    title = "Reference comparison of the built-in tasks" if reference else "Comparison"
    folder.mkdir(parents=True, exist_ok=True)
    with written_whole(folder / "README.md") as draft:
        draft.write_text(f"# {title}\n\n{fill(about, 110)}\n", encoding="utf-8")


def options(preset: str = "", out: str = "", workers: int = 1) -> list[click.Parameter]:
    """The options of a comparison."""
    count = click.IntRange(1)
    return [
        Option(
            "preset", "Comparison to start from: quick, reference, published, or a file (.yaml)", preset, also="study"
        ),
        Option("strategies", "Names, or parts joined by '+', comma-separated  [default: all named strategies]"),
        Option("per_label", "Labelled training examples per label, comma-separated  [default: 32]"),
        Option("rows", "Labelled rows as frequent as they are, comma-separated, or all: instead of --per-label"),
        Option("seeds", "Number of seeds, from --seed on  [default: 3]", None, type=count),
        Option("data_seeds", "Number of few-shot draws, from --data-seed on  [default: 1]", None, type=count),
        Option("demo_seeds", "Number of draws of demonstrations from the examples  [default: 1]", None, type=count),
        Option("workers", "Runs at the same time, in processes of one thread", workers, type=count),
        Option("tuned", "Tune every strategy first, then compare the winners", False, type=bool, metavar="true|false"),
        Option("trials", f"Trials per study when tuned  [default: {TRIALS}]", None, type=count),
        Option("minutes", "Minutes for all runs: rounds of seeds that do not fit are left out  [default: no limit]"),
        Option("out", "Folder for the small files of the reports: Markdown, CSV, still figures", out),
        Option("json", "Print the tables as JSON", False, is_flag=True),
        *(option(name) for name in FIELDS if name not in ("per_label", "rows")),
        *tracking_options(),
    ]


compare = Command(
    "compare",
    callback=compare_strategies,
    help=compare_strategies.__doc__,
    params=options(),
    epilog=examples(
        "effft compare --strategies vanilla,pbft,lora,icl --seeds 3 --data-seeds 3",
        "effft compare --preset quick --task overlap",
        "effft compare --preset my_comparison.yaml --workers 2",
        "effft compare --strategies lora,lora+pbft --rank 4 --task mnli --data-dir data --model path/to/model",
    ),
)

reference = Command(
    "reference",
    callback=compare_strategies,
    help="Compare every strategy on the built-in tasks, beside rows that know less, and write the folder "
    "reports/reference: `effft compare --preset reference --out reports/reference --workers 2`.\n\n"
    "The defaults below are for what the preset does not say.",
    params=options("reference", "reports/reference", 2),
    epilog=examples("effft reference", "effft reference --task overlap --seeds 1 --data-seeds 2"),
)
