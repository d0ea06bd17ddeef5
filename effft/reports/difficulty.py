"""The section on runs of one task at several difficulties: the metric against each field of the difficulty."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import pandas as pd

from effft.config import DIFFICULTY_FIELDS, Amount
from effft.reports.blocks import Block, Chart, Table, anchor
from effft.reports.colors import look
from effft.reports.data import ReportData, split_title
from effft.reports.groups import OOD_MEAN, RunGroup, difficulty_of, difficulty_values, with_variants

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
    amount: Amount
    rest: str
    points: Sequence[tuple[float, list[RunGroup]]]
    runs: pd.Index


def difficulty_curves(data: ReportData) -> Iterator[Curve]:
    """For every backbone and field, the number of examples per label that was run at the most values."""
    if not len(data.other_difficulty):
        return
    every = pd.concat([data.frame, data.other_difficulty])
    for (backbone, frame), field in product(every.groupby("backbone", sort=False), DIFFICULTY_FIELDS):
        values = pd.to_numeric(difficulty_values(frame, field), errors="coerce")
        known = frame.assign(value=values, rest=difficulty_of(frame, without=field))
        groups = [(key, rows) for key, rows in known.groupby(["amount", "rest"]) if rows["value"].nunique() > 1]
        if groups:
            (amount, rest), rows = max(groups, key=lambda g: (g[1]["value"].nunique(), len(g[1]), g[0][0]))
            named = with_variants(rows[rows["value"].notna()].drop(columns=["variant"], errors="ignore"))
            several = named.groupby("variant")["value"].transform("nunique") > 1  # a single point is no curve
            drawn = named[several] if several.any() else named
            points = [(float(str(value)), data.groups_in(at)) for value, at in drawn.groupby("value")]
            assert isinstance(amount, Amount)
            yield Curve(field, str(backbone), amount, str(rest), points, drawn.index)


def difficulty_section(data: ReportData) -> Iterator[Block]:
    """That these runs stand nowhere else; then a figure and a table for every curve."""
    usual = difficulty_words(data.frame, data.other_difficulty) or "the task as it is"
    yield (
        f"{len(data.other_difficulty)} runs were made at another difficulty of the task "
        f"({difficulty_words(data.other_difficulty, data.frame)}). They are in no other section; the others are "
        f"about {usual}."
    )
    for curve in difficulty_curves(data):
        field, key = curve.field.replace("_", " "), f"difficulty-{curve.backbone}-{curve.field}-{curve.amount.name}"
        title = f"In domain and OOD {data.primary} against {field}, {curve.amount.examples}"
        variants = list(dict.fromkeys(group.variant for _, groups in curve.points for group in groups))
        lines = difficulty_lines(data, curve)
        if lines:
            about = f"Means over distinct runs; solid in domain, dashed the mean of the OOD sets. {ABOUT[curve.field]}"
            yield Chart("lines", title, about, {"x": field, "y": data.primary, "lines": lines}, f"{anchor(key)}.svg")
            rows = [
                (variant, split_title(split), *(_score(groups, variant, split) for _, groups in curve.points))
                for variant, split in product(variants, data.splits)
            ]
            heads = ("strategy", "split", *(f"{value:g}" for value, _ in curve.points))
            caption = f"{data.primary} at every {field}" + (f" ({curve.rest})" if curve.rest else "")
            yield Table(heads, rows, caption, (0, 1))


def difficulty_lines(data: ReportData, curve: Curve) -> list[dict[str, Any]]:
    """A line for every strategy in domain and for the mean of the OOD sets: (place, mean, low, high) of its points."""
    lines = []
    for variant in dict.fromkeys(group.variant for _, groups in curve.points for group in groups):
        for split in (data.home, OOD_MEAN):
            drawn = [(place, group) for place, groups in curve.points for group in groups if group.variant == variant]
            points = [(place, stat.mean, *stat.interval) for place, group in drawn if (stat := group.score(split))]
            if points:
                drawn_as = {"look": look(drawn[0][1].strategy, variant), "dashed": split == OOD_MEAN}
                lines.append({"name": variant, **drawn_as, "points": points})
    return lines


def _score(groups: list[RunGroup], variant: str, split: str) -> str:
    return next((str(group.score(split) or "-") for group in groups if group.variant == variant), "-")


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
