"""`effft estimate`: what runs would take, before any weight is loaded."""

from typing import TYPE_CHECKING

import click

from effft.cli.options import Command, Option, examples, option
from effft.config import PART_FIELDS

if TYPE_CHECKING:
    from effft.runs.estimate import Estimate

FIELDS = (
    "task", "data_dir", "allow_outside", "per_label", "model", "revision", "max_length", "precision", "device",
    "threads", *PART_FIELDS, "epochs", "steps", "batch_size", "evaluation_limit",
)  # fmt: skip
"""The RunConfig fields that change what a run takes."""

HEADS = ("strategy", "trainable", "weights", "state", "activ.", "peak MB", "train s", "eval s")


@click.command(
    cls=Command,
    params=[
        Option("strategies", "Names, or parts joined by '+', comma-separated  [default: all named strategies]"),
        Option("json", "Print JSON, with floating-point operations", False, is_flag=True),
        *(option(name) for name in FIELDS),
    ],
    epilog=examples(
        "effft estimate --model facebook/opt-1.3b --task mnli --per-label 32",
        "effft estimate --strategies lora,lora+pbft,vanilla --epochs 10 --threads 1",
    ),
)
def estimate(strategies: str, per_label: str | None, json: bool, **values: str | None) -> None:
    """Estimate memory by kind, floating-point operations, and time on this machine.

    Only the configuration and the tokenizer of the model are read; nothing is trained.
    """
    from effft.cli.compare import comparison_of
    from effft.cli.output import print_json, print_table
    from effft.runs.estimate import Skeletons
    from effft.runs.estimate import estimate as estimate_run

    configs = [
        run.config
        for run in comparison_of(
            strategies=strategies, per_label=per_label or "", seeds=1, data_seeds=1, preset="", **values
        ).runs()
    ]
    skeletons = Skeletons()
    estimates = [estimate_run(config, skeletons) for config in configs]
    if json:
        print_json([vars(one) for one in estimates])
        return
    print_table(HEADS, [cells(one) for one in estimates], HEADS[1:])
    click.echo(
        f"\nSizes in MB, of {estimates[0].total:,} parameters in {estimates[0].precision}: weights, training state "
        "(gradients and optimizer),\nactivations, and the peak above the start of the process. "
        "Times at half of this machine's\nmatrix-product rate, measured now. --json has every number."
    )


def cells(one: "Estimate") -> list[str]:
    """A line of the table."""
    sizes = (one.weights, one.gradients + one.optimizer, one.activations, one.peak)
    times = (f"{seconds:,.3g}" for seconds in (one.train_seconds, one.evaluation_seconds))
    return [one.strategy, f"{one.trainable:,}", *(f"{size / 1e6:,.0f}" for size in sizes), *times]
