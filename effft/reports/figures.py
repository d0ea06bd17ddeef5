"""The figures as plain plotly data, one function a figure."""

from html import escape
from typing import Any

from effft.evaluation.metric_keys import slices_with
from effft.reports.advice import COSTS, pareto
from effft.reports.blocks import Figure
from effft.reports.collect import metric_names
from effft.reports.data import ReportData
from effft.reports.groups import RunGroup, Statistic
from effft.reports.style import colours, symbols
from effft.reports.svg import dots, plane

Trace = dict[str, Any]
MOST_SLICES = 80
MOST_WITH_NUMBERS = 26
"""Columns up to which a heat map has its numbers in it."""
DIVERGING = [[0, "#b2182b"], [0.25, "#ef8a62"], [0.5, "#f7f7f7"], [0.75, "#67a9cf"], [1, "#2166ac"]]
"""Red below 0.5, blue above, told apart by people who see no red or no green (ColorBrewer's RdBu)."""


def shown(name: str) -> str:
    """A name as plotly shows it and nothing more: it reads some HTML in texts."""
    return escape(name, quote=False)


def error_bar(stat: Statistic) -> Trace:
    """The interval of one mean as plotly takes it; {} where there is none."""
    if stat.low is None or stat.high is None:
        return {}
    return {"type": "data", "array": [stat.high - stat.mean], "arrayminus": [stat.mean - stat.low], "thickness": 1}


def axis_title(text: str) -> Trace:
    """An axis with a name."""
    return {"title": {"text": shown(text)}}


def overview(material: ReportData, backbone: str, per_label: int) -> Figure:
    """A row a strategy, a dot with its interval a split; lines at chance and majority."""
    cells = material.groups_on(backbone, per_label)[::-1]
    data: list[Trace] = []
    for split, (colour, mark) in zip(material.splits, _marks(material), strict=True):
        rows = [(cell, stat) for cell in cells if (stat := material.stat(cell, split)) is not None]
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": shown(split.replace("in_domain", "in domain")),
                "x": [stat.mean for _, stat in rows],
                "y": [shown(cell.variant) for cell, _ in rows],
                "marker": {"color": colour, "symbol": mark, "size": 10},
                "error_x": {
                    "type": "data",
                    "array": [(stat.high or stat.mean) - stat.mean for _, stat in rows],
                    "arrayminus": [stat.mean - (stat.mean if stat.low is None else stat.low) for _, stat in rows],
                    "thickness": 1,
                    "color": colour,
                },
                "hovertemplate": "%{y}: %{x:.3f}<extra>%{fullData.name}</extra>",
            }
        )
    lines, plot = _reference_lines(material, cells), 20 + 34 * max(2, len(cells))
    layout = {
        "xaxis": axis_title(material.primary),
        "yaxis": {"automargin": True, "type": "category"},
        "shapes": [_line(x) for x in lines.values()],
        "annotations": [
            _label(name, x, "right" if place < len(lines) - 1 else "left")
            for place, (name, x) in enumerate(sorted(lines.items(), key=lambda line: line[1]))
        ],
        "height": 130 + plot,
        "margin": {"t": 40, "b": 90, "r": 20, "l": 70},
        "legend": {"orientation": "h", "y": -58 / plot},
    }
    title = f"In domain and out of domain, {per_label} examples per label"
    about = "Mean over distinct runs with its 95 % interval over seed x data_seed; best in domain at the top."
    return Figure(
        f"overview-{backbone}-{per_label}", title, about, data, layout, dots(material, cells, lines, _marks(material))
    )


def _marks(material: ReportData) -> list[tuple[str, str]]:
    names = colours(material.splits), symbols(material.splits)
    return [(names[0][split], names[1][split]) for split in material.splits]


def _reference_lines(material: ReportData, cells: list[RunGroup]) -> dict[str, float]:
    """In domain; equal ones are one line."""
    known = material.references(cells, "in_domain")
    if known is None:
        return {}
    majority, chance = known
    return {"chance, majority": chance} if majority == chance else {"chance": chance, "majority": majority}


def _line(x: float) -> Trace:
    return {
        "type": "line", "x0": x, "x1": x, "yref": "paper", "y0": 0, "y1": 1,
        "line": {"dash": "dot", "width": 1, "color": "#888"},
    }  # fmt: skip


def _label(name: str, x: float, side: str) -> Trace:
    return {
        "text": name, "x": x, "yref": "paper", "y": 1.0, "xanchor": side, "yanchor": "bottom", "showarrow": False,
        "font": {"size": 11},
    }  # fmt: skip


def scatter(material: ReportData, backbone: str) -> Figure | None:
    """In domain against the mean of the OOD sets, a mark a strategy and number of examples."""
    cells = material.groups_on(backbone)
    looks = colours(c.variant for c in cells), symbols(c.variant for c in cells)
    data: list[Trace] = []
    for variant in dict.fromkeys(cell.variant for cell in cells):
        points = [(c, material.stat(c, "in_domain"), material.ood_mean(c)) for c in cells if c.variant == variant]
        known = [(c, inside, away) for c, inside, away in points if inside is not None and away is not None]
        if known:
            data.append(
                {
                    "type": "scatter",
                    "mode": "markers+lines" if len(known) > 1 else "markers",
                    "name": shown(variant),
                    "x": [inside.mean for _, inside, _ in known],
                    "y": [away.mean for _, _, away in known],
                    "text": [f"{c.per_label} per label, {len(c.runs)} runs" for c, _, _ in known],
                    "marker": {"color": looks[0][variant], "symbol": looks[1][variant], "size": 11},
                    "line": {"width": 1, "dash": "dot"},
                    "hovertemplate": "%{fullData.name}, %{text}<br>in domain %{x:.3f}, OOD %{y:.3f}<extra></extra>",
                }
            )
    if not data:
        return None
    ends = [min(min(t["x"] + t["y"]) for t in data), max(max(t["x"] + t["y"]) for t in data)]
    same = {"type": "line", "x0": ends[0], "y0": ends[0], "x1": ends[1], "y1": ends[1]}
    layout = {
        "xaxis": axis_title(f"in domain {material.primary}"),
        "yaxis": axis_title(f"mean of OOD sets {material.primary}"),
        "shapes": [same | {"line": {"dash": "dot", "width": 1, "color": "#888"}}],
        "height": 460,
    }
    return Figure(
        f"scatter-{backbone}",
        "In domain against out of domain",
        f"OOD is the mean of {', '.join(material.sets)}; on the dotted line nothing is lost.",
        data,
        layout,
    )


def slices(material: ReportData, backbone: str, per_label: int, split: str) -> Figure | None:
    """Accuracy on every slice of a split, strategies as rows, as a heat map."""
    frame = material.frame
    known = slices_with(metric_names(frame), split, "accuracy")
    cells = material.groups_on(backbone, per_label)
    found = {parts.slice_label: [c.stat(key) for c in cells] for key, parts in known.items()}
    found = {name: stats for name, stats in found.items() if any(stats)}
    if not found or not cells:
        return None
    kept = list(found)[:MOST_SLICES]
    values = [[stat.mean if (stat := found[name][row]) else None for name in kept] for row in range(len(cells))]
    legible = len(kept) <= MOST_WITH_NUMBERS
    data: list[Trace] = [
        {
            "type": "heatmap",
            "x": [shown(name) for name in kept],
            "y": [shown(cell.variant) for cell in cells],
            "z": values,
            "zmin": 0,
            "zmax": 1,
            "colorscale": DIVERGING,
            "text": [["" if v is None else f"{v:.2f}" for v in row] for row in values] if legible else [],
            "texttemplate": "%{text}" if legible else "",
            "hovertemplate": "%{y} on %{x}: %{z:.3f}<extra></extra>",
            "colorbar": {"title": {"text": "accuracy"}},
        }
    ]
    layout = {
        "xaxis": {"automargin": True, "tickangle": -40, "type": "category"},
        "yaxis": {"automargin": True, "autorange": "reversed", "type": "category"},
        "height": 220 + 26 * len(cells),
    }
    more = f" The first {MOST_SLICES} of {len(found)} slices." if len(found) > MOST_SLICES else ""
    title = f"Slices of {split.replace('in_domain', 'in domain')}, {per_label} per label"
    about = f"Accuracy, mean over distinct runs; below 0.5 red, above it blue.{more}"
    return Figure(f"slices-{backbone}-{split.replace('/', '-')}", title, about, data, layout)


def costs(material: ReportData, backbone: str, per_label: int, key: str) -> Figure | None:
    """The metric against one cost, with the front that no strategy beats in both."""
    cells = [c for c in material.groups_on(backbone, per_label) if c.median(key) == c.median(key)]
    if not cells:
        return None
    looks = colours(c.variant for c in cells), symbols(c.variant for c in cells)
    steps = pareto(cells, key, lambda cell: material.mean(cell, "in_domain"))
    data: list[Trace] = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": shown(cell.variant),
            "x": [_positive(cell.median(key))],
            "y": [material.mean(cell, "in_domain")],
            "error_y": error_bar(stat) if (stat := material.stat(cell, "in_domain")) else {},
            "marker": {"color": looks[0][cell.variant], "symbol": looks[1][cell.variant], "size": 11},
            "hovertemplate": "%{fullData.name}: %{y:.3f} at %{x:.4s}<extra></extra>",
        }
        for cell in cells
    ]
    line = {
        "type": "scatter",
        "mode": "lines",
        "name": "front",
        "x": [_positive(cell.median(key)) for cell in steps],
        "y": [material.mean(cell, "in_domain") for cell in steps],
        "line": {"shape": "hv", "dash": "dot", "color": "#888"},
        "hoverinfo": "skip",
    }
    layout = {
        "xaxis": axis_title(COSTS[key]) | {"type": "log", "tickformat": "~s"},
        "yaxis": axis_title(f"in domain {material.primary}"),
        "height": 440,
    }
    title = f"In domain against {COSTS[key]}, {per_label} per label"
    about = "Up and to the left is better; a strategy below the dotted front is beaten in both by another."
    if any(cell.median(key) <= 0 for cell in cells):
        about += " Nothing stands at the left edge (the scale is logarithmic)."
    name = key.rpartition("/")[2]
    picture = plane(material, cells, steps, key) if key == "resources/peak_memory_bytes" else ""
    return Figure(f"cost-{backbone}-{name}", title, about, [line, *data], layout, picture)


def _positive(value: float) -> float:
    """A logarithmic axis has no zero: strategies that train nothing stand at 1 (parameters) or 10 ms."""
    return value if value > 0 else 1.0
