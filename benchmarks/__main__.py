"""`python -m benchmarks`: effft and the plain script in turn, in fresh processes, and a table for each shape.

`--quick` for less of everything, `--rows lora,icl` for some, `--minutes 24` to begin no row that would not fit,
`--threads 1` on a busy machine. `python -m benchmarks.gpu` is for a GPU, `benchmarks.answer` for searches.
"""

import json
import os
import platform
import random
import subprocess
import sys
import time
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

QUICK = {"epochs": 5, "trials": 5, "evaluation": 30}
"""What `--quick` divides by how much."""

SHAPES = "opt-125m,smollm2-135m"
SIDES = ("ours", "fp32", "bf16")
Results = dict[str, dict[str, list[dict[str, Any]]]]  # Row -> side -> what each run measured.


@click.command(help=__doc__)
@click.option("--rows", default=",".join(ROWS), help="which rows, comma-separated")
@click.option("--repeats", default=3, help="runs of each side, interleaved")
@click.option("--quick", is_flag=True, help="a fifth of the epochs and trials, a thirtieth of the queries")
@click.option("--minutes", default=0.0, help="begin no row that would not fit into so many (0 = all)")
@click.option("--threads", default=os.cpu_count() or 1, help="CPU threads of both sides")
@click.option("--shapes", default=SHAPES, help="architectures, comma-separated (benchmarks/shapes.yaml)")
@click.option("--note", default="", help="a sentence about the machine's load, for the results")
@click.option("--out", default=str(HERE), help="folder of results.md and results.json")
@click.option("--keep", default=KEEP, help="where models and data are made")
def main(
    rows: str, repeats: int, quick: bool, minutes: float, threads: int, shapes: str, note: str, out: str, keep: str
) -> None:
    """Run, and write results.md and results.json after every row."""
    began, longest = time.monotonic(), dict[str, float]()
    Path(out).mkdir(parents=True, exist_ok=True)
    material = {shape: make_material(Path(keep), shape) for shape in shapes.split(",")}
    about = {"machine": machine_name(threads), "note": note, "rates": matmul_rates(threads)}
    about["command"] = " ".join(sys.argv[1:])
    results: dict[str, Results] = {shape: {} for shape in material}
    for _, row, shape in ((r, row, s) for r in range(repeats) for row in rows.split(",") for s in material):
        start = time.monotonic()
        needed = 1.3 * longest.get(row, max(longest.values(), default=0.0))  # the second shape is the slower
        if minutes and start + needed > began + 60 * minutes:
            click.echo(f"{shape} {row}: left out, no time", err=True)
            continue
        size = dict(ROWS[row])
        if quick:
            size |= {name: max(1, size[name] // part) for name, part in QUICK.items() if name in size}
        model, task = material[shape]
        job = size | {"work": row, "model": str(model), "task": str(task), "threads": threads, "cuda": False}
        job |= {"out": str(Path(keep) / "out")} | drawn(str(task), row, size)
        sides = results[shape].setdefault(row, {side: [] for side in SIDES})
        for side in SIDES:
            measured = run_side(side, job)
            sides[side].append(measured)
            shown = {key: value for key, value in measured.items() if key != "losses"}
            click.echo(f"{shape} {row:10} {side:5} {json.dumps(shown)}", err=True)
        longest[row] = max(longest.get(row, 0.0), time.monotonic() - start)
        Path(out, "results.json").write_text(json.dumps({"about": about, "shapes": results}, indent=1) + "\n")
        Path(out, "results.md").write_text(page(about, results))
    click.echo(page(about, results))


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


def run_side(side: str, job: dict[str, Any]) -> dict[str, Any]:
    """What a side measured, in a process of its own."""
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


def machine_name(threads: int) -> str:
    """Processor, cores and versions."""
    import torch

    ask = getattr(torch.cpu, "get_capabilities", None)
    name = (ask() if ask else {}).get("cpu_name", platform.machine())
    return f"{name}, {os.cpu_count()} cores, {threads} threads, torch {torch.__version__}"


def matmul_rates(threads: int) -> str:
    """The matmul rates of this machine, which bound every ratio here."""
    import torch

    from effft.profiling.matmul_rate import matmul_rate

    kinds = {"bf16": torch.bfloat16, "fp32": torch.float32}
    rates = [f"{name} {matmul_rate(torch.device('cpu'), kind, threads) / 1e12:.2f}" for name, kind in kinds.items()]
    return f"A large product: {', '.join(rates)} TFLOP/s."


HEADINGS = (
    "work", "part", "ours s", "Trainer fp32 s", "Trainer bf16 s", "over fp32", "over bf16", "runs", "matmul share",
    "peak MB (ours, fp32, bf16)", "loss differences",
)  # fmt: skip

BELOW = """
Loss differences: the same examples, order and start on both sides, no dropout; mean difference of the training losses
over all steps, ours and bf16 against fp32; of the search, of the validation accuracies of the trials. Peak memory is
above the start of the process, workers included. Matmul share: operations of the linear maps over the seconds and over
the rate of a large product, ours. context_distillation: the plain script asks its teacher once and keeps the scores.

No GPU was at hand; `python -m benchmarks.gpu` is the same for one, tested on a CPU.
"""


def page(about: dict[str, str], results: dict[str, Results]) -> str:
    """The Markdown page: for each shape medians, ratios, memory, losses."""
    lines = ["# Benchmarks", "", f"Random weights, sentences of about 30 tokens, batch 32. {about['machine']}."]
    lines += [f"{about['rates']} `python -m benchmarks {about['command']}`. {about['note']}"]
    for shape, rows in results.items():
        lines += ["", f"## {shape}", "", "| " + " | ".join(HEADINGS) + " |", "|---" * len(HEADINGS) + "|"]
        lines += [line(row, part, sides) for row, sides in rows.items() for part in PARTS[row] if all(sides.values())]
    return "\n".join(lines) + "\n" + BELOW


def line(row: str, part: str, sides: dict[str, list[dict[str, Any]]]) -> str:
    """A row of the table."""
    seconds = {side: median(run[part] for run in runs) for side, runs in sides.items()}
    peaks = ", ".join(f"{median(r['peak_bytes'] for r in sides[s]) / 1e6:,.0f}" for s in SIDES)
    ours, shares = seconds["ours"], [run[f"{part}_share"] for run in sides["ours"] if f"{part}_share" in run]
    cells = [row, part, f"{ours:.1f}", f"{seconds['fp32']:.1f}", f"{seconds['bf16']:.1f}"]
    cells += [f"{seconds['fp32'] / ours:.1f}", f"{seconds['bf16'] / ours:.1f}", str(len(sides["ours"]))]
    cells += [f"{median(shares):.2f}" if shares else "-", peaks, loss_differences(sides)]
    return "| " + " | ".join(cells) + " |"


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
