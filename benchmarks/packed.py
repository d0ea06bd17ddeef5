"""Packed LoRA trials against the same trials one after another: `python -m benchmarks.packed`; one Markdown table.

Steps of both are timed in turn, several times, and the best of each turn counts. `--shape opt-small` is quick.
"""

import platform
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median

import click
import torch

from benchmarks.material import KEEP, make_material
from effft.config import make_config
from effft.models.backbone import Backbone
from effft.multi_adapter.member import Member, new_member
from effft.multi_adapter.runs import shared_backbone
from effft.multi_adapter.trainer import MultiAdapterTrainer
from effft.runs.plan import Plan, prepare_validation, prompt_encoders
from effft.runs.session import Session
from effft.strategies.learner import Learner
from effft.strategies.prompting import PromptEncoder
from effft.training.loop import train

RANKS = {"rank 8": (8,), "ranks 1 to 64": (1, 2, 4, 8, 16, 32, 64)}
"""Trials take these in turn."""

RATE = 1e-4
"""A learning rate, which does not matter here."""


@click.command(help=__doc__)
@click.option("--shape", default="opt-125m", help="architecture (benchmarks/material.py)")
@click.option("--packs", default="8", help="numbers of trials, comma-separated")
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
    """Time both, and print the table."""
    model, task = make_material(Path(keep), shape)
    session = Session()
    torch.set_num_threads(threads)
    click.echo(f"{shape}, {modules}, {platform.machine()}, {threads} threads, torch {torch.__version__}\n")
    click.echo("| trials | batch | ranks | precision | alone, s for a trial's step | packed | times faster |")
    click.echo("|---|---|---|---|---|---|---|")
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
    alone, packed = [], []
    for _ in range(repeats):
        alone.append(fmean(seconds_alone(plan, steps) for plan in different))
        packed.append(seconds_packed(plans, steps) / len(plans))
    one, other, first = median(alone), median(packed), plans[0]
    cells = (len(plans), first.config.batch_size, name, first.resolved.precision)
    return f"| {' | '.join(map(str, cells))} | {one:.4f} | {other:.4f} | {one / other:.2f} |"


def seconds_alone(plan: Plan, steps: int) -> float:
    """Seconds of one step of a trial by itself: the best of `steps`."""
    plan = _with_steps(plan, steps)
    backbone = plan.session.working_backbone(plan.config, False)
    generator = torch.Generator().manual_seed(plan.config.seed)
    encoder = _encoder(plan, backbone)
    learner = Learner(plan.strategy, plan.task, backbone, encoder, generator, plan.resolved.precision)
    order = random.Random(f"order {plan.config.seed}")
    updates = train(learner, learner.items(plan.few_shot.train), plan.config, RATE, order)
    return _best(lambda: next(updates), steps)


def seconds_packed(plans: Sequence[Plan], steps: int) -> float:
    """Seconds of one step of all trials packed: the best of `steps`."""
    backbone = shared_backbone(plans[0])
    trainer = MultiAdapterTrainer(backbone)
    trainer.members = [_member(_with_steps(plan, steps), backbone) for plan in plans]
    return _best(trainer.step, steps)


def _member(plan: Plan, backbone: Backbone) -> Member:
    encoder, examples = _encoder(plan, backbone), plan.few_shot.train
    return new_member(plan.strategy, plan.task, backbone, encoder, plan.config, RATE, lambda one: one.items(examples))


def _encoder(plan: Plan, backbone: Backbone) -> PromptEncoder:
    return prompt_encoders(plan.strategy, plan.task, backbone, plan.config, plan.demonstrations)[0]


def _with_steps(plan: Plan, steps: int) -> Plan:
    return replace(plan, config=plan.config.model_copy(update={"steps": steps}))


def _best(step: Callable[[], object], steps: int) -> float:
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        step()
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == "__main__":
    main()
