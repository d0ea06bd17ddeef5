"""Which figures a report has: what each of them shows of the runs."""

from collections.abc import Callable, Iterable, Sequence

from effft.evaluation.metric_keys import slices_with
from effft.reports.advice import COSTS, pareto
from effft.reports.blocks import Axis, Figure, HeatMap, Series
from effft.reports.collect import metric_names
from effft.reports.data import ReportData
from effft.reports.groups import RunGroup, Statistic

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


def colours(names: Iterable[str]) -> dict[str, str]:
    """Name -> colour, in the order of the names."""
    return {name: PALETTE[place % len(PALETTE)] for place, name in enumerate(dict.fromkeys(names))}


def symbols(names: Iterable[str]) -> dict[str, str]:
    """Name -> mark, so that no figure depends on colour alone."""
    return {name: SYMBOLS[place % len(SYMBOLS)] for place, name in enumerate(dict.fromkeys(names))}


def overview(data: ReportData, backbone: str, per_label: int) -> Figure:
    """A row for every strategy, a mark with its interval for every split, lines at chance and majority."""
    groups = data.groups_on(backbone, per_label)[::-1]
    series = []
    for split in data.splits:
        known = [(group.variant, stat) for group in groups if (stat := data.stat(group, split)) is not None]
        series.append(
            Series(
                split.replace("in_domain", "in domain"),
                [stat.mean for _, stat in known],
                [name for name, _ in known],
                colour=colours(data.splits)[split],
                symbol=symbols(data.splits)[split],
                intervals=[stat.interval for _, stat in known],
            )
        )
    majority, chance = data.references(groups, "in_domain") or (None, None)
    guides = {} if majority is None or chance is None else {"majority": majority, "chance": chance}
    return Figure(
        f"overview-{backbone}-{per_label}",
        f"In domain and out of domain, {per_label} examples per label",
        "Mean over distinct runs with its 95 % interval over seed x data_seed; best in domain at the top.",
        series,
        Axis(data.primary),
        Axis(words=True),
        height=150 + 34 * max(2, len(groups)),
        horizontal=True,
        guides={"chance, majority": guides["chance"]} if guides and majority == chance else guides,
        still=True,
    )


def scatter(data: ReportData, backbone: str) -> Figure | None:
    """In domain against the mean of the OOD sets, a mark for every strategy and number of examples."""
    groups = data.groups_on(backbone)
    series = []
    for variant in dict.fromkeys(group.variant for group in groups):
        both = [(g, data.stat(g, "in_domain"), data.ood_mean(g)) for g in groups if g.variant == variant]
        known = [(g, inside, ood) for g, inside, ood in both if inside is not None and ood is not None]
        if known:
            series.append(
                Series(
                    variant,
                    [inside.mean for _, inside, _ in known],
                    [ood.mean for _, _, ood in known],
                    "lines+markers",
                    colours(g.variant for g in groups)[variant],
                    symbols(g.variant for g in groups)[variant],
                    "dot",
                    hover=[f"{g.per_label} per label, {len(g.runs)} runs" for g, _, _ in known],
                )
            )
    if not series:
        return None
    return Figure(
        f"scatter-{backbone}",
        "In domain against out of domain",
        f"OOD is the mean of {', '.join(data.sets)}; on the dotted line nothing is lost.",
        series,
        Axis(f"in domain {data.primary}"),
        Axis(f"mean of OOD sets {data.primary}"),
        diagonal=True,
    )


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
    kinds: list[tuple[str, str, Callable[[RunGroup], Statistic | None]]] = [
        ("in domain", "solid", lambda group: data.stat(group, "in_domain")),
        ("OOD", "dash", data.ood_mean),
    ]
    series = []
    for variant in variants:
        for name, dash, stat_of in kinds[: 2 if data.sets else 1]:
            stats = [(x, s) for x, groups in points for g in groups if g.variant == variant and (s := stat_of(g))]
            if stats:
                series.append(
                    Series(
                        f"{variant}, {name}",
                        [x for x, _ in stats],
                        [stat.mean for _, stat in stats],
                        "lines+markers",
                        colours(variants)[variant],
                        symbols(variants)[variant],
                        dash,
                        [stat.interval for _, stat in stats] if intervals else (),
                    )
                )
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
        f"Slices of {split.replace('in_domain', 'in domain')}, {per_label} per label",
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
    steps = pareto(groups, key, lambda group: data.mean(group, "in_domain"))
    front = [(_above_zero(g.median(key)), data.mean(g, "in_domain")) for g in steps]
    series = [Series("front", [x for x, _ in front], [y for _, y in front], "lines", dash="dot", steps=True)]
    for g in groups:
        stat = data.stat(g, "in_domain")
        if stat is not None:
            looks = (colours(g.variant for g in groups)[g.variant], symbols(g.variant for g in groups)[g.variant])
            place = [_above_zero(g.median(key))], [stat.mean]
            series.append(Series(g.variant, *place, "markers", *looks, intervals=[stat.interval]))
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
        still=key == "resources/peak_memory_bytes",
    )


def _above_zero(cost: float) -> float:
    """A logarithmic axis has no zero: a strategy that trains nothing stands at 1."""
    return cost if cost > 0 else 1.0
