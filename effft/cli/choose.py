"""`effft choose`, `mlflow run . -e choose`: which strategy to take for these rows, this memory and these minutes."""

import time
from typing import Any

import click

from effft.cli.options import FIELDS, Command, Option, examples, option, tracking_options
from effft.config import PART_FIELDS, TrackingTarget
from effft.runs.comparison_file import split_names

SHARED = tuple(name for name in FIELDS if name not in (*PART_FIELDS, "log_model", "cross_validation", "bootstrap"))
"""Fields that every candidate takes; label words go to those that read them."""


@click.command(
    cls=Command,
    params=[
        Option("minutes", "Minutes that everything may take, the final training included", "20"),
        Option("memory", "Memory that the process may take, such as 8GB  [default: no limit]"),
        Option("latency", "Time that a query may take, such as 50ms  [default: no limit]"),
        Option("models", "Models to choose from, comma-separated  [default: --model]"),
        Option(
            "average",
            "Train all finalists; the model is their mean, weighted by P(best)",
            False,
            is_flag=True,
        ),
        Option("study", "Name of the study in the storage  [default: task/choose/rows/models/seeds]"),
        Option("storage", "Optuna storage, any SQLAlchemy URL", "sqlite:///optuna.db"),
        Option("json", "Print the answer as JSON", False, is_flag=True),
        *(option(name) for name in (*SHARED, "label_words")),
        *tracking_options(),
    ],
    epilog=examples(
        "effft choose --data reviews.csv --minutes 20 --memory 8GB --models path/to/model",
        "effft choose --task overlap --rows 64 --minutes 2",
    ),
)
def choose(
    minutes: str,
    memory: str,
    latency: str,
    models: str,
    average: bool,
    study: str,
    storage: str,
    json: bool,
    target: TrackingTarget,
    **given: Any,
) -> None:
    """Race the strategies on your rows within your minutes, and say which to use, how sure that is, and at what cost.

    Nothing selects on in-domain test or OOD data. The same command goes on after an interruption.
    """
    began = time.monotonic()
    values = {name: value for name, value in given.items() if value not in (None, "")}
    from effft.api import choose as choose_strategy
    from effft.cli.output import Progress, console, print_json, print_table
    from effft.cli.tracking import ui_line

    names = split_names(models, "--models") if models else []
    with Progress() as progress:
        answer = choose_strategy(
            minutes=minutes, memory=memory, latency=latency, models=names, average=average, study=study,
            storage=storage, tracking_uri=target.uri, experiment=target.experiment, no_tracking=target.disabled,
            began=began, progress=progress, **values,
        )  # fmt: skip
    if json:
        print_json(answer.json())
        return
    print_table(answer.table.heads, answer.table.rows, answer.table.left)
    console().print("\n".join(answer.sentences), markup=False)
    if answer.run_id:
        click.echo(f"view: {ui_line(target.uri)}")
