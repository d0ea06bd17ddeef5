"""Metrics over a number: examples per label, or a knob of the task. Solid in domain, dashed out of domain."""

from collections.abc import Callable, Sequence

from effft.reports.blocks import Figure
from effft.reports.data import ReportData
from effft.reports.figures import Trace, axis_title, error_bar, shown
from effft.reports.groups import RunGroup, Statistic
from effft.reports.style import colours, symbols
from effft.reports.svg import Line, curves

Points = Sequence[tuple[float, list[RunGroup]]]
"""(where on the axis, the cells there), ascending."""


def learning_curve(material: ReportData, backbone: str) -> Figure | None:
    """The metric over examples per label."""
    counts = material.per_labels(backbone)
    if len(counts) < 2:
        return None
    points = [(float(count), material.groups_on(backbone, count)) for count in counts]
    about = "Means over distinct runs; solid in domain, dashed the mean of the OOD sets. Click a name to hide it."
    made = line_figure(material, points, f"curve-{backbone}", "Learning curve", about, "examples per label")
    if made is not None:
        ticks = {"type": "log", "tickvals": counts, "ticktext": [str(c) for c in counts]}
        made.layout["xaxis"] |= ticks
    return made


def line_figure(
    material: ReportData, points: Points, key: str, title: str, about: str, axis: str, intervals: bool = False
) -> Figure | None:
    """The figure; its still picture is there where the intervals are."""
    lines = _lines(material, points)
    data: list[Trace] = []
    for line in lines:
        bars = {"error_y": _bars(line.stats)} if intervals else {}
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": f"{shown(line.variant)}, {line.where}",
                "legendgroup": shown(line.variant),
                "x": [x for x, _ in line.stats],
                "y": [stat.mean for _, stat in line.stats],
                "line": {"color": line.colour, "dash": "dash" if line.dashed else "solid"},
                "marker": {"symbol": line.symbol, "size": 8},
                "hovertemplate": "%{fullData.name}: %{y:.3f} at %{x}<extra></extra>",
                **bars,
            }
        )
    if not data:
        return None
    layout = {"xaxis": axis_title(axis), "yaxis": axis_title(material.primary), "height": 460}
    still = curves(lines, axis, material.primary) if intervals else ""
    return Figure(key, title, about, data, layout, still)


def _lines(material: ReportData, points: Points) -> list[Line]:
    variants = dict.fromkeys(cell.variant for _, cells in points for cell in cells)
    looks = colours(variants), symbols(variants)
    kinds: list[tuple[str, Callable[[RunGroup], Statistic | None]]] = [
        ("in domain", lambda c: material.stat(c, "in_domain")),
        ("OOD", material.ood_mean),
    ]
    found = []
    for variant in variants:
        for place, (name, stat_of) in enumerate(kinds[: 2 if material.sets else 1]):
            stats = [(x, s) for x, cells in points for c in cells if c.variant == variant and (s := stat_of(c))]
            if stats:
                found.append(Line(variant, name, bool(place), looks[0][variant], looks[1][variant], tuple(stats)))
    return found


def _bars(stats: Sequence[tuple[float, Statistic]]) -> Trace:
    made = [error_bar(stat) for _, stat in stats]
    up, down = ([bar[side][0] if bar else 0.0 for bar in made] for side in ("array", "arrayminus"))
    return {"type": "data", "array": up, "arrayminus": down, "thickness": 1}
