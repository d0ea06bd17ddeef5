"""The reference table of the built-in tasks: every strategy at several sizes, beside rows that know less.

`majority` always answers one label, `bag of words` is a logistic regression on word counts (tagged by text, so that it
could count across two), `random weights` is vanilla fine-tuning of the same architecture before any pre-training.
"""

import math
from collections.abc import Sequence
from statistics import fmean, stdev

from effft.config import make_config
from effft.evaluation.metric_keys import parse
from effft.runs.cells import BAG, Cell, Measured
from effft.strategies.strategy import NAMED, compose

TASKS = ("agreement", "overlap")
PER_LABEL = (8, 32, 128)
PAIRS = 5
LIMIT = 500
"""Examples evaluated a split: a standard error of 2 points a run."""

SWAPPED = "icl, label words swapped"
RANDOM = "vanilla, random weights"
MAJORITY = "majority"
ROWS = (*NAMED, SWAPPED, RANDOM, BAG, MAJORITY)


def cells(
    model: str, random_model: str, tasks: Sequence[str], per_label: Sequence[int], pairs: int, limit: int
) -> list[Cell]:
    """Every run, the long ones first. Pair i is seed i with data_seed i; what no example changes is run once.

    Raises:
        InputError: a parameter out of range.
    """
    found = []
    for task in tasks:
        for count in per_label:
            for pair in range(pairs):
                place = {"task": task, "per_label": count, "seed": pair, "data_seed": pair, "evaluation_limit": limit}
                place |= {"bootstrap": 0, "threads": 1}
                for row in ROWS[:-1]:
                    if row == "zero_shot" and (pair or count != per_label[0]):
                        continue
                    found.append(Cell(row, make_config(place | _run_of(row, model, random_model))))
    return sorted(found, key=lambda cell: -_cost(cell))


def _run_of(row: str, model: str, random_model: str) -> dict[str, str]:
    if row == SWAPPED:
        return {"strategy": "icl", "model": model, "label_words": "Yes,No"}
    if row == RANDOM:
        return {"strategy": "vanilla", "model": random_model}
    return {"strategy": "vanilla" if row == BAG else row, "model": model}


def _cost(cell: Cell) -> float:
    """Rough seconds, to start the long ones first."""
    if cell.row == BAG:
        return 0.5
    strategy = compose(cell.config.strategy)
    prompts = 10.0 if strategy.parameters.get("shots") or strategy.parameters.get("teacher_shots") else 2.0
    return prompts + 0.1 * cell.config.per_label * strategy.trains


# ---- tables -------------------------------------------------------------------------------------------------------


def table(measured: Sequence[Measured], task: str) -> tuple[list[str], list[list[str]]]:
    """Heads and lines: a row's mean ± standard deviation in domain and OOD, for every number per label."""
    from effft.tasks.task import load_task

    record = load_task(task)
    splits = [name for name in record.split_names if name != "train"]
    own = [m for m in measured if m.cell.config.task == task]
    counts = sorted({m.cell.config.per_label for m in own})
    heads = [record.metric, *(f"{_said(split)}, {count}" for split in splits for count in counts)]
    lines = []
    for row in ROWS[:-1]:
        mine = [m for m in own if m.cell.row == row]
        values = [
            [
                m.metrics[f"{split}/{record.metric}"]
                for m in mine
                if m.cell.config.per_label == count or row == "zero_shot"
            ]
            for split in splits
            for count in counts
        ]
        lines.append([row, *map(spread, values)])
    majority = [spread([_majority(own, split, record.metric)]) for split in splits for _ in counts]
    return heads, [*lines, [MAJORITY, *majority]]


def _majority(measured: Sequence[Measured], split: str, metric: str) -> float:
    """The metric of always answering the split's most frequent label: its share, or 0 for a correlation."""
    if metric != "accuracy":
        return 0.0
    return next((m.metrics[f"{split}/majority"] for m in measured if f"{split}/majority" in m.metrics), math.nan)


def slices(measured: Sequence[Measured], task: str, per_label: int) -> tuple[list[str], list[list[str]]]:
    """Heads (the table's rows) and a line for every OOD slice: mean accuracy at one number per label."""
    own = [m for m in measured if m.cell.config.task == task and m.cell.row != BAG]
    own = [m for m in own if m.cell.config.per_label == per_label or m.cell.row == "zero_shot"]
    rows = [row for row in ROWS if any(m.cell.row == row for m in own)]
    known = {key: parts for m in own for key in m.metrics if (parts := parse(key)) and parts.metric == "accuracy"}
    lines = []
    for key, parts in sorted(known.items()):
        if parts.ood_set and len(parts.slice) == 1:
            name = parts.slice[0][1]
            lines.append([name, *(spread([m.metrics[key] for m in own if m.cell.row == r], sd=False) for r in rows)])
    return ["OOD slice", *rows], lines


def _said(split: str) -> str:
    return "in domain" if split == "in_domain" else "OOD"


def spread(values: Sequence[float], sd: bool = True) -> str:
    """'.953 ± .012'; '-' for nothing."""
    if not values:
        return "-"
    mean = _short(fmean(values))
    return f"{mean} ± {_short(stdev(values))}" if sd and len(values) > 1 else mean


def _short(number: float) -> str:
    text = f"{number:.2f}"
    return text.replace("0.", ".", 1) if abs(number) < 1 and "0." in text else text


def markdown(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    rows = [heads, ["---"] * len(heads), *lines]
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)
