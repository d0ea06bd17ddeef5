"""`python -m benchmarks`: effft and the plain script in turn, in fresh processes, and one table.

`--quick` for less of everything, `--rows lora,icl` for some, `--threads 1` on a busy machine, `--cuda` on a GPU.
"""

import json
import os
import platform
import random
import subprocess
import sys
from pathlib import Path
from statistics import fmean, median
from typing import Any

import click

from benchmarks.material import KEEP, SHOTS, UNLABELLED, make_material

HERE = Path(__file__).parent
ROWS: dict[str, dict[str, Any]] = {
    "lora": {"per_label": 64, "epochs": 10, "evaluation": 500, "rate": 5e-4},
    "vanilla": {"per_label": 64, "epochs": 5, "evaluation": 32, "rate": 5e-5},
    "pbft": {"per_label": 64, "epochs": 3, "evaluation": 32, "rate": 5e-5},
    "adaptive": {"per_label": 64, "epochs": 20, "evaluation": 32, "rate": 1e-4},
    "icl": {"per_label": 8, "epochs": 1, "evaluation": 984, "rate": 5e-4},
    "context_distillation": {"per_label": 16, "epochs": 20, "evaluation": 32, "rate": 5e-4},
    "search": {"per_label": 16, "epochs": 2, "trials": 16, "folds": 3, "workers": 1},
}
"""Work -> its size."""

PARTS = dict.fromkeys(ROWS, ("train",)) | {
    "lora": ("train", "evaluation"),
    "icl": ("evaluation",),
    "search": ("search",),
}
"""Which times of a row stand in the table."""

SIDES = ("ours", "fp32", "bf16")
Results = dict[str, dict[str, list[dict[str, Any]]]]  # Row -> side -> what each run measured.


@click.command(help=__doc__)
@click.option("--rows", default=",".join(ROWS), help="which rows, comma-separated")
@click.option("--repeats", default=2, help="runs of each side, interleaved")
@click.option("--quick", is_flag=True, help="one repeat, a fifth of the epochs, trials and queries")
@click.option("--threads", default=os.cpu_count() or 1, help="CPU threads of both sides")
@click.option("--shape", default="opt-125m", help="architecture (benchmarks/material.py)")
@click.option("--cuda", is_flag=True, help="on the GPU (not measured yet)")
@click.option("--note", default="", help="a sentence about the machine's load, for the results")
@click.option("--out", default=str(HERE), help="folder of results.md and results.json")
@click.option("--keep", default=KEEP, help="where models and data are made")
def main(
    rows: str, repeats: int, quick: bool, threads: int, shape: str, cuda: bool, note: str, out: str, keep: str
) -> None:
    """Run, and write results.md and results.json."""
    model, task = make_material(Path(keep), shape)
    about = {"machine": _machine(threads), "shape": shape, "note": note, "rates": "" if cuda else _rates(threads)}
    about["command"] = " ".join(f"--{k} {v}" for k, v in (("rows", rows), ("repeats", repeats), ("shape", shape)))
    results: Results = {}
    for row in rows.split(","):
        size = dict(ROWS[row])
        if quick:
            size |= {name: max(1, size[name] // 5) for name in ("epochs", "trials", "evaluation") if name in size}
        job = size | {"work": row, "model": str(model), "task": str(task), "threads": threads, "cuda": cuda}
        job |= {"out": str(Path(keep) / "out")} | drawn(str(task), row, size)
        results[row] = {side: [] for side in SIDES}
        for _ in range(1 if quick else repeats):
            for side in SIDES:
                measured = _run(side, job)
                results[row][side].append(measured)
                shown = {key: value for key, value in measured.items() if key != "losses"}
                click.echo(f"{row:10} {side:5} {json.dumps(shown)}", err=True)
        Path(out, "results.json").write_text(json.dumps({"about": about, "rows": results}, indent=1) + "\n")
        Path(out, "results.md").write_text(table(about, results))
    click.echo(table(about, results))


def drawn(task: str, work: str, size: dict[str, Any]) -> dict[str, Any]:
    """The rows of train.csv that effft takes, in its order: the shots, and what they serve as."""
    from effft.data import draw as draws
    from effft.tasks.loading import read_split
    from effft.tasks.task import load_task

    record = load_task(task)
    labels, pool = len(record.labels), read_split(record, "train")
    draw = draws.draw_per_label(pool, record.labels, size["per_label"], 0)
    rows: dict[str, Any] = {"rows": [e.index for e in draw.train]}
    if work in ("icl", "context_distillation"):
        taken, count = (*draw.train, *draw.validation), UNLABELLED if work == "context_distillation" else 0
        demonstrations = draws.draw_demonstrations(draw.train, labels, SHOTS, 0)
        unlabelled = draws.draw_unlabelled(pool, taken, count, 0)
        rows |= {"demonstrations": [e.index for e in demonstrations], "unlabelled": [e.index for e in unlabelled]}
    if work == "search":
        cut = [draws.split_fold(draw, labels, fold, size["folds"], 0) for fold in range(size["folds"])]
        rows |= {"trials": trials(size["trials"])}
        rows |= {
            "folds": [{"train": [e.index for e in f.train], "validation": [e.index for e in f.validation]} for f in cut]
        }
    return rows


def trials(count: int) -> list[tuple[float, int]]:
    """Learning rates and ranks that both sides try."""
    rng = random.Random(0)
    return [(10 ** rng.uniform(-4, -2.5), 2 ** rng.randint(0, 5)) for _ in range(count)]


def _run(side: str, job: dict[str, Any]) -> dict[str, Any]:
    module = "benchmarks.ours" if side == "ours" else "benchmarks.plain"
    environment = os.environ | {"OMP_NUM_THREADS": str(job["threads"]), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", module, json.dumps(job | {"bf16": side == "bf16"})],
        capture_output=True, text=True, env=environment, cwd=HERE.parent, check=False,
    )  # fmt: skip
    if done.returncode:
        raise click.ClickException(f"{side} failed on {job['work']}:\n{done.stderr[-2000:]}")
    measured: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return measured


def _machine(threads: int) -> str:
    import torch

    ask = getattr(torch.cpu, "get_capabilities", None)
    name = (ask() if ask else {}).get("cpu_name", platform.machine())
    return f"{name}, {os.cpu_count()} cores, {threads} threads, torch {torch.__version__}"


def _rates(threads: int) -> str:
    """The matmul rates of this machine, which bound every ratio here."""
    import torch

    from effft.profiling.matmul_rate import matmul_rate

    kinds = {"bf16": torch.bfloat16, "fp32": torch.float32}
    rates = [f"{name} {matmul_rate(torch.device('cpu'), kind, threads) / 1e12:.2f}" for name, kind in kinds.items()]
    return f"A large product: {', '.join(rates)} TFLOP/s."


def table(about: dict[str, str], results: Results) -> str:
    """The Markdown page: medians, ratios, memory, losses."""
    lines = [
        "# Benchmarks",
        "",
        f"{about['shape']} architecture, random weights, sentences of about 30 tokens, batch 32. {about['machine']}.",
        f"{about['rates']} `python -m benchmarks {about['command']}`. {about['note']}",
        "",
        "| work | part | ours s | Trainer fp32 s | Trainer bf16 s | over fp32 | over bf16 | peak MB (ours, fp32, bf16) "
        "| loss differences |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row, sides in results.items():
        if any(not runs for runs in sides.values()):
            continue
        for part in PARTS[row]:
            seconds = {side: median(run[part] for run in runs) for side, runs in sides.items()}
            peaks = ", ".join(f"{median(r['peak_bytes'] for r in sides[s]) / 1e6:,.0f}" for s in SIDES)
            ours = seconds["ours"]
            lines.append(
                f"| {row} | {part} | {ours:.1f} | {seconds['fp32']:.1f} | {seconds['bf16']:.1f} "
                f"| {seconds['fp32'] / ours:.1f} | {seconds['bf16'] / ours:.1f} | {peaks} | {loss_differences(sides)} |"
            )
    lines += ["", "Loss differences: the same examples, order and start on both sides, no dropout; mean difference of"]
    lines += ["the training losses over all steps, ours and bf16 against fp32; of the search, of the validation"]
    lines += ["accuracies of the trials. Peak memory is above the start of the process, workers included."]
    if "context_distillation" in results:
        lines += ["", "context_distillation: the plain script asks its teacher once and keeps the scores."]
    return "\n".join(lines) + "\n"


def loss_differences(sides: dict[str, list[dict[str, Any]]]) -> str:
    """Mean absolute difference of the losses to those of the Trainer in fp32: ours, and its bf16 mode."""
    curves = {side: runs[0]["losses"] for side, runs in sides.items()}
    if not curves["fp32"]:
        return "-"
    return ", ".join(
        f"{fmean(abs(a - b) for a, b in zip(curves[side], curves['fp32'], strict=True)):.4f}"
        for side in ("ours", "bf16")
    )


if __name__ == "__main__":
    main()
