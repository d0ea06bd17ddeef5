"""The curve of the task `overlap`: accuracy in domain and OOD against the strength of the shortcut.

At strength 1 a missing word gives every not entailed in-domain pair away; at 0 none, so that who did what must be read.
"""

from collections.abc import Sequence

from effft.config import make_config
from effft.runs.cells import Cell, Measured
from effft.runs.reference import spread

TASK = "overlap"
ROWS = ("vanilla", "pbft", "lora")
SPLITS = {"in domain": "in_domain/accuracy", "OOD": "ood/traps/accuracy", "OOD, swap": "ood/traps/swap/accuracy"}


def cells(model: str, strengths: Sequence[str], per_label: int, pairs: int, limit: int) -> list[Cell]:
    """Three strategies at every strength; pair i is seed i with data_seed i.

    Raises:
        InputError: a strength that is no number from 0 to 1.
    """
    shared = {"task": TASK, "model": model, "per_label": per_label, "evaluation_limit": limit}
    shared |= {"bootstrap": 0, "threads": 1}
    return [
        Cell(row, make_config(shared | {"strategy": row, "overlap_strength": text, "seed": pair, "data_seed": pair}))
        for text in strengths
        for row in ROWS
        for pair in range(pairs)
    ]


def curve(measured: Sequence[Measured]) -> tuple[list[str], list[list[str]]]:
    """Heads and lines: a strategy's mean ± standard deviation at every strength, strongest first."""
    own = [m for m in measured if m.cell.config.overlap_strength is not None]
    strengths = sorted({m.cell.config.overlap_strength or 0.0 for m in own}, reverse=True)
    lines = []
    for row in ROWS:
        for said, key in SPLITS.items():
            values = [
                [m.metrics[key] for m in own if m.cell.row == row and m.cell.config.overlap_strength == strength]
                for strength in strengths
            ]
            lines.append([f"{row}, {said}", *map(spread, values)])
    return ["shortcut strength", *(f"{strength:g}" for strength in strengths)], lines
