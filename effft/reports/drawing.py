"""Figures drawn: as plotly data for the page, and as a still SVG by matplotlib."""

import io
import logging
import warnings
from collections.abc import Sequence
from html import escape
from typing import Any

from effft.redaction import redact
from effft.reports.blocks import GREY, Axis, Figure, HeatMap, Series

MOST_NUMBERS = 26
"""Columns up to which a heat map has its numbers written in it."""
DIVERGING = [[0, "#b2182b"], [0.25, "#ef8a62"], [0.5, "#f7f7f7"], [0.75, "#67a9cf"], [1, "#2166ac"]]
"""Red below 0.5 and blue above it; people who see no red or no green can tell them apart (ColorBrewer's RdBu)."""
MARKERS = {
    "circle": "o", "square": "s", "diamond": "D", "triangle-up": "^", "cross": "P", "star": "*", "hexagon": "h",
    "triangle-down": "v", "x": "X", "pentagon": "p",
}  # fmt: skip
"""Plotly's name of a marker -> matplotlib's."""
DASHES = {"solid": "-", "dash": "--", "dot": ":"}

Plotly = dict[str, Any]


def plotly_figure(figure: Figure) -> Plotly:
    """`data` and `layout` as plotly takes them; all names are escaped, because plotly reads some HTML."""
    layout: Plotly = {"xaxis": _plotly_axis(figure.x), "yaxis": _plotly_axis(figure.y), "height": figure.height}
    if isinstance(figure.content, HeatMap):
        layout["xaxis"]["tickangle"] = -40
        layout["yaxis"]["autorange"] = "reversed"
        return {"data": [_plotly_heat_map(figure.content)], "layout": layout}
    shapes = [{"x0": x, "x1": x, "yref": "paper", "y0": 0, "y1": 1} for x in figure.guides.values()]
    if figure.diagonal:
        low, high = _ends(figure.content)
        shapes.append({"x0": low, "y0": low, "x1": high, "y1": high})
    dotted = {"type": "line", "line": {"dash": "dot", "width": 1, "color": GREY}}
    layout["shapes"] = [shape | dotted for shape in shapes]
    layout["annotations"] = [
        {"text": shown(name), "x": x, "yref": "paper", "y": 1, "yanchor": "bottom", "showarrow": False}
        | {"xanchor": "right" if place == 0 and len(figure.guides) > 1 else "left", "font": {"size": 11}}
        for place, (name, x) in enumerate(_guides(figure))
    ]
    if figure.horizontal:
        layout |= {
            "margin": {"t": 40, "b": 90, "r": 20, "l": 70},
            "legend": {"orientation": "h", "y": -58 / (figure.height - 130)},
        }
        layout["barmode"] = "group"
    return {"data": [_plotly_trace(series, figure.horizontal) for series in figure.content], "layout": layout}


def _plotly_axis(axis: Axis) -> Plotly:
    made: Plotly = {"title": {"text": shown(axis.title)}, "automargin": True}
    if axis.words:
        made["type"] = "category"
    if axis.log:
        made |= {"type": "log", "tickformat": "~s"}
    if axis.ticks:
        made |= {"tickvals": list(axis.ticks), "ticktext": [f"{tick:g}" for tick in axis.ticks]}
    return made


def _plotly_trace(series: Series, horizontal: bool) -> Plotly:
    x, y = ([shown(v) if isinstance(v, str) else v for v in values] for values in (series.x, series.y))
    value = "%{x:.3f}" if horizontal else "%{y:.3f}"
    trace: Plotly = {
        "x": x,
        "y": y,
        "name": shown(series.name),
        "showlegend": bool(series.name),
        "hovertemplate": f"%{{fullData.name}}: {value}<br>%{{text}}<extra></extra>",
        "text": [shown(text) for text in series.hover] or "",
    }
    if series.style == "bars":
        return trace | {"type": "bar", "orientation": "h" if horizontal else "v", "marker": {"color": series.colour}}
    trace |= {
        "type": "scatter",
        "mode": series.style,
        "marker": {"color": series.colour, "symbol": series.symbol, "size": 10},
    }
    trace["line"] = {"color": series.colour, "dash": series.dash, "shape": "hv" if series.steps else "linear"}
    if series.intervals:
        below, above = _distances(series, horizontal)
        bars = {"type": "data", "array": above, "arrayminus": below, "thickness": 1, "color": series.colour}
        trace["error_x" if horizontal else "error_y"] = bars
    return trace


def _plotly_heat_map(heat: HeatMap) -> Plotly:
    texts = [["" if value is None else f"{value:.2f}" for value in row] for row in heat.values]
    return {
        "type": "heatmap",
        "x": [shown(name) for name in heat.columns],
        "y": [shown(name) for name in heat.rows],
        "z": heat.values,
        "zmin": 0,
        "zmax": 1,
        "colorscale": DIVERGING,
        **({"text": texts, "texttemplate": "%{text}"} if len(heat.columns) <= MOST_NUMBERS else {}),
        "hovertemplate": "%{y} on %{x}: %{z:.3f}<extra></extra>",
        "colorbar": {"title": {"text": "accuracy"}},
    }


def shown(text: str) -> str:
    """Text from runs as HTML that shows it and nothing more, without secrets."""
    return escape(redact(text))


def still_figure(figure: Figure) -> str:
    """The figure as SVG: the same bytes for the same figure, its words as text."""
    import matplotlib.ticker
    from matplotlib.figure import Figure as Canvas

    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # fonts are the reader's, not ours
    assert not isinstance(figure.content, HeatMap), "heat maps are drawn on the page only"
    settings: Any = {"svg.hashsalt": "effft", "svg.fonttype": "none", "text.parse_math": False, "font.size": 9}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a glyph that matplotlib's own font lacks is drawn by the reader's font
        canvas = Canvas(figsize=(9, max(figure.height, 200) / 96), layout="constrained")
        axes = canvas.add_subplot()
        for series in figure.content:
            _draw(axes, series, figure.horizontal)
        for number, (name, value) in enumerate(_guides(figure)):
            side = "right" if number == 0 and len(figure.guides) > 1 else "left"
            axes.axvline(value, color=GREY, linestyle=":", linewidth=1)
            axes.annotate(name, (value, 1), xycoords=("data", "axes fraction"), ha=side, va="bottom", color=GREY)
        for axis, place, set_scale in (
            (figure.x, axes.xaxis, axes.set_xscale),
            (figure.y, axes.yaxis, axes.set_yscale),
        ):
            place.set_label_text(redact(axis.title))
            if axis.log:
                set_scale("log")
                place.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
                place.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))
                place.set_minor_formatter(matplotlib.ticker.NullFormatter())
            if axis.ticks:
                place.set_ticks(axis.ticks, labels=[f"{tick:g}" for tick in axis.ticks])
        axes.grid(color="#e2e2e2", linewidth=0.6)
        axes.set_axisbelow(True)
        canvas.legend(loc="outside right upper", frameon=False)
        out = io.StringIO()
        canvas.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Title": redact(figure.title)})
    return out.getvalue()


def _draw(axes: Any, series: Series, horizontal: bool) -> None:
    look: dict[str, Any] = {"color": series.colour, "label": redact(series.name) or "_"}
    look |= {"marker": MARKERS[series.symbol] if "markers" in series.style else "", "markersize": 6}
    look |= {"linestyle": DASHES[series.dash] if "lines" in series.style else ""}
    x, y = ([redact(v) if isinstance(v, str) else v for v in values] for values in (series.x, series.y))
    if series.intervals:
        bars = {"xerr" if horizontal else "yerr": _distances(series, horizontal)}
        axes.errorbar(x, y, elinewidth=1, **bars, **look)
    else:
        axes.plot(x, y, drawstyle="steps-post" if series.steps else "default", **look)


def _distances(series: Series, horizontal: bool) -> tuple[list[float], list[float]]:
    """How far every interval reaches below and above its value."""
    values = [float(value) for value in (series.x if horizontal else series.y)]
    pairs = list(zip(values, series.intervals, strict=True))
    return [value - low for value, (low, _) in pairs], [high - value for value, (_, high) in pairs]


def _guides(figure: Figure) -> list[tuple[str, float]]:
    """From the lowest; the name of the first of several stands at its left, so that two close ones can be read."""
    return sorted(figure.guides.items(), key=lambda guide: guide[1])


def _ends(content: Sequence[Series]) -> tuple[float, float]:
    values = [float(value) for series in content for value in (*series.x, *series.y)]
    return min(values), max(values)
