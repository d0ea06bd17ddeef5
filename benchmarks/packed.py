"""Trials in a pack against the same trials one after another: `python -m benchmarks.packed`; one Markdown table.

The steps of both sides are timed in turn, several times, and the best of each counts: what a pack saves is passes,
not noise. `--shape opt-small` to try it out.
"""

import platform
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median

import click
import torch

from benchmarks.material import KEEP, make_material
from effft.config import make_config
from effft.multi_adapter.batch import adapter_bytes
from effft.multi_adapter.member import frozen_learner
from effft.multi_adapter.probe import seconds_alone, seconds_together
from effft.multi_adapter.runs import original, working
from effft.runs.plan import Plan, prepare_validation
from effft.runs.session import Session

RANKS = {"rank 8": (8,), "ranks 1 to 64": (1, 2, 4, 8, 16, 32, 64)}
"""Members take these in turn."""


@click.command(help=__doc__)
@click.option("--shape", default="opt-125m", help="architecture (benchmarks/material.py)")
@click.option("--packs", default="8", help="members, comma-separated")
@click.option("--batches", default="8,32", help="batch sizes, comma-separated")
@click.option("--precision", default="auto", help="auto, bf16 or fp32")
@click.option("--modules", default="query_value", help="lora_modules")
@click.option("--threads", default=1, help="CPU threads of both sides")
@click.option("--repeats", default=3, help="turns of both sides")
@click.option("--steps", default=3, help="steps a turn, of which the best counts")
@click.option("--device", default="auto", help="cpu, cuda or auto")
@click.option("--keep", default=KEEP, help="where models and data are made")
def main(
    shape: str, packs: str, batches: str, precision: str, modules: str, threads: int, repeats: int, steps: int,
    device: str, keep: str,
) -> None:  # fmt: skip
    """Time, and print."""
    model, task = make_material(Path(keep), shape)
    session = Session()
    torch.set_num_threads(threads)
    click.echo(f"{shape}, {modules}, {platform.machine()}, {threads} threads, torch {torch.__version__}\n")
    click.echo("| pack | batch | ranks | precision | alone s a trial's step | packed | times faster | MB a member |")
    click.echo("|---|---|---|---|---|---|---|---|")
    for size in map(int, packs.split(",")):
        for batch in map(int, batches.split(",")):
            for name, ranks in RANKS.items():
                common = {"strategy": "lora", "model": str(model), "task": str(task), "per_label": 64, "device": device}
                common |= {"batch_size": batch, "lora_modules": modules, "threads": threads, "precision": precision}
                plans = [
                    prepare_validation(make_config(common | {"rank": ranks[i % len(ranks)], "seed": i}), session)
                    for i in range(size)
                ]
                click.echo(_row(plans, name, repeats, steps))


def _row(plans: Sequence[Plan], name: str, repeats: int, steps: int) -> str:
    different = list({plan.config.rank: plan for plan in plans}.values())
    alone, together = [], []
    for _ in range(repeats):
        alone.append(fmean(seconds_alone(plan, steps) for plan in different))
        together.append(seconds_together(plans, steps) / len(plans))
    ours, theirs = median(together), median(alone)
    owned = [_bytes(plan) for plan in plans]
    size, batch, precision = len(plans), plans[0].config.batch_size, plans[0].resolved.precision
    return (
        f"| {size} | {batch} | {name} | {precision} | {theirs:.4f} | {ours:.4f} | {theirs / ours:.2f} "
        f"| {sum(owned) / len(owned) / 1e6:.1f} |"
    )


def _bytes(plan: Plan) -> int:
    from effft.runs.plan import prompt_encoders

    backbone = original(plan) if plan.resolved.precision != "bf16" else working(plan)
    reader, _ = prompt_encoders(plan.strategy, plan.task, backbone, plan.config, ())
    return adapter_bytes(frozen_learner(plan.strategy, plan.task, backbone, reader, torch.Generator())[1].weights)


if __name__ == "__main__":
    main()
