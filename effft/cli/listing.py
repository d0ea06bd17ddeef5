"""`effft tasks`, `effft strategies`, `effft mlproject`: what there is."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.table import Table


def _table(*heads: str) -> "Table":
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for head in heads:
        table.add_column(head, overflow="fold")
    return table


@click.command(help="The tasks: labels, metric, splits, patterns. A task of your own is a YAML file: --task my.yaml.")
def tasks() -> None:
    """A line a task."""
    from effft.cli.console import console
    from effft.tasks.task import known_tasks, load_task

    table = _table("task", "labels", "metric", "OOD sets", "patterns")
    for name in known_tasks():
        task = load_task(name)
        ood = ", ".join(split.removeprefix("ood/") for split in task.split_names if split.startswith("ood/"))
        table.add_row(name, ", ".join(task.labels), task.metric, ood, ", ".join(task.patterns))
    console().print(table)


@click.command(help="The strategies, the four choices each is made of, and the names that join by '+'.")
def strategies() -> None:
    """A line a strategy, then the parts."""
    from effft.cli.console import console
    from effft.cli.run import COMPOSED
    from effft.strategies.parts import NAMED, PARTS, SUMMARY
    from effft.strategies.strategy import AXES, compose

    table = _table("strategy", *AXES)
    for name in (*NAMED, *COMPOSED):
        table.add_row(name, *(part.about for part in compose(name).parts))
    out = console()
    out.print(table)
    only = {name: SUMMARY[name] for name in PARTS if name not in NAMED}
    out.print("\nNames join by '+'; these serve only there:", markup=False)
    for name, line in only.items():
        out.print(f"  {name}: {line}", markup=False)
    out.print("\n`effft run STRATEGY --help` lists the parameters of a strategy.", markup=False)


@click.command(help="Print the MLproject file that these commands imply (the repository keeps a copy of it).")
@click.option("--image", default="", help="Docker image to run in, as MLflow's Kubernetes backend needs one")
def mlproject(image: str) -> None:
    """To stdout."""
    from effft.cli.mlproject import text

    click.echo(text(image), nl=False)
