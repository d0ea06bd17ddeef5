"""`effft compare`: the runs of a comparison under one parent run and in one table for each task; `effft reference`."""

import os
import platform
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import click

from effft.cli.options import FIELDS, Command, Option, examples, option, tracking_options
from effft.config import DATA_FIELDS, TrackingTarget, make_config
from effft.disk import written_whole
from effft.errors import EffftError, InputError
from effft.tracking.tracker import Tracker, tracked

if TYPE_CHECKING:
    from effft.cli.output import Progress
    from effft.reports.report import Report
    from effft.runs.compare import Outcome, PlannedComparison, ResultsFile
    from effft.runs.grid import Comparison
    from effft.search.tuned import TunedComparison


def words(text: str, what: str) -> list[str]:
    """'a, b' -> ['a', 'b'], without repetitions; none at all is an InputError."""
    found = list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not found:
        raise InputError(f"{what} is empty; give at least one, comma-separated.")
    return found


def comparison_of(
    preset: str = "",
    strategies: str = "",
    per_label: str = "",
    rows: str = "",
    seeds: int | None = None,
    data_seeds: int | None = None,
    demo_seeds: int | None = None,
    **settings: str | None,
) -> "Comparison":
    """The preset (a name or a file) with what the flags say; '' and None count as not given."""
    from effft.runs.grid import Comparison, read_comparison

    given = {name: value for name, value in settings.items() if value}
    if (asked := make_config({name: given.get(name) for name in ("task", *DATA_FIELDS)})).data:
        given |= {"task": asked.task, "data": asked.data}
    task = given.pop("task", None)
    amounts: dict[str, tuple[Any, ...]] = {}
    for name, text in (("per_label", per_label), ("rows", rows)):
        if text:
            configs = [make_config({name: word}) for word in words(text, f"--{name.replace('_', '-')}")]
            amounts[name] = tuple(getattr(config, name) for config in configs)
    if len(amounts) > 1:
        raise InputError(f"per_label={per_label} and rows={rows}: give one of --per-label and --rows, not both.")
    return (read_comparison(preset) if preset else Comparison()).overridden(
        tasks=[task] if task else [],
        strategies=words(strategies, "--strategies") if strategies else [],
        settings=given,
        **(dict.fromkeys(("per_label", "rows"), ()) | amounts if amounts else {}),
        seeds=seeds,
        data_seeds=data_seeds,
        demo_seeds=demo_seeds,
    )


def compare_strategies(
    tuned: bool,
    trials: int,
    workers: int,
    out: str,
    as_json: bool,
    tracking_uri: str,
    experiment: str,
    no_tracking: bool,
    **given: Any,
) -> None:
    """Run several strategies on the same few-shot examples, and print one table: scores, gap, memory, time.

    A preset, or a file of your own, names tasks, strategies, seeds and settings; flags replace what it says. The same
    command continues a comparison that was interrupted.
    """
    from effft.cli.output import Progress
    from effft.runs.session import Session
    from effft.tracking import check_target

    comparison, target = comparison_of(**given), TrackingTarget(tracking_uri, experiment, no_tracking)
    if Path(out).is_file():
        raise InputError(f"out={out}: this is a file; name a folder (flag --out).")
    check_target(target)
    with Progress() as progress:
        job: TunedComparison | PlannedComparison
        if tuned:
            from effft.search import tuned as search

            job = search.TunedComparison(comparison, trials, progress, progress.line)
        else:
            from effft.runs import compare as runs

            job = runs.PlannedComparison(comparison.runs(), workers, Session(), progress)
        failed = run_tracked(job, target, progress, out, as_json)
    if failed:
        raise click.exceptions.Exit(1)


def run_tracked(
    job: "TunedComparison | PlannedComparison", target: TrackingTarget, progress: "Progress", out: str, as_json: bool
) -> bool:
    """Work off a comparison under a parent run for each task; print, keep and report what came out.

    Returns:
        Whether a run failed.
    """
    from effft.cli.output import print_json
    from effft.cli.tracking import how_to_view
    from effft.runs.compare import ResultsFile

    file = ResultsFile(None if target.disabled else job.results_path)
    if file.results:
        progress.line(f"{len(file.results)} runs are taken from {file.path}; remove it to run them again.")
    progress.line(job.announcement())
    begun = time.monotonic()
    outcomes: dict[int, Outcome] = {}
    tables: dict[str, Any] = {}
    reports: list[Report] = []
    with ExitStack() as stack:
        parents = {task: stack.enter_context(tracked(open_parent(job, task, target, file))) for task in job.tasks}
        os.environ.pop("MLFLOW_EXPERIMENT_ID", None)  # `mlflow run` chose it for the parents alone
        try:
            outcomes.update(job.outcomes(parents, target, file, progress.runs))
        finally:
            progress.stop()
            by_task = {task: [o for _, o in sorted(outcomes.items()) if o.config.task == task] for task in job.tasks}
            for task, name in job.tasks.items():
                tables[name] = keep_table(by_task[task], parents[task], as_json) if by_task[task] else None
        failed = [task for task in by_task if any(outcome.failure for outcome in by_task[task])]
        if not failed:
            file.remove()
        for task, name in job.tasks.items():
            if not target.disabled and (report := report_on(name, parents[task], target, out, as_json)):
                reports.append(report)
        for task in failed:
            parents[task].close("FAILED")
    if out:
        write_readme(Path(out), reports, len(outcomes), (time.monotonic() - begun) / 60, job.workers)
    if as_json:
        print_json(tables)
    elif not target.disabled:
        click.echo(f"view: {how_to_view(parents[task], target.uri)}")
    return bool(failed)


def open_parent(
    job: "TunedComparison | PlannedComparison", task: str, target: TrackingTarget, file: "ResultsFile"
) -> Tracker:
    """The tracked run of one task: a new one, or that of the comparison that was interrupted."""
    from effft.tracking import open_tracker

    name, tags, params = job.describe(task)
    experiment = target.experiment or f"effft/{job.tasks[task]}"
    if task in file.parents:
        from effft.tracking.study_runs import open_parent as continue_run

        parent: Tracker = continue_run(experiment, name, tags, target.uri, file.parents[task])
    else:
        parent = open_tracker(target, experiment, name, tags)
    file.add("parents", task, parent.run_id)
    parent.params(params)
    return parent


def keep_table(outcomes: "Sequence[Outcome]", parent: Tracker, as_json: bool) -> object:
    """Print the table of one task and keep it with the parent run; returns it as JSON values."""
    from effft.cli.output import print_results
    from effft.reports.csv_files import outcomes_csv
    from effft.reports.results import outcomes_table

    table = outcomes_table(outcomes)
    if not as_json:
        print_results(table)
    parent.text("comparison.md", table.markdown())
    parent.text("comparison.csv", outcomes_csv(outcomes))
    parent.metrics(table.metrics())
    parent.flush()
    return table.json()


def report_on(task: str, parent: Tracker, target: TrackingTarget, out: str, as_json: bool) -> "Report | None":
    """The report of these runs, with the parent run and in a folder; a fault in it does not undo the runs."""
    from effft.cli.report import publish
    from effft.reports.report import build
    from effft.tracking.reading import open_reader

    command = f"effft report --task {task} --parent {parent.run_id}"
    if parent.unsent:
        click.echo(f"effft: no report yet: {parent.unsent} Then `{command}` makes it.", err=True)
        return None
    try:
        report = build(open_reader(target.uri), task, target.experiment, parent.run_id, again() or command)
        publish(report, report.write(Path(f"report-{task}")), parent, stderr=as_json)
        if out:
            report.write(Path(out) / task, small=True)
        return report
    except (EffftError, OSError) as error:
        click.echo(f"effft: the report could not be made: {error}", err=True)
        return None


def again() -> str:
    """The command line that makes a comparison of a preset again; '' without a preset."""
    context = click.get_current_context()
    given = [f"{p.opts[0]} {context.params[p.name]}" for p in context.command.params
             if p.name and context.get_parameter_source(p.name) == click.core.ParameterSource.COMMANDLINE]  # fmt: skip
    return " ".join(["effft", str(context.info_name), *given]) if context.params["preset"] else ""


def write_readme(folder: Path, reports: "Sequence[Report]", runs: int, minutes: float, workers: int) -> None:
    """What is in the folder of `--out`, and how it was made."""
    links = ", ".join(f"[{report.data.task}]({report.data.task}/report.md)" for report in reports)
    machine = f"{workers} processes of one thread on {os.cpu_count()} cores ({platform.machine()})"
    about = (
        f"{runs} runs, made by `{again()}` in {minutes:.1f} minutes ({machine}): the reports ({links}), their results "
        "and differences as CSV files, and the still figures. The interactive pages are in `report-<task>/`, the runs "
        "in MLflow."
    )
    folder.mkdir(parents=True, exist_ok=True)
    with written_whole(folder / "README.md") as draft:
        draft.write_text(f"# Reference comparison of the built-in tasks\n\n{fill(about, 110)}\n", encoding="utf-8")


def options(preset: str = "", out: str = "", workers: int = 1) -> list[click.Parameter]:
    """The options of a comparison."""
    count = click.IntRange(1)
    return [
        Option("preset", "Comparison to start from: quick, reference, published, or a file (.yaml)", preset),
        Option("strategies", "Names, or parts joined by '+', comma-separated  [default: all named strategies]"),
        Option("per_label", "Labelled training examples per label, comma-separated  [default: 32]"),
        Option("rows", "Labelled rows as frequent as they are, comma-separated, or all: instead of --per-label"),
        Option("seeds", "Number of seeds, from --seed on  [default: 3]", None, type=count),
        Option("data_seeds", "Number of few-shot draws, from --data-seed on  [default: 1]", None, type=count),
        Option("demo_seeds", "Number of draws of demonstrations from the examples  [default: 1]", None, type=count),
        Option("workers", "Runs at the same time, in processes of one thread", workers, type=count),
        Option("tuned", "Tune every strategy first, then compare the winners", False, type=bool, metavar="true|false"),
        Option("trials", "Trials per study when tuned", 20, type=count),
        Option("out", "Folder for the small files of the reports: Markdown, CSV, still figures", out),
        click.Option(["--json", "as_json"], is_flag=True, help="Print the tables as JSON."),
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
    "reports/reference: `effft compare --preset reference --out reports/reference --workers 2`.",
    params=options("reference", "reports/reference", 2),
    epilog=examples("effft reference", "effft reference --task overlap --seeds 1 --data-seeds 2"),
)
