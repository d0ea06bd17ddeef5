"""How often the interval of `cross_validated` holds what the model reaches in domain: 100 draws of 64 rows.

Run: `python -m benchmarks.coverage` (a quarter of an hour on two cores). Every draw is one run on rows that nobody else
sees: out-of-fold scores of the rows, then the model of all rows on the in-domain split, which is the value to be held.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from effft.config import make_config
from effft.evaluation.metrics import METRICS
from effft.runs.experiment import run
from effft.runs.session import Session
from effft.tracking.tracker import MemoryTracker

TASKS = ("agreement", "overlap")


def measure(task: str, draw: int, options: argparse.Namespace, session: Session) -> dict[str, object]:
    """One draw: estimate, interval and true value of every metric, and the out-of-fold answers."""
    values = {"task": task, "strategy": options.strategy, "data_seed": draw, "rows": options.rows, "threads": 1}
    config = make_config({**values, "cross_validation": options.cross_validation})
    found = run(config, MemoryTracker(), session)
    ends = {name: [found.metrics[f"cross_validated/{name}{end}"] for end in ("", "_low", "_high")] for name in METRICS}
    truth = {name: found.metrics[f"in_domain/{name}"] for name in METRICS}
    return {"task": task, "draw": draw, "primary": found.primary, "estimates": ends, "truth": truth}


def summary(lines: list[dict[str, object]]) -> str:
    """A row for every task and metric."""
    rows = ["| task | metric | draws | held | below | above | mean estimate | mean in domain | mean width |"]
    rows.append("|---|---|---:|---:|---:|---:|---:|---:|---:|")
    for task in TASKS:
        here = [line for line in lines if line["task"] == task]
        for name in METRICS if here else ():
            estimate, low, high = np.array([line["estimates"][name] for line in here]).T  # type: ignore[index]
            truth = np.array([line["truth"][name] for line in here])  # type: ignore[index]
            below, above = int((truth < low).sum()), int((truth > high).sum())
            mark = " (primary)" if name == here[0]["primary"] else ""
            rows.append(
                f"| {task} | {name}{mark} | {len(here)} | {len(here) - below - above} | {below} | {above} | "
                f"{estimate.mean():.3f} | {truth.mean():.3f} | {(high - low).mean():.3f} |"
            )
    return "\n".join(rows)


def main() -> None:
    """Measure what is missing in the file of results, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--rows", default="64")
    parser.add_argument("--strategy", default="probe")
    parser.add_argument("--cross-validation", default="10x3")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--out", type=Path, default=Path("coverage.jsonl"))
    options = parser.parse_args()
    lines = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    known, session = {(line["task"], line["draw"]) for line in lines}, Session()
    for task in options.tasks.split(","):
        for draw in range(options.draws):
            if (task, draw) not in known:
                lines.append(measure(task, draw, options, session))
                with options.out.open("a") as file:
                    file.write(json.dumps(lines[-1]) + "\n")
    print(summary(lines))


if __name__ == "__main__":
    main()
