"""What a task without a test file promises, against what its models reach in domain: 100 draws of 64 rows.

Run: `python -m benchmarks.coverage` (a quarter of an hour on two cores). Every draw is one run on rows that nobody else
sees: out-of-fold scores of the rows, then the model of all rows on the in-domain split. The first table says how often
the interval of `cross_validated` holds what is reached there, the second how often `--abstain` keeps its promise.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from effft.config import make_config
from effft.evaluation.metrics import METRICS, softmax
from effft.runs.experiment import Result, execute
from effft.runs.plan import prepare
from effft.runs.session import Session
from effft.serving.manifest import read_manifest
from effft.strategies.risk import RiskCurve
from effft.tracking.tracker import MemoryTracker

TASKS = ("agreement", "overlap")
PROMISED = (0.05, 0.1, 0.2)


def measure(task: str, draw: int, options: argparse.Namespace, session: Session) -> dict[str, object]:
    """One draw: estimate, interval and true value of every metric, and what each promise gives."""
    values = {"task": task, "strategy": options.strategy, "data_seed": draw, "rows": options.rows, "threads": 1}
    values |= {"model": options.model, "evaluation_limit": options.evaluation_limit}
    config = make_config({**values, "cross_validation": options.cross_validation})
    with tempfile.TemporaryDirectory() as folder:
        found = execute(prepare(config, session), MemoryTracker(), keep=Path(folder))
        risk = read_manifest(Path(folder)).risk
    assert risk is not None
    ends = {name: [found.metrics[f"cross_validated/{name}{end}"] for end in ("", "_low", "_high")] for name in METRICS}
    truth = {name: found.metrics[f"in_domain/{name}"] for name in METRICS}
    kept = {str(error): given(found, RiskCurve(**dict(risk)).threshold(error)) for error in PROMISED}
    return {
        "task": task, "draw": draw, "primary": found.primary, "estimates": ends, "truth": truth, "abstain": kept
    }  # fmt: skip


def given(found: Result, threshold: float | None) -> list[float] | None:
    """Share of the in-domain rows that are answered, and share of the answers that are wrong; None without promise."""
    if threshold is None:
        return None
    table = found.tables["in_domain"]
    scores = np.array([values for name, values in table.items() if name.startswith("score_")], dtype=np.float64).T
    sure = softmax(scores).max(axis=1) >= threshold
    wrong = np.array(table["answer"]) != np.array(table["label"])
    return [float(sure.mean()), float(wrong[sure].mean()) if sure.any() else 0.0]


def promises(lines: list[dict[str, object]]) -> str:
    """A row for every task and promise."""
    rows = ["| task | promised | draws | promise it | break it | answered | wrong among them | most |"]
    rows.append("|---|---:|---:|---:|---:|---:|---:|---:|")
    for task in dict.fromkeys(str(line["task"]) for line in lines):
        here = [line["abstain"] for line in lines if line["task"] == task]
        for error in PROMISED:
            found = np.array([one[str(error)] for one in here if one[str(error)]])  # type: ignore[index]
            broken, means = (found[:, 1] > error).sum() if len(found) else 0, ""
            if len(found):
                answered, wrong = found.mean(axis=0)
                means = f"{100 * answered:.0f} % | {wrong:.3f} | {found[:, 1].max():.3f}"
            rows.append(f"| {Path(task).stem} | {error} | {len(here)} | {len(found)} | {broken} | {means or '| |'} |")
    return "\n".join(rows)


def summary(lines: list[dict[str, object]]) -> str:
    """A row for every task and metric."""
    rows = ["| task | metric | draws | held | below | above | mean estimate | mean in domain | mean width |"]
    rows.append("|---|---|---:|---:|---:|---:|---:|---:|---:|")
    for task in dict.fromkeys(str(line["task"]) for line in lines):
        here = [line for line in lines if line["task"] == task]
        for name in METRICS:
            estimate, low, high = np.array([line["estimates"][name] for line in here]).T  # type: ignore[index]
            truth = np.array([line["truth"][name] for line in here])  # type: ignore[index]
            below, above = int((truth < low).sum()), int((truth > high).sum())
            mark = " (primary)" if name == here[0]["primary"] else ""
            rows.append(
                f"| {Path(task).stem} | {name}{mark} | {len(here)} | {len(here) - below - above} | {below} | {above} | "
                f"{estimate.mean():.3f} | {truth.mean():.3f} | {(high - low).mean():.3f} |"
            )
    return "\n".join(rows)


def main() -> None:
    """Measure what is missing in the file of results, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--rows", default="64")
    parser.add_argument("--strategy", default="probe")
    parser.add_argument("--cross-validation", default="10x3")
    parser.add_argument("--model", default="tiny-lm")
    parser.add_argument("--evaluation-limit", default="0")
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
    print(summary(lines), promises(lines), sep="\n\n")


if __name__ == "__main__":
    main()
