"""`effft compare`: many runs, one parent, one table."""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from effft.cli.options import FIELDS, Command, Option, default_of, option, spell, tracking_options
from effft.errors import InputError
from effft.strategies.strategy import NAMED

if TYPE_CHECKING:
    from effft.cli.output import Progress
    from effft.config import RunConfig
    from effft.runs.compare import Outcome
    from effft.tracking.tracker import Tracker

PER_LABEL = "32"
SEEDS = 3
DATA_SEEDS = 1

EXAMPLES = """\
\b
Examples:
  effft compare --strategies vanilla,pbft,lora,icl --seeds 3 --data-seeds 3
  effft compare --task overlap --per-label 16,32,64 --seeds 1
  effft compare --strategies lora,lora+pbft --rank 4 --task mnli --data-dir data --model path/to/model
"""


def words(text: str, what: str) -> list[str]:
    """'a, b' -> ['a', 'b'], without repetitions; none at all is an InputError."""
    found = list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not found:
        raise InputError(f"{what} is empty; give at least one, comma-separated.")
    return found


def configs_of(strategies: str, seeds: int, data_seeds: int, per_label: str, **shared: str | None) -> "list[RunConfig]":
    """The runs asked for. `seed` and `data_seed` are the first ones: seeds=3 with seed=10 is 10, 11, 12."""
    from effft.config import make_config
    from effft.runs.compare import grid

    first = make_config({k: v for k, v in shared.items() if k in ("seed", "data_seed")})
    rest = {k: v for k, v in shared.items() if k not in ("seed", "data_seed")}
    return grid(
        words(strategies, "--strategies"),
        words(per_label, "--per-label"),
        range(first.seed, first.seed + seeds),
        range(first.data_seed, first.data_seed + data_seeds),
        rest,
    )


def filled(preset: str, strategies: str, per_label: str, shared: "Mapping[str, str | None]") -> "dict[str, Any]":
    """The values given; then the preset's; then the defaults."""
    from effft.cli.preset import with_preset
    from effft.tasks.task import load_task

    default: dict[str, str | None] = {"strategies": ",".join(NAMED), "per_label": PER_LABEL}
    given: dict[str, str | None] = {**shared, "strategies": strategies, "per_label": per_label}
    if not preset:
        return default | {key: value for key, value in given.items() if value}
    patterns = load_task(shared.get("task") or "agreement", allow_outside=True).patterns  # no file is read
    own = {key: value for key, value in given.items() if value and not stands_by_default(key, value, default)}
    return default | with_preset(preset, own, patterns)


def stands_by_default(name: str, value: str, default: "Mapping[str, str | None]") -> bool:
    """Whether a value is what `mlflow run` passes for a parameter that nobody gave."""
    usual = default[name] if name in default else default_of(name)
    if usual is None:
        return False
    try:
        return float(value) == float(usual)
    except ValueError:
        return value == spell(usual)


def start(
    strategies: str,
    seeds: int,
    data_seeds: int,
    per_label: str,
    preset: str,
    tuned: bool,
    trials: int,
    tracking_uri: str,
    experiment: str,
    no_tracking: bool,
    **shared: str | None,
) -> None:
    """Check every run, do them under one parent run, print and keep the table; exit code 1 when a run failed."""
    given = filled(preset, strategies, per_label, shared)
    if tuned:  # `search` stands above this room, so it is found, not imported
        search = importlib.import_module("effft.cli.compare_tuned")
        search.start(given, trials, seeds, data_seeds, tracking_uri, experiment, no_tracking)
        return
    configs = configs_of(seeds=seeds, data_seeds=data_seeds, **given)
    from effft.cli.tracking import check_tracker, how_to_view, open_tracker

    check_tracker(tracking_uri, no_tracking)
    from effft.cli.output import Progress
    from effft.runs.compare import prepare_all, run_plans
    from effft.runs.session import Session
    from effft.tracking.tracker import tracked

    outcomes: list[Outcome] = []
    names = ",".join(dict.fromkeys(config.strategy for config in configs))
    with Progress() as progress:
        plans = prepare_all(configs, Session(), progress)
        task = plans[0].task.name
        tags = {"task": task, "strategies": names, "backbone": configs[0].model, "kind": "comparison"}
        name = f"compare {names}"[:200]
        parent = open_tracker(experiment or plans[0].experiment, name, tags, tracking_uri, no_tracking)
        with tracked(parent):
            parent.params({"runs": len(plans), "strategies": names, "seeds": seeds, "data_seeds": data_seeds})
            try:
                for outcome in run_plans(plans, parent, progress.runs, progress):
                    outcomes.append(outcome)
            finally:
                finish(outcomes, parent, progress)
            report_on(task, parent)
            if any(outcome.failure for outcome in outcomes):
                parent.close("FAILED")
    if not no_tracking:
        click.echo(f"view: {how_to_view(parent, tracking_uri)}")
    if any(outcome.failure for outcome in outcomes):
        raise click.exceptions.Exit(1)


def report_on(task: str, parent: "Tracker") -> None:
    """The report of these runs, with the parent run and in a folder; a fault in it does not undo the runs."""
    from effft.tracking.mlflow_tracker import MlflowTracker

    if not isinstance(parent, MlflowTracker):
        return
    from mlflow.exceptions import MlflowException

    from effft.cli.report import log_report, print_report
    from effft.errors import EffftError
    from effft.reports.report import build
    from effft.tracking.reading import RunReader

    command = f"effft report --task {task} --parent {parent.run_id}"
    if parent.unsent:
        click.echo(f"effft: the report is made later: {parent.unsent} Then `{command}`.", err=True)
        return
    try:
        made = build(RunReader(parent.client), task, parent.home, parent.run_id, command)
        view = log_report(parent, made)
        print_report(made, made.write(Path(f"report-{task}")), view)
    except (EffftError, MlflowException) as error:
        click.echo(f"effft: the report could not be made: {error}", err=True)


def finish(outcomes: "Sequence[Outcome]", parent: "Tracker", progress: "Progress") -> None:
    """Print the table of what is there and keep it with the parent run."""
    from effft.cli.output import console
    from effft.reports.csv_files import outcomes_csv
    from effft.reports.results import outcomes_table

    progress.stop()
    if not outcomes:
        return
    table = outcomes_table(outcomes)
    table.print(console())
    parent.text("comparison.md", table.markdown())
    parent.text("comparison.csv", outcomes_csv(outcomes))
    parent.metrics(table.metrics())
    parent.flush()


compare = Command(
    "compare",
    callback=start,
    help="Run several strategies on the same training examples under one parent run, and print one table: in domain, "
    "OOD, gap, trainable share, peak memory, time. A parameter of a part goes to the strategies that have it.",
    epilog=EXAMPLES,
    params=[
        Option("strategies", "Names, or parts joined by '+', comma-separated  [default: all named strategies]"),
        Option("per_label", "Labelled training examples per label; several numbers comma-separated", PER_LABEL),
        Option("seeds", "Number of seeds, from --seed on", SEEDS, type=click.IntRange(1)),
        Option(
            "data_seeds", "Number of draws of the examples, from --data-seed on", DATA_SEEDS, type=click.IntRange(1)
        ),
        Option("preset", "Settings where none are given: published (arXiv 2405.13181)"),
        Option("tuned", "Tune every strategy first, then compare the winners", False, type=bool, metavar="true|false"),
        Option("trials", "Trials per study when tuned", 20, type=click.IntRange(1)),
        *(option(name) for name in FIELDS if name != "per_label"),
        *tracking_options(),
    ],
)
