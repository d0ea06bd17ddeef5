"""`effft estimate`: what runs would take, before any weight is loaded."""

from typing import TYPE_CHECKING

import click

from effft.cli.options import option
from effft.config import PART_FIELDS
from effft.strategies.parts import NAMED

if TYPE_CHECKING:
    from effft.runs.estimate import Estimate

FIELDS = (
    "task", "model", "revision", "data_dir", "allow_outside", "per_label", *PART_FIELDS, "epochs", "steps",
    "batch_size", "max_length", "evaluation_limit", "precision", "device", "threads",
)  # fmt: skip
"""The RunConfig fields that change what a run takes."""

EXAMPLES = """\
\b
Examples:
  effft estimate --model facebook/opt-1.3b --task mnli --per-label 32
  effft estimate --strategies lora,lora+pbft,vanilla --epochs 10 --threads 1
"""

HEADS = (
    "strategy", "parameters", "trainable", "weights MB", "gradients MB", "optimizer MB", "activations MB", "peak MB",
    "TFLOP train", "eval", "s train", "eval",
)  # fmt: skip


def start(strategies: str, **values: str | None) -> None:
    """Estimate each strategy, and print a line each."""
    from effft.cli.compare import words
    from effft.runs.compare import grid

    per_label = values.pop("per_label") or "32"
    configs = grid(words(strategies, "--strategies"), [per_label], [0], [0], values)
    from rich.table import Table

    from effft.cli.console import console
    from effft.runs.estimate import Skeletons, estimate

    session = Skeletons()
    found = [estimate(config, session) for config in configs]
    table = Table(box=None, padding=(0, 2, 0, 0))
    for place, head in enumerate(HEADS):
        table.add_column(head, justify="right" if place else "left")
    for one in found:
        table.add_row(*cells(one))
    out = console()
    out.print(table)
    out.print(
        f"\nbackbone in {found[0].precision}; peak above the start of the process, loading included;", markup=False
    )
    out.print("seconds at half of the matrix-product rate of this machine, measured now.", markup=False)


def cells(one: "Estimate") -> list[str]:
    """A line of the table."""
    sizes = (one.weights, one.gradients, one.optimizer, one.activations, one.peak)
    work = (one.train_flops / 1e12, one.evaluation_flops / 1e12, one.train_seconds, one.evaluation_seconds)
    counts = [f"{one.total:,}", f"{one.trainable:,}"]
    return [one.strategy, *counts, *(f"{size / 1e6:,.0f}" for size in sizes), *(f"{value:,.3g}" for value in work)]


estimate = click.Command(
    "estimate",
    params=[
        click.Option(["--strategies"], default=",".join(NAMED), help="names, or parts joined by '+', comma-separated"),
        *(option(name) for name in FIELDS),
    ],
    callback=start,
    help="What runs would take: parameters, memory by kind, floating-point operations, and time on this machine. "
    "Only the configuration and the tokenizer of the model are read.",
    epilog=EXAMPLES,
)
