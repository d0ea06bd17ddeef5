"""`python -m benchmarks.gpu`: effft and Trainer + peft in bf16 on one GPU, within eight minutes, in one process.

Strategies, share of the matmul peak, packed LoRA, memory against its estimate, and the tests marked `gpu`. Prints as it
goes and writes a JSON file after every measurement. `--device cpu --quick` tries the script on a CPU.
"""

import contextlib
import gc
import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks import ours, plain
from benchmarks.__main__ import ROWS, drawn
from benchmarks.material import KEEP, make_material
from benchmarks.packed_lora import step_seconds
from effft.runs.estimate import Skeletons, estimate

SHAPES = {"opt-125m": tuple(ROWS)[:-1], "smollm2-135m": tuple(ROWS)[:-1], "opt-1.3b": ("lora", "vanilla", "icl")}
QUICK = {"opt-small": tuple(ROWS)[:-1], "llama-small": ("lora", "icl")}
"""Shape -> rows of `python -m benchmarks`, the search apart."""

PACKED = (1, 4, 16, 64)
RESERVED = 60.0  # Seconds that are kept for the tests.
UNWANTED = ("mlflow", "optuna", "datasets")


@click.command(help=__doc__)
@click.option("--device", type=click.Choice(["cuda", "cpu"]), default="cuda")
@click.option("--quick", is_flag=True, help="small shapes, less of everything")
@click.option("--minutes", default=8.0, help="begin no measurement that would not fit")
@click.option("--out", default="gpu.json", help="where the numbers go")
@click.option("--keep", default=KEEP, help="where models and data are made")
def main(device: str, quick: bool, minutes: float, out: str, keep: str) -> None:
    """Measure, print, write."""
    clock = Clock(60 * minutes - RESERVED)
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {"device": torch.cuda.get_device_name() if device == "cuda" else "cpu", "rows": []}
    found |= {"torch": torch.__version__, "peak_tflops": matmul_peak(device, 1024 if quick else 8192) / 1e12}

    def note(kind: str, **values: Any) -> None:
        found["rows"].append({"kind": kind, **values})
        Path(out).write_text(json.dumps(found, indent=1) + "\n")
        shown = (f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in values.items())
        click.echo(f"{clock.seconds:5.0f} s  {kind}: {', '.join(shown)}")

    click.echo(f"{found['device']}: {found['peak_tflops']:.3g} TFLOP/s in bf16")
    for shape, works in (QUICK if quick else SHAPES).items():
        if not clock.has(45 if shape == "opt-1.3b" else 5):
            note("left out", shape=shape)
            continue
        model, task = make_material(Path(keep), shape)
        for work in works:
            job = job_of(work, str(model), str(task), device, quick, Path(keep))
            if not clock.has(clock.longest):
                note("left out", shape=shape, work=work)
                continue
            with clock:
                note("strategy", shape=shape, **compare(job, found["peak_tflops"] * 1e12))
        steps: list[float] = []  # the first is that of one trial
        for trials in PACKED if shape != "opt-1.3b" and clock.has(10) else ():
            with clock:
                steps.append(step_seconds(model, trials, device))
            note("packed", shape=shape, trials=trials, step=steps[-1], times_faster=trials * steps[0] / steps[-1])
    found["imported"] = [name for name in UNWANTED if name in sys.modules]
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "gpu", "tests"]
    try:
        tests = subprocess.run(command, capture_output=True, text=True, timeout=RESERVED, check=False).stdout
    except subprocess.TimeoutExpired:
        tests = "no time"
    note("tests", said=tests.strip().splitlines()[-1:])


class Clock:
    """What is left of the time, and how long the longest measurement took, each in a `with` of it."""

    def __init__(self, total: float) -> None:
        self.total, self.longest, self._began, self._start = total, 0.0, time.monotonic(), 0.0

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._began

    def has(self, seconds: float) -> bool:
        """Whether so many are left."""
        return self.seconds + seconds < self.total

    def __enter__(self) -> None:
        self._start = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.longest = max(self.longest, time.monotonic() - self._start)


def job_of(work: str, model: str, task: str, device: str, quick: bool, keep: Path) -> dict[str, Any]:
    """A row of `python -m benchmarks` on this device."""
    size = dict(ROWS[work])
    if quick:
        size |= {"epochs": 1, "evaluation": 8, "per_label": 8}
    job = size | {"work": work, "model": model, "task": task, "threads": 1, "cuda": device == "cuda", "bf16": True}
    return job | {"out": str(keep / "out")} | drawn(task, work, size)


def compare(job: dict[str, Any], peak: float) -> dict[str, Any]:
    """Seconds of both sides, the share of the matmul peak, and memory against its estimate."""
    mine, held = on_device(lambda: ours.train(job), job["cuda"])
    theirs, plain_held = on_device(lambda: plain_run(job), job["cuda"])
    told: dict[str, Any] = {"work": job["work"], "peak_mb": held / 1e6, "plain_peak_mb": plain_held / 1e6}
    told["estimated_mb"] = estimate(ours.config_of(job), Skeletons()).peak / 1e6
    for part in ("evaluation",) if job["work"] == "icl" else ("train", "evaluation"):
        told |= {f"{part}_s": mine[part], f"plain_{part}_s": theirs[part], f"{part}_ratio": theirs[part] / mine[part]}
        told[f"{part}_share"] = mine[f"{part}_flops"] / mine[part] / peak
    return told


def plain_run(job: dict[str, Any]) -> dict[str, Any]:
    """The Trainer's side of a job, in this process."""
    model, tokenizer = plain.build(job)
    folder = Path(job["task"]).parent
    with tempfile.TemporaryDirectory() as out, contextlib.redirect_stdout(io.StringIO()):  # the Trainer prints losses
        run = plain.icl if job["work"] == "icl" else plain.fit
        return run(job | {"out": out}, model, tokenizer, folder)


def on_device(work: Callable[[], dict[str, Any]], cuda: bool) -> tuple[dict[str, Any], int]:
    """What it returns, and the most bytes it held on the GPU (0 on a CPU)."""
    gc.collect()
    if not cuda:
        return work(), 0
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    told = work()
    torch.cuda.synchronize()
    return told, torch.cuda.max_memory_allocated() - before


def matmul_peak(device: str, size: int) -> float:
    """Operations per second of a large square product in bf16: the best of ten."""
    states = torch.ones((size, size), dtype=torch.bfloat16, device=device)
    best = float("inf")
    for _ in range(10):
        start = time.perf_counter()
        (states @ states)[0, 0].item()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


if __name__ == "__main__":
    main()
