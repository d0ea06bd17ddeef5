"""What a reader must know before believing the numbers: copies, leaks, gaps in the grid, runs that did not end."""

import re
from collections.abc import Iterator
from itertools import product

import pandas as pd

from effft.reports.data import ReportData
from effft.reports.groups import TUNED
from effft.reports.results import identical_results
from effft.reports.sweeps import not_drawn, sweeps, turned_words

MOST = 12
"""Names or sentences of one kind that are listed; the rest is counted."""
LEAK = re.compile(r"(\d+) of the training texts also occur in ([^\s]+?)\.(?=\s|$)")


def find_warnings(material: ReportData) -> list[str]:
    """Sentences, the gravest first; none when nothing is wrong."""
    return [*_copies(material), *_unlike(material), *_leaks(material), *_left_out(material), *_missing(material)]


def _copies(material: ReportData) -> Iterator[str]:
    yield from filter(None, map(identical_results, material.groups))
    repeats = sum(cell.repeats for cell in material.groups)
    if repeats:
        yield f"{repeats} runs repeat the seeds and settings of a later one, which alone counts."


def _unlike(material: ReportData) -> Iterator[str]:
    if len(material.backbones) > 1:
        yield f"{len(material.backbones)} backbones are here ({', '.join(material.backbones)}); no mean mixes them."
    several: dict[tuple[str, str], set[str]] = {}
    for cell in (cell for cell in material.groups if TUNED not in cell.variant):
        several.setdefault((cell.backbone, cell.strategy), set()).add(cell.variant)
    for (_, strategy), variants in several.items():
        if len(variants) > 1:
            yield f"{strategy} was run with {len(variants)} different settings; each stands in a row of its own."
    for cell in material.groups:
        commits = set(cell.runs["git_commit"]) - {""}
        if len(commits) > 1:
            yield (
                f"{cell.variant} at {cell.per_label} per label mixes runs of {len(commits)} versions of the code "
                f"({', '.join(sorted(c[:8] for c in commits))})."
            )


def _leaks(material: ReportData) -> Iterator[str]:
    found: dict[str, list[int]] = {}
    for note in material.frame["notes"] if len(material.frame) else ():
        for count, split in LEAK.findall(str(note)):
            found.setdefault(split, []).append(int(count))
    for split, counts in found.items():
        yield f"Training texts also occur in {split}, in {len(counts)} runs ({min(counts)} to {max(counts)} texts)."


def _left_out(material: ReportData) -> Iterator[str]:
    words = {"RUNNING": "not ended yet", "FAILED": "failed", "KILLED": "were stopped", "SCHEDULED": "never started"}
    for reason, rows in material.left_out.items():
        names = [str(name) for name in rows["name"][:MOST]]
        more = f" and {len(rows) - MOST} more" if len(rows) > MOST else ""
        said = f"{words[reason]} and are left out" if reason in words else f"left out, {reason}"
        yield f"{len(rows)} runs {said}: {'; '.join(names)}{more}."
    lost = not_drawn(material, sweeps(material))
    if len(lost):
        knobs = turned_words(lost, material.frame)
        yield f"{len(lost)} runs with other knobs of the task ({knobs}) have nothing to stand beside: left out."


def _missing(material: ReportData) -> Iterator[str]:
    """Places of the grid that some strategies have and others lack."""
    for backbone in material.backbones:
        cells = [cell for cell in material.groups if cell.backbone == backbone]
        for per_label in material.per_labels(backbone):
            here = [cell for cell in cells if cell.per_label == per_label]
            places = {p for cell in here if cell.trains for p in _places(cell.runs)}
            lacking = []
            for cell in here:
                wanted = places if cell.trains else {(0, draw) for _, draw in places if _draws_matter(cell.runs)}
                own = _places(cell.runs) if cell.trains else {(0, draw) for _, draw in _places(cell.runs)}
                lost = len(wanted - own) - cell.copies
                if lost > 0:
                    lacking.append(f"{cell.variant} ({lost})")
            if lacking:
                yield f"{per_label} per label on {backbone}: seeds that others have are missing for {_some(lacking)}."
        absent = [
            f"{variant} at {per_label}"
            for variant, per_label in product(
                dict.fromkeys(c.variant for c in cells if "[" not in c.variant), material.per_labels(backbone)
            )
            if not any((c.variant, c.per_label) == (variant, per_label) for c in cells)
        ]
        if absent:
            yield f"No run on {backbone} of {_some(absent)} per label."


def _places(runs: pd.DataFrame) -> set[tuple[int, int]]:
    return {(int(s), int(d)) for s, d in zip(runs["seed"].fillna(0), runs["data_seed"].fillna(0), strict=True)}


def _draws_matter(runs: pd.DataFrame) -> bool:
    column = "param:resolved.shots"
    return column in runs and any(str(value) not in ("", "0") for value in runs[column])


def _some(names: list[str]) -> str:
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return ", ".join(names[:MOST]) + more
