"""`python -m benchmarks.estimates`: estimated and measured peak memory, architecture by architecture.

Every run is a fresh process; the peak is that of the resident memory above its start. The table goes to
benchmarks/estimates.md.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from benchmarks.material import KEEP, make_material

STRATEGIES = "vanilla,pbft,adaptive,lora,bitfit,probe,context_distillation,icl,zero_shot"
SHAPES = "opt-125m,llama-like,gpt2-like,bert-like"

ONE = """
import json, sys
from effft.config import make_config
job = json.loads(sys.argv[1])
config = make_config(job["values"])
if job["estimate"]:
    from effft.runs.estimate import Skeletons, estimate
    print(json.dumps({"peak": estimate(config, Skeletons()).peak}))
else:
    from effft.runs.experiment import run
    from effft.runs.session import Session
    from effft.tracking.tracker import MemoryTracker
    result = run(config, MemoryTracker(), Session(keep=False))
    print(json.dumps({"peak": 1e6 * result.metrics["resources/peak_memory_mb"]}))
"""


@click.command(help=__doc__)
@click.option("--shapes", default=SHAPES, help="architectures, comma-separated (benchmarks/material.py)")
@click.option("--strategies", default=STRATEGIES, help="comma-separated")
@click.option("--threads", default=1, help="CPU threads")
@click.option("--keep", default=KEEP, help="where models and data are made")
def main(shapes: str, strategies: str, threads: int, keep: str) -> None:
    """Measure, print and write the table."""
    lines = ["# Estimated and measured peaks", "", "Random weights, 64 per label (8 where nothing trains), batch 32,"]
    lines += [
        f"sentences of about 30 tokens, {threads} thread(s). MB; in brackets the estimate over the measurement.",
        "",
    ]
    names = strategies.split(",")
    lines += ["| architecture | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for shape in shapes.split(","):
        model, task = make_material(Path(keep), shape)
        cells = []
        for name in names:
            values: dict[str, Any] = {"strategy": name, "task": str(task), "model": str(model), "per_label": 64}
            values |= {"evaluation_limit": 32, "bootstrap": 0, "threads": threads, "device": "cpu"}
            if name in ("icl", "zero_shot"):
                values["per_label"] = 8
            else:
                values |= {"batch_size": 32, "steps": 6}
            told = {kind: _peak(values, kind == "estimate") for kind in ("estimate", "run")}
            cells.append(_cell(told["estimate"], told["run"]))
            click.echo(f"{shape} {name}: {cells[-1]}", err=True)
        lines.append(f"| {shape} | " + " | ".join(cells) + " |")
    text = "\n".join(lines) + "\n"
    (Path(__file__).parent / "estimates.md").write_text(text)
    click.echo(text)


def _peak(values: dict[str, Any], estimate: bool) -> float | None:
    """None: the strategy does not go with the architecture."""
    done = subprocess.run(
        [sys.executable, "-c", ONE, json.dumps({"values": values, "estimate": estimate})],
        capture_output=True, text=True, cwd=Path(__file__).parent.parent, check=False,
    )  # fmt: skip
    if done.returncode and "InputError" in done.stderr:
        return None
    if done.returncode:
        raise click.ClickException(done.stderr[-2000:])
    return float(json.loads(done.stdout.strip().splitlines()[-1])["peak"])


def _cell(estimated: float | None, measured: float | None) -> str:
    if estimated is None or measured is None:
        return "refused"
    return f"{estimated / 1e6:,.0f} / {measured / 1e6:,.0f} ({estimated / measured:.2f})"


if __name__ == "__main__":
    main()
