"""`effft task new FILE`: the task file that one can go on from."""

from pathlib import Path

import click

from effft.cli.options import Command, Group, Option, examples, option
from effft.config import DATA_FIELDS, make_config


def _option(name: str) -> Option:
    """A field of the data, which is an argument here."""
    made = option(name)
    made.help = str(made.help).replace("--data", "DATA")
    return made


@click.group(cls=Group)
def task() -> None:
    """Make a task of your own."""


@task.command(
    cls=Command,
    params=[click.Argument(["data"]), *map(_option, DATA_FIELDS[1:])],
    epilog=examples(
        "effft task new reviews.csv > task.yaml",
        "effft task new reviews.csv --text body --label stars --test test.csv --ood books.csv > task.yaml",
    ),
)
def new(**values: str | None) -> None:
    """Print the task file of DATA, a file of labelled rows or a data set of the hub, for this folder.

    `--task task.yaml` then gives the same runs as `--data DATA`, and the file can be changed.
    """
    from effft.tasks.from_data import as_yaml, task_from_data

    click.echo(as_yaml(task_from_data(make_config(values)), Path.cwd()), nl=False)
