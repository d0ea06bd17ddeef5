"""The full comparison of the built-in tasks, several processes side by side, and its report kept in a folder."""

import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

import click
from mlflow import MlflowClient

from effft.cli.compare import words
from effft.errors import InputError
from effft.reports.report import Report, build
from effft.tasks.task import load_task
from effft.tracking.reading import RunReader
from effft.tracking.store import open_client

ROOT = Path(__file__).parent.parent
CURVE = "vanilla,pbft,lora"
"""Strategies that are also run at other strengths of the shortcut."""

KEPT = ("report.md", "results.csv", "differences.csv")
ENDED = {"FINISHED", "FAILED", "KILLED"}


@dataclass(frozen=True)
class Grid:
    """What is compared, as words for the command line."""

    tasks: str
    strategies: str
    per_label: str
    seeds: int
    data_seeds: int
    evaluation_limit: int
    strengths: str

    @property
    def flags(self) -> list[str]:
        """Of every comparison."""
        numbers = {"--seeds": self.seeds, "--data-seeds": self.data_seeds, "--evaluation-limit": self.evaluation_limit}
        return [word for name, value in numbers.items() for word in (name, str(value))]

    @property
    def comparisons(self) -> list[tuple[str, list[str]]]:
        """(task, flags): a whole comparison a task, then the curve of `overlap` at every strength."""
        counts, chosen = words(self.per_label, "--per-label"), ["--strategies", self.strategies]
        whole = [*self.flags, "--per-label", ",".join(counts), *(chosen if self.strategies else [])]
        found = [(task, whole) for task in words(self.tasks, "--tasks")]
        if self.strengths and "overlap" in dict(found):
            curve = [*self.flags, "--per-label", counts[-1], "--strategies", CURVE, "--overlap-strength"]
            found += [("overlap", [*curve, text]) for text in words(self.strengths, "--strengths")]
        return found


@dataclass(frozen=True)
class Job:
    """One `effft compare` in a process of its own. run: the MLflow run that it adopts, as under `mlflow run`."""

    task: str
    flags: Sequence[str]
    run: str


def start(workers: int, out: str, tracking_uri: str, **given: str | int) -> None:
    """Run all comparisons, then make a report a task: the page in `report-<task>`, what is committed in `out`."""
    grid, begun = Grid(**given), time.monotonic()  # type: ignore[arg-type]
    if Path(out).is_file():
        raise InputError(f"out={out}: this is a file; name a folder (flag --out).")
    for task, _ in grid.comparisons:
        load_task(task)
    client = open_client(tracking_uri)
    jobs = [Job(task, flags, new_run(client, task)) for task, flags in grid.comparisons]
    try:
        codes = work_on(jobs, workers, tracking_uri)
    finally:
        for job in jobs:
            if client.get_run(job.run).info.status not in ENDED:
                client.set_terminated(job.run, "FAILED")
    total, command = 0, said(grid)
    for task in dict.fromkeys(job.task for job in jobs):
        made = build(RunReader(client), task, "", ",".join(job.run for job in jobs if job.task == task), command)
        total += made.runs + made.other_difficulty
        click.echo(f"report of {made.runs} runs: {made.write(Path(f'report-{task}'))}")
        keep(made, Path(out) / task)
    minutes = (time.monotonic() - begun) / 60
    tasks = list(dict.fromkeys(job.task for job in jobs))
    (Path(out) / "README.md").write_text(readme(grid, tasks, command, total, minutes, workers), encoding="utf-8")
    click.echo(f"{total} runs in {minutes:.1f} minutes; kept in {out}")
    if any(codes):
        raise click.exceptions.Exit(1)


def new_run(client: MlflowClient, task: str) -> str:
    """An empty run in the task's experiment, for a comparison to adopt."""
    found = client.get_experiment_by_name(f"effft/{task}")
    home = found.experiment_id if found else client.create_experiment(f"effft/{task}")
    return str(client.create_run(home, tags={"kind": "comparison", "task": task}).info.run_id)


def work_on(jobs: Sequence[Job], workers: int, tracking_uri: str) -> list[int]:
    """The exit codes of the jobs; whatever ends this process early ends theirs."""
    running: list[subprocess.Popen[str]] = []
    pool = ThreadPoolExecutor(workers)
    try:
        return list(pool.map(lambda job: work(job, tracking_uri, running), jobs))
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in running:
            process.terminate()
        raise
    finally:
        pool.shutdown()


def work(job: Job, tracking_uri: str, running: "list[subprocess.Popen[str]]") -> int:
    """Do one comparison; its progress and its faults go on with the name of the task before them."""
    command = [sys.executable, "-m", "effft", "compare", "--task", job.task, "--threads", "1", *job.flags]
    command += ["--tracking-uri", tracking_uri] if tracking_uri else []
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    own = {**os.environ, "MLFLOW_RUN_ID": job.run, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(  # noqa: S603 # nosec B603 # our own command
        command, env=own, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace"
    ) as process:
        assert process.stderr is not None
        running.append(process)
        for line in process.stderr:
            click.echo(f"{job.task}: {line.rstrip()}", err=True)
    return process.returncode


def keep(made: Report, folder: Path) -> None:
    """The part of a report that is small enough to be committed; what an earlier one left there goes."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.svg"):
        old.unlink()
    for name, content in made.files.items():
        if name in KEPT or name.endswith(".svg"):
            (folder / name).write_text(content, encoding="utf-8")


def said(grid: Grid) -> str:
    """The command that does it again: what is not as usual."""
    usual = {parameter.name: parameter.default for parameter in remake.params}
    given = [(name, value) for name, value in vars(grid).items() if value != usual[name]]
    flags = [word for name, value in given for word in (f"--{name.replace('_', '-')}", str(value))]
    return shlex.join(["python", "-m", "reports", *flags])


def readme(grid: Grid, tasks: Sequence[str], command: str, runs: int, minutes: float, workers: int) -> str:
    """What lies in the folder and how it was made."""
    links = ", ".join(f"[{task}]({task}/report.md)" for task in tasks)
    curve = (
        f" `overlap` also with the shortcut's strength at {grid.strengths} ({CURVE})."
        if len(grid.comparisons) > len(tasks)
        else ""
    )
    cores = f"{workers} processes of one thread on {os.cpu_count()} cores ({platform.machine()})"
    about = (
        f"{runs} runs on `tiny-lm`: {grid.strategies or 'every strategy'}, {grid.per_label} examples per label, "
        f"{grid.seeds} seeds x {grid.data_seeds} draws of the shots (fewer where a seed or a draw changes nothing), "
        f"{grid.evaluation_limit} examples evaluated a split.{curve} The command that makes it again, in "
        f"{minutes:.1f} minutes as measured ({cores}):"
    )
    left = (
        "It leaves the pages in `report-<task>/report.html`, the runs in MLflow, and here the Markdown "
        f"({links}), the CSVs of cells and differences, and the still figures."
    )
    lines = ("# Reference comparison of the built-in tasks", fill(about, 120), f"```\n{command}\n```", fill(left, 120))
    return "\n\n".join(lines) + "\n"


remake = click.Command(
    "reference-report",
    callback=start,
    help="The full comparison of the built-in tasks, a process a task, and its report: the pages in report-<task>/, "
    "Markdown, CSVs and still figures in a folder to commit.",
    epilog="\b\nExamples:\n  effft reference-report\n  effft reference-report --seeds 3 --data-seeds 4 --strengths ''",
    params=[
        click.Option(["--tasks"], default="agreement,overlap", show_default=True, help="built-in tasks"),
        click.Option(["--strategies"], default="", help="names, comma-separated  [default: all]"),
        click.Option(["--per-label"], default="8,32", show_default=True, help="training examples per label"),
        click.Option(["--seeds"], default=2, type=click.IntRange(1), show_default=True, help="seeds"),
        click.Option(["--data-seeds"], default=3, type=click.IntRange(1), show_default=True, help="draws of the shots"),
        click.Option(
            ["--evaluation-limit"], default=500, type=click.IntRange(0), show_default=True, help="examples a split"
        ),
        click.Option(
            ["--strengths"],
            default="0.9,0.5,0",
            show_default=True,
            help=f"overlap_strength values of the curve of {CURVE} ('' = none)",
        ),
        click.Option(["--workers"], default=2, type=click.IntRange(1), show_default=True, help="processes"),
        click.Option(["--out"], default="reports/reference", show_default=True, help="folder for what is committed"),
        click.Option(["--tracking-uri"], default="", help="MLflow store  [default: MLflow's own, ./mlflow.db]"),
    ],
)
