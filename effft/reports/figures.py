"""Which figures a report has: what each of them shows of the runs."""

from collections.abc import Iterable, Sequence
from itertools import product

from effft.evaluation.metric_keys import slices_with
from effft.reports.advice import COSTS, MEMORY, pareto
from effft.reports.blocks import Axis, Figure, HeatMap, Series
from effft.reports.data import OOD_MEAN, ReportData, metric_names, split_title
from effft.reports.groups import RunGroup

PALETTE = (
    "#2f7ed8", "#e07b00", "#1a9a6c", "#c94f9b", "#8a63d2", "#b59a00", "#00a0b0", "#d2504b", "#7c8798", "#5f8f1f",
    "#a2673f", "#4d5bd1",
)  # fmt: skip
"""Readable on white and on black."""
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "hexagon", "triangle-down", "x", "pentagon")
MOST_SLICES = 80
MOST_WITH_INTERVALS = 4
"""Strategies up to which a line chart shows intervals; with more they hide each other."""

Points = Sequence[tuple[float, list[RunGroup]]]
"""(place on the axis, the groups there), ascending."""


def look(name: str, names: Iterable[str]) -> tuple[str, str]:
    """Colour and symbol of a name by its place among all names, so that no figure depends on colour alone."""
    place = list(dict.fromkeys(names)).index(name)
    return PALETTE[place % len(PALETTE)], SYMBOLS[place % len(SYMBOLS)]


def overview(data: ReportData, backbone: str, per_label: int) -> Figure:
    """A row for every strategy, a mark with its interval for every split, lines at chance and majority."""
    groups = data.groups_on(backbone, per_label)[::-1]
    series = []
    for split in data.splits:
        known = {group.variant: stat for group in groups if (stat := data.stat(group, split))}
        means, intervals = [stat.mean for stat in known.values()], [stat.interval for stat in known.values()]
        looks = look(split, data.splits)
        series.append(Series(split_title(split), means, list(known), "markers", *looks, intervals=intervals))
    guides = dict(zip(("majority", "chance"), data.references(groups, "in_domain") or (), strict=False))
    if guides and guides["majority"] == guides["chance"]:
        guides = {"chance, majority": guides["chance"]}
    return Figure(
        f"overview-{backbone}-{per_label}",
        f"In domain and out of domain, {per_label} examples per label",
        "Mean over distinct runs with its 95 % interval over seed x data_seed; best in domain at the top.",
        series,
        Axis(data.primary),
        Axis(words=True),
        height=150 + 34 * max(2, len(groups)),
        horizontal=True,
        guides=guides,
        still=True,
    )


def scatter(data: ReportData, backbone: str) -> Figure | None:
    """In domain against the mean of the OOD sets, a mark for every strategy and number of examples."""
    groups, series = data.groups_on(backbone), []
    variants = dict.fromkeys(group.variant for group in groups)
    for variant in variants:
        known = [g for g in groups if g.variant == variant and data.stat(g, "in_domain") and data.stat(g, OOD_MEAN)]
        if known:
            x, y = ([data.mean(group, split) for group in known] for split in ("in_domain", OOD_MEAN))
            hover = [f"{group.per_label} per label, {len(group.runs)} runs" for group in known]
            series.append(Series(variant, x, y, "lines+markers", *look(variant, variants), "dot", hover=hover))
    title = "In domain against out of domain"
    about = f"OOD is the mean of {', '.join(data.sets)}; on the dotted line nothing is lost."
    axes = Axis(f"in domain {data.primary}"), Axis(f"mean of OOD sets {data.primary}")
    return Figure(f"scatter-{backbone}", title, about, series, *axes, diagonal=True) if series else None


def learning_curve(data: ReportData, backbone: str) -> Figure | None:
    """The metric over examples per label."""
    counts = data.per_labels(backbone)
    if len(counts) < 2:
        return None
    points = [(float(count), data.groups_on(backbone, count)) for count in counts]
    axis = Axis("examples per label", log=True, ticks=tuple(map(float, counts)))
    return line_chart(data, points, f"curve-{backbone}", "Learning curve", "Click a name to hide it.", axis, False)


def line_chart(
    data: ReportData, points: Points, key: str, title: str, about: str, axis: Axis, intervals: bool
) -> Figure | None:
    """The metric over a number, solid in domain and dashed for the mean of the OOD sets."""
    variants = dict.fromkeys(group.variant for _, groups in points for group in groups)
    kinds = (("in domain", "solid", "in_domain"), ("OOD", "dash", OOD_MEAN))
    series = []
    for variant, (name, dash, split) in product(variants, kinds):
        drawn = [(x, group) for x, groups in points for group in groups if group.variant == variant]
        stats = [(x, stat) for x, group in drawn if (stat := data.stat(group, split))]
        if stats:
            place = [x for x, _ in stats], [stat.mean for _, stat in stats]
            bounds = [stat.interval for _, stat in stats] if intervals else ()
            looks = look(variant, variants)
            series.append(Series(f"{variant}, {name}", *place, "lines+markers", *looks, dash, bounds))
    words = f"Means over distinct runs; solid in domain, dashed the mean of the OOD sets. {about}".strip()
    return Figure(key, title, words, series, axis, Axis(data.primary), still=intervals) if series else None


def slices(data: ReportData, backbone: str, per_label: int, split: str) -> Figure | None:
    """Accuracy on every slice of a split, strategies as rows, as a heat map."""
    groups = data.groups_on(backbone, per_label)
    keys = slices_with(metric_names(data.frame), split, "accuracy")
    stats = {parts.slice_label: [group.stat(key) for group in groups] for key, parts in keys.items()}
    stats = {label: found for label, found in stats.items() if any(found)}
    if not stats:
        return None
    labels = list(stats)[:MOST_SLICES]
    values = [[stat.mean if (stat := stats[name][row]) else None for name in labels] for row in range(len(groups))]
    more = f" The first {MOST_SLICES} of {len(stats)} slices." if len(stats) > MOST_SLICES else ""
    return Figure(
        f"slices-{backbone}-{split}",
        f"Slices of {split_title(split)}, {per_label} per label",
        f"Accuracy, mean over distinct runs; below 0.5 red, above it blue.{more}",
        HeatMap(labels, [group.variant for group in groups], values),
        Axis(words=True),
        Axis(words=True),
        height=220 + 26 * len(groups),
    )


def costs(data: ReportData, backbone: str, per_label: int, key: str) -> Figure | None:
    """The metric against one cost, with the front of the strategies that no other beats in both."""
    groups = [g for g in data.groups_on(backbone, per_label) if g.median(key) == g.median(key)]  # NaN: not measured
    if not groups:
        return None

    def cost(group: RunGroup) -> float:
        return group.median(key) if group.median(key) > 0 else 1.0  # a logarithmic axis has no zero

    front = pareto(data, groups, key)
    steps = [cost(group) for group in front], [data.mean(group) for group in front]
    series = [Series("front", *steps, "lines", dash="dot", steps=True)]
    names = [group.variant for group in groups]
    for group in groups:
        if stat := data.stat(group, "in_domain"):
            place = [cost(group)], [stat.mean]
            looks = look(group.variant, names)
            series.append(Series(group.variant, *place, "markers", *looks, intervals=[stat.interval]))
    about = "Up and to the left is better; a strategy below the dotted front is beaten in both by another."
    if any(group.median(key) <= 0 for group in groups):
        about += " A strategy that trains nothing stands at the left edge, because the scale is logarithmic."
    return Figure(
        f"cost-{backbone}-{key.rpartition('/')[2]}",
        f"In domain against {COSTS[key]}, {per_label} per label",
        about,
        series,
        Axis(COSTS[key], log=True),
        Axis(f"in domain {data.primary}"),
        still=key == MEMORY,
    )
