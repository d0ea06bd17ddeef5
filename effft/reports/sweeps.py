"""Runs of one task that differ in a knob: the metric against the shortcut's strength, and whatever else was turned."""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from effft.config import DIFFICULTY_FIELDS
from effft.reports.blocks import Part, Table, Text
from effft.reports.data import ReportData
from effft.reports.difficulty import condition_but, values_of
from effft.reports.groups import RunGroup, with_variants
from effft.reports.line_charts import Points, line_figure

MOST_WITH_INTERVALS = 4
"""Strategies up to which a figure shows intervals; with more they hide each other."""


@dataclass(frozen=True)
class Sweep:
    """Cells at two or more values of one knob, everything else alike. rest: the other knobs."""

    knob: str
    backbone: str
    per_label: int
    rest: str
    points: Points
    runs: pd.Index

    @property
    def key(self) -> str:
        """A name of its own."""
        return f"{self.backbone}-{self.knob}-{self.per_label}"


def sweeps(material: ReportData) -> list[Sweep]:
    """For every backbone and knob, the number of examples per label that was run at the most values."""
    every = (
        pd.concat([material.frame, material.other_difficulty])
        if len(material.other_difficulty)
        else material.frame.head(0)
    )
    found = []
    for backbone, frame in every.groupby("backbone", sort=False):
        for knob in DIFFICULTY_FIELDS:
            best = _widest(frame, knob)
            if best is not None:
                per_label, rest, rows = best
                found.append(_sweep(material, knob, str(backbone), per_label, rest, rows))
    return found


def _widest(frame: pd.DataFrame, knob: str) -> tuple[int, str, pd.DataFrame] | None:
    known = frame.assign(value=pd.to_numeric(values_of(frame, knob), errors="coerce"), rest=condition_but(frame, knob))
    groups = [(key, rows) for key, rows in known.groupby(["per_label", "rest"]) if rows["value"].nunique() > 1]
    if not groups:
        return None
    (per_label, rest), rows = max(groups, key=lambda g: (g[1]["value"].nunique(), len(g[1]), int(str(g[0][0]))))
    return int(str(per_label)), str(rest), rows[rows["value"].notna()]


def _sweep(material: ReportData, knob: str, backbone: str, per_label: int, rest: str, rows: pd.DataFrame) -> Sweep:
    named = with_variants(rows.drop(columns=["variant"], errors="ignore"))
    lines = named.groupby("variant")["value"].transform("nunique") > 1  # a single point is no curve
    drawn = named[lines] if lines.any() else named
    points = [(float(str(value)), material.groups_in(at)) for value, at in drawn.groupby("value")]
    return Sweep(knob, backbone, per_label, rest, points, drawn.index)


def knob_parts(material: ReportData, found: list[Sweep]) -> Iterator[Part]:
    """A figure and a table a sweep; first, that these runs stand nowhere else."""
    usual, other = (
        turned_words(material.frame, material.other_difficulty),
        turned_words(material.other_difficulty, material.frame),
    )
    yield Text(
        (
            f"{len(material.other_difficulty)} runs were made with other knobs of the task ({other}). They are another "
            f"task, so they stand here and in no other section; those are about {usual or 'runs that turned none'}.",
        )
    )
    for sweep in found:
        words = sweep.knob.replace("_", " ")
        title = f"In domain and OOD {material.primary} against {words}, {sweep.per_label} examples per label"
        about = (
            ABOUT.get(sweep.knob, "") + " Means over distinct runs; solid in domain, dashed the mean of the OOD sets."
        )
        several = len({cell.variant for _, cells in sweep.points for cell in cells})
        figure = line_figure(
            material, sweep.points, f"knob-{sweep.key}", title, about.strip(), words, several <= MOST_WITH_INTERVALS
        )
        if figure is not None:
            yield figure
            yield _table(material, sweep)


def turned_words(frame: pd.DataFrame, other: pd.DataFrame) -> str:
    """The knobs of these runs that stand otherwise in the others: 'overlap strength 0, 0.5'."""
    words = []
    for knob in DIFFICULTY_FIELDS:
        own, theirs = ({value for value in values_of(rows, knob) if value} for rows in (frame, other))
        if own - theirs:
            numbers = ", ".join(f"{value:g}" for value in sorted(map(float, own)))
            words.append(f"{knob.replace('_', ' ')} {numbers}")
    return "; ".join(words)


ABOUT = {
    "overlap_strength": "At 1 a missing word gives every not entailed in-domain pair away; at 0 none does.",
    "lexicon_size": "Nouns in train and in domain.",
    "ood_distance": "Share of the OOD rows made of held-out words.",
}


def _table(material: ReportData, sweep: Sweep) -> Table:
    rows = []
    for variant in dict.fromkeys(cell.variant for _, cells in sweep.points for cell in cells):
        for split in material.splits:
            stats = [_stat(material, variant, cells, split) for _, cells in sweep.points]
            rows.append((variant, split.replace("in_domain", "in domain"), *stats))
    heads = ("strategy", "split", *(f"{value:g}" for value, _ in sweep.points))
    caption = f"{material.primary} at every {sweep.knob.replace('_', ' ')}" + (f" ({sweep.rest})" if sweep.rest else "")
    return Table(f"knob-{sweep.key}", heads, rows, caption, (0, 1))


def _stat(material: ReportData, variant: str, cells: list[RunGroup], split: str) -> str:
    found = [stat for cell in cells if cell.variant == variant and (stat := material.stat(cell, split)) is not None]
    return str(found[0]) if found else "-"


def not_drawn(material: ReportData, found: list[Sweep]) -> pd.DataFrame:
    """Runs with other knobs that no sweep holds."""
    drawn = {run for sweep in found for run in sweep.runs}
    return material.other_difficulty[[run not in drawn for run in material.other_difficulty.index]]
