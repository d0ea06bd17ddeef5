"""`python -m benchmarks.answer`: what a user of a search waits for, against Optuna + Trainer + peft in one process.

Two tables, of LoRA on SST-2's sentences, 16 per label, 4 folds, 10 epochs, learning rate and rank searched: (a) the
same trials on the same folds; (b) each side's own search (Optuna's TPE and median pruner; effft's sampler and pruner),
as seconds until the best trial so far, trained on all rows, is close to the test accuracy of the best of some random
trials. A configuration's test accuracy is effft's for both sides, and is not counted in the seconds.
"""

import csv
import json
import os
import time
from pathlib import Path
from statistics import fmean, median
from typing import Any

import click

from benchmarks.__main__ import HERE, drawn, machine_name, matmul_rates, run_side
from benchmarks.material import KEEP, TASK

SIZE: dict[str, Any] = {"per_label": 16, "epochs": 10, "folds": 4, "workers": 1, "evaluation": 500, "rate": 5e-4}
CLOSE = (0.01, 0.03, 0.05)


@click.command(help=__doc__)
@click.option("--model", required=True, help="folder of a model, such as all-MiniLM-L6-v2 or SmolLM2-135M")
@click.option("--data-dir", required=True, help="folder with the rows of the task `sentiment`")
@click.option("--same", default=8, help="trials of table (a)")
@click.option("--own", default=12, help="trials of each search of table (b)")
@click.option("--random", "drawn_at_random", default=16, help="random trials that set the mark of table (b)")
@click.option("--seeds", default=2, help="searches of each side of table (b)")
@click.option("--epochs", default=10)
@click.option("--threads", default=os.cpu_count() or 1)
@click.option("--note", default="", help="a sentence about the machine's load")
@click.option("--out", default=str(HERE), help="folder of answer.md and answer.json")
@click.option("--resume", is_flag=True, help="go on with answer.json in --out, of the same machine and sizes")
@click.option("--keep", default=KEEP, help="where the data are made")
def main(
    model: str, data_dir: str, same: int, own: int, drawn_at_random: int, seeds: int, epochs: int, threads: int,
    note: str, out: str, resume: bool, keep: str,
) -> None:  # fmt: skip
    """Run both, and write the tables."""
    Path(out).mkdir(parents=True, exist_ok=True)
    began, task = time.monotonic(), write_rows(Path(keep) / "sentiment", data_dir)
    size = SIZE | {"epochs": epochs, "trials": same}
    job = size | {"work": "search", "model": str(Path(model).resolve()), "task": str(task), "threads": threads}
    job |= {"cuda": False, "out": str(Path(keep) / "out")} | drawn(str(task), "search", size)
    found: dict[str, Any] = {"same": {}, "own": {"ours": [], "bf16": []}, "machine": machine_name(threads)}
    found |= {"mark": 0.0, "tested": {}, "rates": matmul_rates(threads)}
    named = {"model": "/".join(Path(model).resolve().parts[-2:])}  # no path of this machine
    found |= {"size": size | named | {"own": own}}
    kept = Path(out, "answer.json")
    if resume:
        before = json.loads(kept.read_text()) if kept.exists() else {}
        if any(before.get(key) != found[key] for key in ("machine", "size")):
            raise click.UsageError(f"{kept} is absent, or of another machine or other sizes; leave out --resume.")
        found |= {key: before[key] for key in ("same", "own", "tested", "rates")}

    def write() -> str:
        """What is measured so far."""
        kept.write_text(json.dumps(found, indent=1) + "\n")
        text = page(found, note, drawn_at_random, own)
        Path(out, "answer.md").write_text(text)
        return text

    for side in [one for one in ("ours", "bf16", "fp32") if same and one not in found["same"]]:
        found["same"][side] = run_side(side, job | {"trials": job["trials"][:same]})
        write()
        click.echo(f"{time.monotonic() - began:5.0f} s  {side}: {found['same'][side]['search']:.1f} s", err=True)

    def accuracy(rate: float, rank: int) -> float:
        """Of this configuration on test, trained on all rows; 0 where it diverges."""
        key, tested = f"{rate:.6g} {rank}", found["tested"]
        if key not in tested:
            try:
                tested[key] = run_side("ours", job | {"work": "lora", "rate": rate, "rank": rank})["accuracy"]
            except click.ClickException as error:
                if "DivergedError" not in error.message:
                    raise
                tested[key] = 0.0
        return float(tested[key])

    mark = found["mark"] = max((accuracy(*one) for one in wide(drawn_at_random)), default=0.0)
    click.echo(f"{time.monotonic() - began:5.0f} s  best of {drawn_at_random} random trials: {mark:.3f}", err=True)
    for seed in range(seeds):
        for side, known in found["own"].items():
            if seed in [run["seed"] for run in known]:
                continue
            told = run_side(side, job | {"trials": own, "seed": seed})
            known.append({"best": improvements(told["known"], accuracy), "whole": told["search"], "seed": seed})
            write()
            click.echo(f"{time.monotonic() - began:5.0f} s  {side}: {known[-1]}", err=True)
    click.echo(write())


def wide(count: int) -> list[tuple[float, int]]:
    """Random trials from the whole space of table (b): learning rate 1e-5 to 1e-1, rank 1 to 64."""
    return [(10 ** (-5 + 4 * (i * 0.618034 % 1)), 2 ** (i * 3 % 7)) for i in range(1, count + 1)]


def improvements(known: list[list[float]], accuracy: Any) -> list[tuple[float, float]]:
    """Seconds and test accuracy of every trial that was the best so far by validation."""
    best, found = -1.0, []
    for seconds, value, rate, rank in sorted(known):
        if value > best:
            best = value
            found.append((seconds, accuracy(rate, int(rank))))
    return found


def write_rows(folder: Path, data_dir: str) -> Path:
    """The task `sentiment` as the files that both sides read; returns the task file."""
    from effft.tasks.loading import read_split
    from effft.tasks.task import load_task

    folder.mkdir(parents=True, exist_ok=True)
    for split, file in (("train", "train.csv"), ("in_domain", "test.csv")):
        with (folder / file).open("w", newline="") as target:
            rows = csv.writer(target)
            rows.writerow(["text", "label"])
            examples = read_split(load_task("sentiment"), split, data_dir).examples
            rows.writerows([e.texts[0], "right" if e.label == 1 else "left"] for e in examples)
    (folder / "task.yaml").write_text(TASK)
    return folder / "task.yaml"


def page(found: dict[str, Any], note: str, drawn_at_random: int, own: int) -> str:
    """The tables in Markdown."""
    size = found["size"]
    lines = ["# Time to the answer of a search", "", f"LoRA, {size['model']}, SST-2, 16 per label, 4 folds,"]
    lines += [f"{size['epochs']} epochs. {found['machine']}. {found['rates']} {note}"]
    if found["same"]:
        seconds, same = ({s: told[k] for s, told in found["same"].items()} for k in ("search", "losses"))
        lines += ["", f"(a) The same {len(same['ours'])} trials, same folds, no pruning.", ""]
        lines += ["| side | seconds | times ours |", "|---|---|---|"]
        lines += [f"| {side} | {took:.1f} | {took / seconds['ours']:.1f} |" for side, took in seconds.items()]
    lines += ["", f"(b) Seconds until the best trial so far is close to {found['mark']:.3f}, the best test accuracy of"]
    lines += [f"{drawn_at_random} random trials; each side's own search of {own} trials.", ""]
    lines += [
        "| side | within | each seed | median | whole search | test accuracy of its best |",
        "|---|" + "---:|" * 5,
    ]
    for side, runs in found["own"].items():
        for close in CLOSE if runs else ():
            near = [[t for t, score in run["best"] if score >= found["mark"] - close] for run in runs]
            times = [own[0] if own else float("inf") for own in near]
            shown = ["never" if t == float("inf") else f"{t:.0f}" for t in [*times, median(times)]]
            last = f"{fmean(run['best'][-1][1] for run in runs):.3f}"
            whole = f"{median(run['whole'] for run in runs):.0f}"
            lines.append(f"| {side} | {close} | {', '.join(shown[:-1])} | {shown[-1]} | {whole} | {last} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
