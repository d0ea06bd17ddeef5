"""Means of arXiv 2405.13181 beside ours, where task, model and examples per label are the same.

`published.csv` holds facts only: means over the distinct ones of the runs whose accuracies the authors published with
the paper (https://arxiv.org/abs/2405.13181). Of "10 runs" most are copies of one another, so `distinct_runs` says how
many count.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from effft.reports.blocks import Part, Table, Text
from effft.reports.data import ReportData
from effft.reports.groups import RunGroup

FILE = Path(__file__).parent / "published.csv"
SETS: dict[str, str] = {}
"""Their name of an OOD set -> ours, where they differ."""

STRATEGIES = {
    "vanilla": "vanilla",
    "pattern+classifier": "pattern+classifier",
    "adaptive_top1": "adaptive",
    "adaptive_top2": "adaptive",
    "lora": "lora",
    "context_distillation": "context_distillation",
}
"""Their name -> our strategy."""

OURS = ("learning_rate", "epochs", "batch_size")
"""Settings of ours that stand beside theirs (1e-5, 40, 32)."""

DIFFERS = (
    "Published numbers are accuracies of the last epoch at learning rate 1e-5 for every strategy, 40 epochs, all "
    "padded to 128 tokens.",
    "In the published adaptive runs the embeddings, the final norm and the head train as well; here only the top "
    "blocks and the head.",
    "Published LoRA has alpha 8 at every rank; published context distillation gives teacher and student one prompt.",
    "CoLA in domain: published on all 1,043 GLUE validation sentences, which hold the 516 OOD ones; here on the 527 "
    "in-domain ones.",
)


@dataclass(frozen=True)
class Published:
    """One published mean."""

    task: str
    ood: str
    strategy: str
    model: str
    per_label: int
    rank: str
    runs: int
    distinct: int
    in_domain: float
    outside: float


def published() -> list[Published]:
    """The table."""
    with FILE.open(newline="") as file:
        return [
            Published(
                row["task"], row["ood"], row["strategy"], row["model"], int(row["per_label"]), row["rank"],
                int(row["runs"]), int(row["distinct_runs"]), float(row["in_domain_accuracy"]),
                float(row["ood_accuracy"]),
            )
            for row in csv.DictReader(file)
        ]  # fmt: skip


def published_parts(material: ReportData) -> Iterator[Part]:
    """The comparison; nothing where no cell of ours matches."""
    rows = []
    for theirs in published():
        for cell in material.groups:
            if matches(theirs, cell, material.task):
                rows.append(_row(theirs, cell))
    if rows:
        heads = (
            "strategy", "per label", "published runs (distinct)", "published in domain", "ours in domain", "OOD set",
            "published OOD", "ours OOD", "our settings",
        )  # fmt: skip
        yield Table("published", heads, rows, "accuracy", (0, 5, 8))
        yield Text(DIFFERS, bullets=True)
        yield Text(
            ("Source: the authors' runs of arXiv 2405.13181; means over distinct runs, typed in published.csv.",)
        )


def matches(theirs: Published, cell: RunGroup, task: str) -> bool:
    """Whether task, model (its last name), strategy, examples per label, rank and depth are the same."""
    if (theirs.task, theirs.per_label) != (task, cell.per_label) or STRATEGIES[theirs.strategy] != cell.strategy:
        return False
    if cell.backbone.rstrip("/").rsplit("/", 1)[-1].lower() != theirs.model:
        return False
    wanted = {"rank": theirs.rank}
    if theirs.strategy.startswith("adaptive_top"):
        wanted["layers"] = theirs.strategy[-1]
    return all(_setting(cell, name) == value for name, value in wanted.items() if value)


def _setting(cell: RunGroup, name: str) -> str:
    column = f"param:resolved.{name}"
    return str(cell.runs[column].iloc[0]) if column in cell.runs else ""


def _row(theirs: Published, cell: RunGroup) -> tuple[str, ...]:
    own = [cell.stat("in_domain/accuracy"), cell.stat(f"ood/{SETS.get(theirs.ood, theirs.ood)}/accuracy")]
    shown = ["-" if stat is None else str(stat) for stat in own]
    name = f"{theirs.strategy} r{theirs.rank}" if theirs.rank else theirs.strategy
    return (
        f"{name} / {cell.variant}",
        str(theirs.per_label),
        f"{theirs.runs} ({theirs.distinct})",
        f"{theirs.in_domain:.3f}",
        shown[0],
        theirs.ood,
        f"{theirs.outside:.3f}",
        shown[1],
        ", ".join(f"{name.replace('_', ' ')} {value}" for name in OURS if (value := _setting(cell, name))),
    )
