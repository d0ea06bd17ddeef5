"""`python -m benchmarks.scaling`: cost against size, at 1, 2, 4 and 8 times; one table in benchmarks/scaling.md.

Linear: seconds grow with examples, epochs and evaluation rows; flat: seconds a trial of a study.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import click

from benchmarks.driver import Instant, timed
from benchmarks.material import make_material
from effft.config import make_config
from effft.runs.experiment import run
from effft.runs.session import Session
from effft.search.settings import Settings
from effft.search.study import plan_study
from effft.search.units import InProcess
from effft.tracking.tracker import MemoryTracker

TIMES = (1, 2, 4, 8)
REPEATS = 3


@click.command(help=__doc__)
@click.option("--shape", default="opt-125m", help="architecture (benchmarks/material.py)")
@click.option("--threads", default=1, help="CPU threads")
@click.option("--keep", default=str(Path(tempfile.gettempdir()) / "effft-benchmarks"), help="where material is made")
def main(shape: str, threads: int, keep: str) -> None:
    """Measure, print and write the table."""
    model, task = make_material(Path(keep), shape)
    session = Session()

    def resource(name: str, **more: object) -> float:
        values: dict[str, object] = {
            "strategy": "lora", "task": str(task), "model": str(model), "per_label": 8, "epochs": 1, "warmup": 0.0,
            "evaluation_limit": 1, "bootstrap": 0, "threads": threads, "device": "cpu", **more,
        }  # fmt: skip
        found = run(make_config(values), MemoryTracker(), session)
        return found.metrics[f"resources/{name}"]

    resource("train_seconds")  # whatever happens once only
    rows = {
        "examples (LoRA, one epoch), from 8 per label": lambda n: resource("train_seconds", per_label=8 * n),
        "epochs (LoRA, 16 per label), from 1": lambda n: resource("train_seconds", per_label=16, epochs=n),
        "evaluation rows, from 125": lambda n: resource("evaluation_seconds", evaluation_limit=125 * n),
    }
    about = f"{shape} architecture, {threads} thread(s), median of {REPEATS} runs."
    lines = ["# Cost against size", "", f"`python -m benchmarks.scaling`: {about} Seconds, and in brackets how many"]
    lines += ["times the first column's.", "", "| what grows | " + " | ".join(f"{n}x" for n in TIMES) + " |"]
    lines += ["|---|" + "---|" * len(TIMES)]
    for name, cost in rows.items():
        lines.append(_row(name, [_median(cost, n) for n in TIMES]))
        click.echo(lines[-1], err=True)
    lines += [_row(name, seconds) for name, seconds in trial_costs(session).items()]
    text = "\n".join(lines) + "\n"
    (Path(__file__).parent / "scaling.md").write_text(text)
    click.echo(text)


def _median(cost: Callable[[int], float], times: int) -> float:
    return median(cost(times) for _ in range(REPEATS))


def _row(name: str, seconds: list[float]) -> str:
    return f"| {name} | " + " | ".join(f"{s:.3g} ({s / seconds[0]:.2f})" for s in seconds) + " |"


def trial_costs(session: Session) -> dict[str, list[float]]:
    """Seconds a trial in studies of 1, 2, 4, 8 times as many: of the driver alone, and with real trainings."""
    values = {"strategy": "lora", "per_label": "8", "epochs": "2"}
    found: dict[str, list[float]] = {}
    for name, first, executor in (
        ("a trial outside training, studies from 13 trials", 13, Instant()),
        ("a trial (tiny-lm, 2 folds, 2 epochs), studies from 5 trials", 5, InProcess(session)),
    ):
        found[name] = []
        for times in TIMES:
            plan = plan_study(values, {}, Settings(trials=first * times, folds=2), "scaling", session)
            start = time.perf_counter()
            timed(plan, executor)
            found[name].append((time.perf_counter() - start) / (first * times))
    return found


if __name__ == "__main__":
    main()
