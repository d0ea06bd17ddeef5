"""What `effft choose` costs against knowing: the test score of the best strategy minus that of the chosen one.

Run: `python -m benchmarks.choose` (hours; `--quick` on built-in tasks alone, half an hour on a busy machine). Beside it
the strategy that is best over all draws (known only afterwards), one drawn at random, and the best of a full
cross-validation of every candidate, with its seconds. Every draw is a line of `--out`; draws that are there are not
measured again. The second table says how often an answer with so much P(best) was the best of its finalists.
"""

import argparse
import json
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from typing import Any

from effft.api import choose
from effft.choice.candidates import candidates
from effft.config import RunConfig
from effft.runs.experiment import execute
from effft.runs.plan import prepare
from effft.runs.session import Session
from effft.search.jobs import TrainingJob, measure
from effft.search.settings import FOLDS
from effft.tracking.tracker import MemoryTracker

BINS = (0.0, 0.4, 0.6, 0.8, 1.01)


def tested(config: RunConfig, session: Session, limit: int) -> float:
    """The primary metric in domain of a model of all rows."""
    settings = {"evaluation_limit": limit, "bootstrap": 0, "cross_validation": "none"}
    result = execute(prepare(config.model_copy(update=settings), session), MemoryTracker())
    return result.metrics[f"in_domain/{result.primary}"]


def draw(task: str, rows: int, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Test score, cross-validated score and seconds of every candidate; what was chosen, and what that scores."""
    values: dict[str, Any] = {
        "task": task,
        "rows": str(rows),
        "data_seed": str(seed),
        "epochs": str(options.epochs),
        "threads": "1",
    }
    session, test, validated, begun = Session(), {}, {}, time.monotonic()
    names = [one for one in candidates(values, [options.model], session) if not one.control]
    for one in names:
        units = [(s, fold) for s in range(options.seeds) for fold in range(FOLDS)]
        jobs = [TrainingJob(one.config.model_copy(update={"seed": s, "bootstrap": 0}), (f, FOLDS, s)) for s, f in units]
        results = [measure(job, session) for job in jobs]
        if not any(result.failure for result in results):
            validated[one.label] = fmean(result.value for result in results)
    seconds = time.monotonic() - begun
    test = {one.label: tested(one.config, session, options.evaluation_limit) for one in names if one.label in validated}
    with tempfile.TemporaryDirectory() as folder:
        begun = time.monotonic()
        answer = choose(
            minutes=options.minutes, models=[options.model], storage=f"sqlite:///{folder}/optuna.db", no_tracking=True,
            **{**values, "evaluation_limit": str(options.evaluation_limit)},
        )  # fmt: skip
        took = time.monotonic() - begun
    chosen = next(one for one in answer.judged if one.arm.candidate == answer.candidate)
    reached = {o.arm.candidate.label: tested(o.arm.candidate.config, session, options.evaluation_limit)
               if o.arm.candidate.tuned else test[o.arm.candidate.label] for o in answer.judged}  # fmt: skip
    return {
        "task": task, "rows": rows, "draw": seed, "minutes": options.minutes, "test": test, "validated": validated,
        "seconds": seconds, "took": took, "chosen": answer.candidate.label, "reached": reached, "p_best": chosen.best,
    }  # fmt: skip


def regrets(lines: list[dict[str, Any]]) -> str:
    """A row for every task and number of rows."""
    heads = ("task", "rows", "draws", "choose", "full cross-validation", "best constant", "random", "time of choose")
    rows = [f"| {' | '.join(heads)} |", "|---|---:|" + "---:|" * 6]
    for task, count in dict.fromkeys((line["task"], line["rows"]) for line in lines):
        here = [line for line in lines if (line["task"], line["rows"]) == (task, count)]
        best = [max(line["test"].values()) for line in here]
        means = {name: fmean(line["test"].get(name, -1.0) for line in here) for name in here[0]["test"]}
        scores = {
            "choose": [line["reached"][line["chosen"]] for line in here],
            "full": [line["test"][max(line["validated"], key=line["validated"].__getitem__)] for line in here],
            "constant": [line["test"].get(max(means, key=means.__getitem__), -1.0) for line in here],
            "random": [fmean(line["test"].values()) for line in here],
        }
        cells = [f"{fmean(b - s for b, s in zip(best, own, strict=True)):+.3f}" for own in scores.values()]
        times = f"{fmean(line['took'] for line in here):.0f} s of {60 * here[0]['minutes']:.0f} s; full "
        times += f"{fmean(line['seconds'] for line in here):.0f} s"
        rows.append(f"| {Path(task).stem} | {count} | {len(here)} | {' | '.join(cells)} | {times} |")
    return "\n".join(rows)


def calibration(lines: list[dict[str, Any]]) -> str:
    """How often the recommended one was the best of its finalists in the test, by its P(best)."""
    rows = ["| P(best) | answers | mean P(best) | were best |", "|---|---:|---:|---:|"]
    for low, high in pairwise(BINS):
        here = [line for line in lines if low <= line["p_best"] < high]
        right = [line["reached"][line["chosen"]] >= max(line["reached"].values()) - 1e-9 for line in here]
        if here:
            mean = fmean(line["p_best"] for line in here)
            rows.append(f"| {low} to {min(high, 1)} | {len(here)} | {mean:.2f} | {fmean(right):.2f} |")
    return "\n".join(rows)


def main() -> None:
    """Measure what is missing in the file of draws, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default="agreement,overlap,sentiment,questions,cola")
    parser.add_argument("--rows", default="16,64,256")
    parser.add_argument("--model", default="tiny-lm")
    parser.add_argument("--draws", type=int, default=30)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3, help="of the full cross-validation")
    parser.add_argument("--evaluation-limit", type=int, default=1000)
    parser.add_argument("--out", default="choose.jsonl")
    parser.add_argument("--quick", action="store_true", help="built-in tasks, 16 and 64 rows, two draws, five epochs")
    options = parser.parse_args()
    if options.quick:
        vars(options).update(tasks="agreement,overlap", rows="16,64", draws=2, epochs=5, seeds=1, evaluation_limit=300)
    path = Path(options.out)
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    known = {(line["task"], line["rows"], line["draw"]) for line in lines}
    for seed in range(options.draws):
        for task in options.tasks.split(","):
            for rows in map(int, options.rows.split(",")):
                if (task, rows, seed) not in known:
                    lines.append(draw(task, rows, seed, options))
                    with path.open("a") as file:
                        file.write(json.dumps(lines[-1]) + "\n")
                    print(f"{task}, {rows} rows, draw {seed}: {lines[-1]['chosen']}", flush=True)
    over = [line["took"] / (60 * line["minutes"]) for line in lines]
    print(f"\nRegret, mean over draws:\n\n{regrets(lines)}\n\n{calibration(lines)}\n")
    print(f"Time taken of the minutes given: median {median(over):.2f}, most {max(over):.2f}.")


if __name__ == "__main__":
    main()
