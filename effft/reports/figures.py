"""Which figures a report has: what each of them shows of the runs, in plotly's words."""

from collections.abc import Iterable, Sequence
from itertools import product

from effft.config import Amount
from effft.evaluation.metric_keys import slices_with
from effft.reports.advice import COSTS, MEMORY, pareto
from effft.reports.blocks import Figure, Plotly
from effft.reports.data import ReportData, metric_names, split_title
from effft.reports.groups import HOME, OOD_MEAN, RunGroup

GREY = "#888888"
PALETTE = (
    "#2f7ed8", "#e07b00", "#1a9a6c", "#c94f9b", "#8a63d2", "#b59a00", "#00a0b0", "#d2504b", "#7c8798", "#5f8f1f",
    "#a2673f", "#4d5bd1",
)  # fmt: skip
"""Readable on white and on black."""
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "hexagon", "triangle-down", "x", "pentagon")
DIVERGING = [[0, "#b2182b"], [0.25, "#ef8a62"], [0.5, "#f7f7f7"], [0.75, "#67a9cf"], [1, "#2166ac"]]
"""Red below 0.5 and blue above it; people who see no red or no green can tell them apart (ColorBrewer's RdBu)."""
DOTTED = {"type": "line", "line": {"dash": "dot", "width": 1, "color": GREY}}
MOST_SLICES = 80
MOST_NUMBERS = 26
"""Columns up to which a heat map has its numbers written in it."""
MOST_WITH_INTERVALS = 4
"""Strategies up to which a line chart shows intervals; with more they hide each other."""

Points = Sequence[tuple[float, list[RunGroup]]]
"""(place on the axis, the groups there), ascending."""


def look(name: str, names: Iterable[str]) -> Plotly:
    """The marker of a name by its place among all names, so that no figure depends on colour alone."""
    place = list(dict.fromkeys(names)).index(name)
    return {"color": PALETTE[place % len(PALETTE)], "symbol": SYMBOLS[place % len(SYMBOLS)], "size": 10}


def trace(
    name: str,
    x: Sequence[float | str],
    y: Sequence[float | str],
    mode: str,
    marker: Plotly,
    dash: str = "solid",
    shape: str = "linear",
    hover: Sequence[str] = (),
) -> Plotly:
    """Points as markers, lines, or both; a name of '' is not in the legend."""
    value = "%{x:.3f}" if y and isinstance(y[0], str) else "%{y:.3f}"
    return {
        "type": "scatter",
        "mode": mode,
        "name": name,
        "showlegend": bool(name),
        "x": x,
        "y": y,
        "marker": marker,
        "line": {"color": marker["color"], "dash": dash, "shape": shape},
        "text": hover or "",
        "hovertemplate": f"%{{fullData.name}}: {value}<br>%{{text}}<extra></extra>",
    }


def interval_bars(values: Sequence[float], intervals: Sequence[tuple[float, float]], marker: Plotly) -> Plotly:
    """What reaches from every value to the ends of its interval."""
    pairs = list(zip(values, intervals, strict=True))
    above, below = [high - value for value, (_, high) in pairs], [value - low for value, (low, _) in pairs]
    return {"type": "data", "array": above, "arrayminus": below, "thickness": 1, "color": marker["color"]}


def axis(title: str = "", **more: object) -> Plotly:
    """An axis; more: what else plotly shall know of it."""
    return {"title": {"text": title}, "automargin": True, **more}


def sideways(height: int) -> Plotly:
    """The layout of a figure with names on its left: numbers at the bottom, the legend below them."""
    return {
        "yaxis": axis(type="category"),
        "height": height,
        "margin": {"t": 40, "b": 90, "r": 20, "l": 70},
        "legend": {"orientation": "h", "y": -58 / (height - 130)},
    }


def overview(data: ReportData, backbone: str, amount: Amount) -> Figure:
    """A row for every strategy, a mark with its interval for every split, lines at chance and majority."""
    groups = data.groups_on(backbone, amount)[::-1]
    traces = []
    for split in data.splits:
        known = {group.variant: stat for group in groups if (stat := group.score(split))}
        means, marker = [stat.mean for stat in known.values()], look(split, data.splits)
        bars = interval_bars(means, [stat.interval for stat in known.values()], marker)
        traces.append(trace(split_title(split), means, list(known), "markers", marker) | {"error_x": bars})
    references = dict(zip(("majority", "chance"), data.references(groups, data.home) or (), strict=False))
    if references and references["majority"] == references["chance"]:
        references = {"chance, majority": references["chance"]}
    guides = sorted(references.items(), key=lambda guide: guide[1])
    sides = ["right", "left"] if len(guides) > 1 else ["left"]  # so that two close names can be read
    layout = sideways(150 + 34 * max(2, len(groups))) | {
        "xaxis": axis(data.primary),
        "shapes": [DOTTED | {"x0": x, "x1": x, "yref": "paper", "y0": 0, "y1": 1} for _, x in guides],
        "annotations": [
            {"text": name, "x": x, "xanchor": side, "yref": "paper", "y": 1, "yanchor": "bottom"}
            | {"showarrow": False, "font": {"size": 11}}
            for (name, x), side in zip(guides, sides, strict=False)
        ],
    }
    title = f"{data.home_title} and out of domain, {amount.examples}"
    about = "Mean over distinct runs with its 95 % interval over seed x data_seed; best in domain at the top."
    return Figure(f"overview-{backbone}-{amount.name}", title, about, traces, layout, still=True)


def scatter(data: ReportData, backbone: str) -> Figure | None:
    """In domain against the mean of the OOD sets, a mark for every strategy and number of examples."""
    groups, traces = data.groups_on(backbone), []
    variants = dict.fromkeys(group.variant for group in groups)
    for variant in variants:
        known = [g for g in groups if g.variant == variant and g.score(HOME) and g.score(OOD_MEAN)]
        if known:
            x, y = ([group.mean(split) for group in known] for split in (HOME, OOD_MEAN))
            hover = [f"{group.amount.phrase}, {len(group.runs)} runs" for group in known]
            traces.append(trace(variant, x, y, "lines+markers", look(variant, variants), "dot", hover=hover))
    if not traces:
        return None
    values = [value for drawn in traces for value in (*drawn["x"], *drawn["y"])]
    low, high = min(values), max(values)
    layout = {
        "xaxis": axis(f"{split_title(data.home)} {data.primary}"),
        "yaxis": axis(f"mean of OOD sets {data.primary}"),
        "shapes": [DOTTED | {"x0": low, "y0": low, "x1": high, "y1": high}],
    }
    about = f"OOD is the mean of {', '.join(data.sets)}; on the dotted line nothing is lost."
    return Figure(f"scatter-{backbone}", f"{data.home_title} against out of domain", about, traces, layout)


def learning_curve(data: ReportData, backbone: str) -> Figure | None:
    """The metric over examples per label, or over rows where no run has as many of each label."""
    amounts = data.amounts(backbone)
    drawn = {float(amount.per_label): amount for amount in amounts if amount.per_label}
    title = "examples per label" if drawn else "rows"
    drawn = drawn or {amount.rows: amount for amount in amounts if amount.rows < float("inf")}
    if len(drawn) < 2:
        return None
    points = [(count, data.groups_on(backbone, amount)) for count, amount in drawn.items()]
    ticks = {"type": "log", "tickvals": list(drawn), "ticktext": [f"{count:.0f}" for count in drawn]}
    x = axis(title, **ticks)
    return line_chart(data, points, f"curve-{backbone}", "Learning curve", "Click a name to hide it.", x, False)


def line_chart(
    data: ReportData, points: Points, key: str, title: str, about: str, x: Plotly, intervals: bool
) -> Figure | None:
    """The metric over a number, solid in domain and dashed for the mean of the OOD sets."""
    variants = dict.fromkeys(group.variant for _, groups in points for group in groups)
    kinds = ((split_title(data.home), "solid", data.home), ("OOD", "dash", OOD_MEAN))
    traces = []
    for variant, (name, dash, split) in product(variants, kinds):
        drawn = [(place, group) for place, groups in points for group in groups if group.variant == variant]
        stats = {place: stat for place, group in drawn if (stat := group.score(split))}
        if stats:
            means, marker = [stat.mean for stat in stats.values()], look(variant, variants)
            line = trace(f"{variant}, {name}", list(stats), means, "lines+markers", marker, dash)
            if intervals:
                line["error_y"] = interval_bars(means, [stat.interval for stat in stats.values()], marker)
            traces.append(line)
    words = f"Means over distinct runs; solid in domain, dashed the mean of the OOD sets. {about}".strip()
    layout = {"xaxis": x, "yaxis": axis(data.primary)}
    return Figure(key, title, words, traces, layout, still=intervals) if traces else None


def slices(data: ReportData, backbone: str, amount: Amount, split: str) -> Figure | None:
    """Accuracy on every slice of a split, strategies as rows, as a heat map."""
    groups = data.groups_on(backbone, amount)
    keys = slices_with(metric_names(data.frame), split, "accuracy")
    stats = {parts.slice_label: [group.stat(key) for group in groups] for key, parts in keys.items()}
    stats = {label: found for label, found in stats.items() if any(found)}
    if not stats:
        return None
    labels = list(stats)[:MOST_SLICES]
    values = [[stat.mean if (stat := stats[name][row]) else None for name in labels] for row in range(len(groups))]
    heat_map: Plotly = {
        "type": "heatmap",
        "x": labels,
        "y": [group.variant for group in groups],
        "z": values,
        "zmin": 0,
        "zmax": 1,
        "colorscale": DIVERGING,
        "colorbar": {"title": {"text": "accuracy"}},
        "hovertemplate": "%{y} on %{x}: %{z:.3f}<extra></extra>",
    }
    if len(labels) <= MOST_NUMBERS:
        numbers = [["" if value is None else f"{value:.2f}" for value in row] for row in values]
        heat_map |= {"text": numbers, "texttemplate": "%{text}"}
    layout = {
        "xaxis": axis(type="category", tickangle=-40),
        "yaxis": axis(type="category", autorange="reversed"),
        "height": 220 + 26 * len(groups),
    }
    title = f"Slices of {split_title(split)}, {amount.phrase}"
    more = f" The first {MOST_SLICES} of {len(stats)} slices." if len(stats) > MOST_SLICES else ""
    about = f"Accuracy, mean over distinct runs; below 0.5 red, above it blue.{more}"
    return Figure(f"slices-{backbone}-{split}", title, about, [heat_map], layout)


def costs(data: ReportData, backbone: str, amount: Amount, key: str) -> Figure | None:
    """The metric against one cost, with the front of the strategies that no other beats in both."""
    groups = [g for g in data.groups_on(backbone, amount) if g.median(key) == g.median(key)]  # NaN: not measured
    if not groups:
        return None

    def cost(group: RunGroup) -> float:
        return group.median(key) if group.median(key) > 0 else 1.0  # a logarithmic axis has no zero

    front = pareto(groups, key)
    steps = [cost(group) for group in front], [group.mean() for group in front]
    traces = [trace("front", *steps, "lines", {"color": GREY}, "dot", "hv")]
    names = [group.variant for group in groups]
    for group in groups:
        if stat := group.score(HOME):
            marker = look(group.variant, names)
            bars = interval_bars([stat.mean], [stat.interval], marker)
            traces.append(trace(group.variant, [cost(group)], [stat.mean], "markers", marker) | {"error_y": bars})
    about = "Up and to the left is better; a strategy below the dotted front is beaten in both by another."
    if any(group.median(key) <= 0 for group in groups):
        about += " A strategy that trains nothing stands at the left edge, because the scale is logarithmic."
    layout = {
        "xaxis": axis(COSTS[key], type="log", tickformat="~s"),
        "yaxis": axis(f"{split_title(data.home)} {data.primary}"),
    }
    title = f"{data.home_title} against {COSTS[key]}, {amount.phrase}"
    return Figure(f"cost-{backbone}-{key.rpartition('/')[2]}", title, about, traces, layout, still=key == MEMORY)
