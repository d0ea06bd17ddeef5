"""The section on runs of one task at several difficulties: the metric against each field of the difficulty."""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from effft.config import DIFFICULTY_FIELDS
from effft.reports.blocks import Axis, Block, Table, Text
from effft.reports.data import ReportData
from effft.reports.figures import MOST_WITH_INTERVALS, Points, line_chart
from effft.reports.groups import difficulty_of, difficulty_values, with_variants

ABOUT = {
    "overlap_strength": "At 1 a missing word gives every in-domain pair that is not entailed away; at 0 none does.",
    "lexicon_size": "Nouns in train and in domain.",
    "ood_distance": "Share of the OOD rows made of held-out words.",
}


@dataclass(frozen=True)
class Curve:
    """Groups of runs at two or more values of one field, everything else alike. rest: the other fields, in words."""

    field: str
    backbone: str
    per_label: int
    rest: str
    points: Points
    runs: pd.Index

    @property
    def key(self) -> str:
        """A name of its own."""
        return f"difficulty-{self.backbone}-{self.field}-{self.per_label}"


def difficulty_curves(data: ReportData) -> list[Curve]:
    """For every backbone and field, the number of examples per label that was run at the most values."""
    if not len(data.other_difficulty):
        return []
    every = pd.concat([data.frame, data.other_difficulty])
    return [
        curve
        for backbone, frame in every.groupby("backbone", sort=False)
        for field in DIFFICULTY_FIELDS
        if (curve := _longest(data, str(backbone), field, frame)) is not None
    ]


def _longest(data: ReportData, backbone: str, field: str, frame: pd.DataFrame) -> Curve | None:
    values = pd.to_numeric(difficulty_values(frame, field), errors="coerce")
    known = frame.assign(value=values, rest=difficulty_of(frame, without=field))
    groups = [(key, rows) for key, rows in known.groupby(["per_label", "rest"]) if rows["value"].nunique() > 1]
    if not groups:
        return None
    (per_label, rest), rows = max(groups, key=lambda g: (g[1]["value"].nunique(), len(g[1]), int(str(g[0][0]))))
    named = with_variants(rows[rows["value"].notna()].drop(columns=["variant"], errors="ignore"))
    several = named.groupby("variant")["value"].transform("nunique") > 1  # a single point is no curve
    drawn = named[several] if several.any() else named
    points = [(float(str(value)), data.groups_in(at)) for value, at in drawn.groupby("value")]
    return Curve(field, backbone, int(str(per_label)), str(rest), points, drawn.index)


def difficulty_section(data: ReportData) -> Iterator[Block]:
    """That these runs stand nowhere else; then a figure and a table for every curve."""
    usual = difficulty_words(data.frame, data.other_difficulty) or "the task as it is"
    yield Text(
        (
            f"{len(data.other_difficulty)} runs were made at another difficulty of the task "
            f"({difficulty_words(data.other_difficulty, data.frame)}). They are in no other section; the others are "
            f"about {usual}.",
        )
    )
    for curve in difficulty_curves(data):
        field = curve.field.replace("_", " ")
        title = f"In domain and OOD {data.primary} against {field}, {curve.per_label} examples per label"
        variants = list(dict.fromkeys(group.variant for _, groups in curve.points for group in groups))
        few = len(variants) <= MOST_WITH_INTERVALS
        figure = line_chart(data, curve.points, curve.key, title, ABOUT[curve.field], Axis(field), few)
        if figure is not None:
            yield figure
            yield _table(data, curve, variants)


def _table(data: ReportData, curve: Curve, variants: list[str]) -> Table:
    rows = []
    for variant in variants:
        for split in data.splits:
            stats = [
                next((str(data.stat(g, split) or "-") for g in groups if g.variant == variant), "-")
                for _, groups in curve.points
            ]
            rows.append((variant, split.replace("in_domain", "in domain"), *stats))
    heads = ("strategy", "split", *(f"{value:g}" for value, _ in curve.points))
    caption = f"{data.primary} at every {curve.field.replace('_', ' ')}" + (f" ({curve.rest})" if curve.rest else "")
    return Table(curve.key, heads, rows, caption, (0, 1))


def difficulty_words(frame: pd.DataFrame, other: pd.DataFrame) -> str:
    """The fields of these runs that have other values in the others: 'overlap strength 0, 0.5'."""
    words = []
    for field in DIFFICULTY_FIELDS:
        values, others = ({value for value in difficulty_values(rows, field) if value} for rows in (frame, other))
        if values - others:
            numbers = ", ".join(f"{value:g}" for value in sorted(map(float, values)))
            words.append(f"{field.replace('_', ' ')} {numbers}")
    return "; ".join(words)


def without_curve(data: ReportData) -> pd.DataFrame:
    """Runs at another difficulty that no curve holds."""
    drawn = {run for curve in difficulty_curves(data) for run in curve.runs}
    return data.other_difficulty[[run not in drawn for run in data.other_difficulty.index]]
