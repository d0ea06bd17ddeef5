"""Means of arXiv 2405.13181 beside ours, where task, model and examples per label are the same.

`published.csv` holds facts only: means over the distinct ones of the runs whose accuracies the authors published with
the paper (https://arxiv.org/abs/2405.13181). Of "10 runs" most are copies of one another, so `distinct_runs` says how
many count.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from effft.config import Amount
from effft.reports.blocks import Block, Table
from effft.reports.data import ReportData
from effft.reports.groups import RunGroup

FILE = Path(__file__).parent / "published.csv"

STRATEGIES = {
    "vanilla": "vanilla",
    "pattern+classifier": "pattern+classifier",
    "adaptive_top1": "adaptive",
    "adaptive_top2": "adaptive",
    "lora": "lora",
    "context_distillation": "context_distillation",
}
"""Their name -> our strategy."""

OUR_SETTINGS = ("learning_rate", "epochs", "batch_size")
"""Settings of ours that stand beside theirs (1e-5, 40, 32)."""

DIFFERENCES = [
    "Published numbers are accuracies of the last epoch at learning rate 1e-5 for every strategy, 40 epochs, all "
    "padded to 128 tokens.",
    "In the published adaptive runs the embeddings, the final norm and the head train as well; here only the top "
    "blocks and the head.",
    "Published LoRA has alpha 8 at every rank; published context distillation gives teacher and student one prompt.",
    "CoLA in domain: published on all 1,043 GLUE validation sentences, which hold the 516 OOD ones; here on the 527 "
    "in-domain ones.",
]


def published() -> list[Any]:
    """The published means, with the columns of the file as attributes; rank is '' for a strategy without one."""
    return list(pd.read_csv(FILE, dtype={"rank": str}, keep_default_na=False).itertuples())


def published_section(data: ReportData) -> Iterator[Block]:
    """The comparison; nothing where no group of ours matches."""
    means = [mean for mean in published() if mean.task == data.task]
    rows = [_row(theirs, group) for theirs in means for group in data.groups if matches(theirs, group)]
    if rows:
        heads = (
            "strategy", "per label", "published runs (distinct)", "published in domain", "ours in domain", "OOD set",
            "published OOD", "ours OOD", "our settings",
        )  # fmt: skip
        yield Table(heads, rows, "accuracy", (0, 5, 8))
        yield DIFFERENCES
        yield "Source: the authors' runs of arXiv 2405.13181, means over distinct runs (published.csv)."


def matches(theirs: Any, group: RunGroup) -> bool:
    """Whether model (its last name), strategy, examples per label, rank and depth are the same."""
    model = group.backbone.rstrip("/").rsplit("/", 1)[-1].lower()
    layers = theirs.strategy[-1] if theirs.strategy.startswith("adaptive_top") else ""
    ours = group.amount, group.strategy, model
    return (
        ours == (Amount(theirs.per_label), STRATEGIES[theirs.strategy], theirs.model)
        and theirs.rank in ("", group.setting("rank"))
        and layers in ("", group.setting("layers"))
    )


def _row(theirs: Any, group: RunGroup) -> tuple[str, ...]:
    in_domain, ood = (group.stat(f"{split}/accuracy") for split in ("in_domain", f"ood/{theirs.ood}"))
    name = f"{theirs.strategy} r{theirs.rank}" if theirs.rank else theirs.strategy
    return (
        f"{name} / {group.variant}",
        str(theirs.per_label),
        f"{theirs.runs} ({theirs.distinct_runs})",
        f"{theirs.in_domain_accuracy:.3f}",
        str(in_domain or "-"),
        theirs.ood,
        f"{theirs.ood_accuracy:.3f}",
        str(ood or "-"),
        ", ".join(f"{name.replace('_', ' ')} {value}" for name in OUR_SETTINGS if (value := group.setting(name))),
    )
