"""A figure as a still SVG, drawn by matplotlib from what plotly draws on the page."""

import io
import logging
import warnings
from typing import Any

from effft.redaction import redact
from effft.reports.blocks import Figure, Plotly

MARKERS = {
    "circle": "o", "square": "s", "diamond": "D", "triangle-up": "^", "cross": "P", "star": "*", "hexagon": "h",
    "triangle-down": "v", "x": "X", "pentagon": "p",
}  # fmt: skip
"""Plotly's name of a marker -> matplotlib's."""
DASHES = {"solid": "-", "dash": "--", "dot": ":"}
GUIDE = "#888888"


def still_figure(figure: Figure) -> str:
    """The figure as SVG: the same bytes for the same figure, its words as text."""
    import matplotlib
    from matplotlib.figure import Figure as Canvas

    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # fonts are the reader's, not ours
    settings: Any = {"svg.hashsalt": "effft", "svg.fonttype": "none", "text.parse_math": False, "font.size": 9}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a glyph that matplotlib's own font lacks is drawn by the reader's font
        canvas = Canvas(figsize=(9, max(figure.layout.get("height", 440), 200) / 96), layout="constrained")
        axes = canvas.add_subplot()
        for trace in figure.traces:
            _draw_trace(axes, trace)
        for guide in figure.layout.get("annotations", ()):
            at: Any = {"xy": (guide["x"], 1), "xycoords": ("data", "axes fraction")}
            axes.annotate(guide["text"], **at, ha=guide["xanchor"], va="bottom", color=GUIDE)
            axes.axvline(guide["x"], color=GUIDE, linestyle=":", linewidth=1)
        _set_axis(axes.xaxis, figure.layout["xaxis"], axes.set_xscale)
        _set_axis(axes.yaxis, figure.layout["yaxis"], axes.set_yscale)
        axes.grid(color="#e2e2e2", linewidth=0.6)
        axes.set_axisbelow(True)
        canvas.legend(loc="outside right upper", frameon=False)
        out = io.StringIO()
        canvas.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Title": redact(figure.title)})
    return out.getvalue()


def _draw_trace(axes: Any, trace: Plotly) -> None:
    marker, line = trace["marker"], trace["line"]
    look = {
        "color": marker["color"],
        "label": redact(trace["name"]) or "_",
        "marker": MARKERS[marker["symbol"]] if "markers" in trace["mode"] else "",
        "markersize": 6,
        "linestyle": DASHES[line["dash"]] if "lines" in trace["mode"] else "",
    }
    x, y = ([redact(v) if isinstance(v, str) else v for v in trace[name]] for name in ("x", "y"))
    bars = {f"{name}err": trace[f"error_{name}"] for name in ("x", "y") if f"error_{name}" in trace}
    if bars:
        ends = {name: (bar["arrayminus"], bar["array"]) for name, bar in bars.items()}
        axes.errorbar(x, y, elinewidth=1, **ends, **look)
    else:
        axes.plot(x, y, drawstyle="steps-post" if line["shape"] == "hv" else "default", **look)


def _set_axis(place: Any, axis: Plotly, set_scale: Any) -> None:
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    place.set_label_text(redact(axis["title"]["text"]))
    if axis.get("type") == "log":
        set_scale("log")
        place.set_major_locator(LogLocator(subs=(1, 2, 5)))
        place.set_major_formatter(EngFormatter(sep=""))
        place.set_minor_formatter(NullFormatter())
    if "tickvals" in axis:
        place.set_ticks(axis["tickvals"], labels=axis["ticktext"])
