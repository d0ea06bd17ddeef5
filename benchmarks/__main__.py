"""`python -m benchmarks`: ours and the plain script in turn, in fresh processes, and one table.

`--quick` for less of everything, `--rows lora,icl` for some, `--threads 1` on a busy machine, `--cuda` on a GPU.
"""

import json
import os
import platform
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

import click

from benchmarks.material import SHOTS, UNLABELLED, make_material

if TYPE_CHECKING:
    from effft.data.examples import ExampleSet
    from effft.data.few_shot import FewShotDraw

HERE = Path(__file__).parent
ROWS: dict[str, dict[str, Any]] = {
    "lora": {"per_label": 64, "epochs": 10, "evaluation": 500, "rate": 5e-4},
    "vanilla": {"per_label": 64, "epochs": 5, "evaluation": 32, "rate": 5e-5},
    "pbft": {"per_label": 64, "epochs": 3, "evaluation": 32, "rate": 5e-5},
    "adaptive": {"per_label": 64, "epochs": 20, "evaluation": 32, "rate": 1e-4},
    "icl": {"per_label": 8, "epochs": 1, "evaluation": 984, "rate": 5e-4},
    "context_distillation": {"per_label": 16, "epochs": 20, "evaluation": 32, "rate": 5e-4},
    "distillation_each_step": {"per_label": 16, "epochs": 4, "evaluation": 32, "rate": 5e-4, "asks": "each step"},
    "search": {"per_label": 16, "epochs": 2, "trials": 16, "folds": 3, "workers": 1, "executor": "auto"},
}
"""Work -> its size."""

WORK = {"distillation_each_step": "context_distillation"}
"""Rows that are the same work for us; the plain script asks its teacher in every step, as its library's guide does."""

PARTS = dict.fromkeys(ROWS, ("train",)) | {
    "lora": ("train", "evaluation"),
    "icl": ("evaluation",),
    "search": ("search",),
}
"""Which of a row's times are told."""

SIDES = ("ours", "fp32", "bf16")


@click.command(help=__doc__)
@click.option("--rows", default=",".join(ROWS), help="which rows, comma-separated")
@click.option("--repeats", default=2, help="runs of each side, interleaved")
@click.option("--quick", is_flag=True, help="one repeat, a fifth of the epochs, trials and queries")
@click.option("--threads", default=os.cpu_count() or 1, help="CPU threads of both sides")
@click.option("--shape", default="opt-125m", help="architecture (benchmarks/material.py)")
@click.option("--cuda", is_flag=True, help="on the GPU (not measured yet)")
@click.option("--add", is_flag=True, help="keep the other rows of results.json, measured before on the same machine")
@click.option("--note", default="", help="a sentence about the machine's load, for the results")
@click.option("--keep", default=str(Path(tempfile.gettempdir()) / "effft-benchmarks"), help="where material is made")
def main(
    rows: str, repeats: int, quick: bool, threads: int, shape: str, cuda: bool, add: bool, note: str, keep: str
) -> None:
    """Run, and write benchmarks/results.md and results.json."""
    model, task = make_material(Path(keep), shape)
    about = {"machine": _machine(threads), "shape": shape, "note": note, "command": _command()}
    about["rates"] = "" if cuda else _rates(threads)
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    if add:
        before, found = _measured_before(about)
        about["command"] = f"{before['command']}`, then `python -m benchmarks {about['command']}"
        about["note"] = " ".join(filter(None, (before["note"], note)))
    for row in rows.split(","):
        size, work = dict(ROWS[row]), WORK.get(row, row)
        if quick:
            size |= {name: max(1, size[name] // 5) for name in ("epochs", "trials", "evaluation") if name in size}
        job = size | {"work": work, "model": str(model), "task": str(task), "threads": threads, "cuda": cuda}
        job |= {"out": str(Path(keep) / "out"), "rows": shots(str(task), size["per_label"])}
        if work in ("icl", "context_distillation"):
            job |= context(str(task), size["per_label"], work == "context_distillation")
        if work == "search":
            job |= {"folds": folds(str(task), size["per_label"], size["folds"]), "trials": trials(size["trials"])}
        found[row] = {side: [] for side in SIDES}
        for _ in range(1 if quick else repeats):
            for side in SIDES:
                found[row][side].append(_run(side, job))
                told = {k: v for k, v in found[row][side][-1].items() if k != "losses"}
                click.echo(f"{row:10} {side:5} {json.dumps(told)}", err=True)
        (HERE / "results.json").write_text(json.dumps({"about": about, "rows": found}, indent=1) + "\n")
        (HERE / "results.md").write_text(table(about, found))
    click.echo(table(about, found))


def _measured_before(about: dict[str, str]) -> tuple[dict[str, str], dict[str, dict[str, list[dict[str, Any]]]]]:
    """What results.json says of its making, and its rows."""
    known = json.loads((HERE / "results.json").read_text())
    if any(known["about"][name] != about[name] for name in ("machine", "shape")):
        raise click.ClickException(f"results.json is of {known['about']}, and not of {about}; leave --add out.")
    return known["about"], known["rows"]


def shots(task: str, per_label: int) -> list[int]:
    """Rows of train.csv that effft draws, in its order."""
    return [e.index for e in _draw(task, per_label)[0].train]


def context(task: str, per_label: int, distils: bool) -> dict[str, list[int]]:
    """The rows that are demonstrations, and those that effft takes without their labels."""
    from effft.data.few_shot import draw_demonstrations, draw_unlabelled

    drawn, pool, labels = _draw(task, per_label)
    demos = draw_demonstrations(drawn.train, labels, SHOTS, 0)
    extra = draw_unlabelled(pool, (*drawn.train, *drawn.validation), UNLABELLED if distils else 0, 0)
    return {"demonstrations": [e.index for e in demos], "unlabelled": [e.index for e in extra]}


def folds(task: str, per_label: int, count: int) -> list[dict[str, list[int]]]:
    """The rows that effft trains on and validates on, fold by fold."""
    from effft.data.few_shot import split_fold

    drawn, _, labels = _draw(task, per_label)
    cut = [split_fold(drawn, labels, fold, count, 0) for fold in range(count)]
    return [{"train": [e.index for e in f.train], "validation": [e.index for e in f.validation]} for f in cut]


def _draw(task: str, per_label: int) -> "tuple[FewShotDraw, ExampleSet, int]":
    from effft.data.few_shot import draw_few_shot
    from effft.tasks.loading import read_split
    from effft.tasks.task import load_task

    record = load_task(task)
    pool = read_split(record, "train", "")
    return draw_few_shot(pool, record.labels, per_label, 0), pool, len(record.labels)


def trials(count: int) -> list[tuple[float, int]]:
    """Learning rates and ranks that both sides try."""
    rng = random.Random(0)
    return [(10 ** rng.uniform(-4, -2.5), 2 ** rng.randint(0, 5)) for _ in range(count)]


def _run(side: str, job: dict[str, Any]) -> dict[str, Any]:
    module = "benchmarks.ours" if side == "ours" else "benchmarks.plain"
    module += "_search" if job["work"] == "search" else ""
    environment = os.environ | {"OMP_NUM_THREADS": str(job["threads"]), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", module, json.dumps(job | {"bf16": side == "bf16"})],
        capture_output=True, text=True, env=environment, cwd=HERE.parent, check=False,
    )  # fmt: skip
    if done.returncode:
        raise click.ClickException(f"{side} failed on {job['work']}:\n{done.stderr[-2000:]}")
    told: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return told


def _command() -> str:
    """The words given, without the folder and the note, which say nothing about the work."""
    words, kept = sys.argv[1:], []
    while words:
        word = words.pop(0)
        if word in ("--keep", "--note"):
            words.pop(0)
        elif not word.startswith(("--keep=", "--note=")):
            kept.append(word)
    return " ".join(kept)


def _machine(threads: int) -> str:
    import torch

    ask = getattr(torch.cpu, "get_capabilities", None)
    name = (ask() if ask else {}).get("cpu_name", platform.machine())
    return f"{name}, {os.cpu_count()} cores, {threads} threads, torch {torch.__version__}"


def _rates(threads: int) -> str:
    """What this machine multiplies: the bound of every ratio here."""
    import torch

    from effft.profiling.matmul_rate import matmul_rate

    kinds = {"bf16": torch.bfloat16, "fp32": torch.float32}
    told = [f"{name} {matmul_rate(torch.device('cpu'), kind, threads) / 1e12:.2f}" for name, kind in kinds.items()]
    return f"A large product: {', '.join(told)} TFLOP/s."


def table(about: dict[str, str], found: dict[str, dict[str, list[dict[str, Any]]]]) -> str:
    """The Markdown page: medians, ratios, memory, losses."""
    lines = [
        "# Benchmarks",
        "",
        f"{about['shape']} architecture, random weights, sentences of about 30 tokens, batch 32. {about['machine']}.",
        f"{about['rates']} `python -m benchmarks {about['command']}`. {about['note']}",
        "",
        "| work | part | ours s | Trainer fp32 s | Trainer bf16 s | over fp32 | over bf16 | peak MB (ours, fp32, bf16) "
        "| losses apart |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row, sides in found.items():
        if any(not runs for runs in sides.values()):
            continue
        for part in PARTS[row]:
            seconds = {side: median(run[part] for run in runs) for side, runs in sides.items()}
            peaks = ", ".join(f"{median(r['peak_bytes'] for r in sides[s]) / 1e6:,.0f}" for s in SIDES)
            ours = seconds["ours"]
            lines.append(
                f"| {row} | {part} | {ours:.1f} | {seconds['fp32']:.1f} | {seconds['bf16']:.1f} "
                f"| {seconds['fp32'] / ours:.1f} | {seconds['bf16'] / ours:.1f} | {peaks} | {apart(sides)} |"
            )
    lines += ["", "Losses apart: the same examples, order and start on both sides, no dropout; mean difference of the"]
    lines += ["training losses over all steps, ours and bf16 against fp32; of the search, of the trials' validation"]
    lines += ["accuracies. Peaks are above the start of the process, workers included."]
    if "distillation_each_step" in found:
        lines += ["", "context_distillation: the plain script asks its teacher once and keeps the scores."]
        lines += ["distillation_each_step: in the loss of every step, as the guide of its library does (4 epochs)."]
    return "\n".join(lines) + "\n"


def apart(sides: dict[str, list[dict[str, Any]]]) -> str:
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
