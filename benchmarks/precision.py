"""`python -m benchmarks.precision`: the same runs in bf16 and in fp32, paired by seed; one table on the screen.

`--task`, `--model`, `--data-dir` for real data. The test: paired sign flips, exact for 10 seeds, corrected by Holm.
"""

import click
import numpy as np

from effft.config import make_config
from effft.evaluation.statistics import holm, interval, sign_flip
from effft.runs.experiment import run
from effft.runs.session import Session
from effft.tracking.tracker import MemoryTracker


@click.command(help=__doc__)
@click.option("--strategies", default="lora,pbft", help="comma-separated")
@click.option("--tasks", default="agreement,overlap", help="comma-separated")
@click.option("--model", default="", help="'' = the built-in one")
@click.option("--data-dir", default="", help="folder with the task's files")
@click.option("--per-label", default=32)
@click.option("--seeds", default=10, help="each seed also draws other shots")
@click.option("--evaluation-limit", default=0)
def main(
    strategies: str, tasks: str, model: str, data_dir: str, per_label: int, seeds: int, evaluation_limit: int
) -> None:
    """Measure every pair and print the differences."""
    session, rows, tests = Session(), [], []
    for task in tasks.split(","):
        for strategy in strategies.split(","):
            values = {"strategy": strategy, "task": task, "per_label": per_label, "bootstrap": 0, "data_dir": data_dir}
            values |= {"model": model} if model else {}
            values |= {"evaluation_limit": evaluation_limit} if evaluation_limit else {}
            found: dict[str, dict[str, list[float]]] = {"bf16": {}, "fp32": {}}
            for seed in range(seeds):
                for precision, kept in found.items():
                    more = {"seed": seed, "data_seed": seed, "precision": precision, "threads": 1}
                    result = run(make_config(values | more), MemoryTracker(), session)
                    for split in ("in_domain", *(f"ood/{name}" for name in result.ood)):
                        kept.setdefault(f"{split}/{result.primary}", []).append(
                            result.metrics[f"{split}/{result.primary}"]
                        )
            for name, exact in found["fp32"].items():
                short = np.array(found["bf16"][name])
                apart = short - np.array(exact)
                ends = interval(apart, np.arange(seeds), np.arange(seeds)) or (0.0, 0.0)
                tests.append(sign_flip(apart))
                rows.append(
                    f"| {task} | {strategy} | {name} | {np.mean(exact):.4f} | {short.mean():.4f} "
                    f"| {apart.mean():+.4f} [{ends[0]:+.4f}, {ends[1]:+.4f}] |"
                )
                click.echo(f"{rows[-1]} {tests[-1]:.3f}", err=True)
    click.echo(
        "| task | strategy | metric | fp32 | bf16 | difference, 95 % | p | p, Holm |\n|---|---|---|---|---|---|---|---|"
    )
    for row, p, corrected in zip(rows, tests, holm(tests), strict=True):
        click.echo(f"{row} {p:.3f} | {corrected:.3f} |")


if __name__ == "__main__":
    main()
