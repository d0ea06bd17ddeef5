"""The still figures of the Markdown report and of the README, as SVG files drawn by matplotlib."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from effft.config import Amount
from effft.redaction import redact
from effft.reports.advice import pareto
from effft.reports.blocks import Chart, anchor
from effft.reports.colors import MARKS, colour, mark
from effft.reports.data import ReportData, split_title
from effft.reports.groups import MEMORY

GUIDE = "#888888"


class Still:
    """One figure: `axes` to draw on, then `svg` (the same bytes for the same figure, its words as text)."""

    def __init__(self, title: str, height: float) -> None:
        from matplotlib.figure import Figure

        self.title = title
        self.canvas = Figure(figsize=(9, height), layout="constrained")
        self.axes: Any = self.canvas.add_subplot()
        self.axes.grid(color="#e2e2e2", linewidth=0.6)
        self.axes.set_axisbelow(True)

    def point(self, x: float, y: float, strategy: str, variant: str, label: str = "_", **more: Any) -> None:
        """A mark with its interval (xerr or yerr: the two ends)."""
        value = {"xerr": x, "yerr": y}
        bars = {name: [[value[name] - low], [high - value[name]]] for name, (low, high) in more.items()}
        look: Any = {"color": colour(strategy)[0], "marker": MARKS[mark(variant)], "label": redact(label)}
        self.axes.errorbar([x], [y], linestyle="", elinewidth=1, markersize=6, **bars, **look)

    def svg(self) -> str:
        """The file."""
        out = io.StringIO()
        metadata = {"Date": None, "Creator": None, "Title": redact(self.title)}
        self.canvas.savefig(out, format="svg", metadata=metadata)
        return out.getvalue()


@contextmanager
def _settings() -> Iterator[None]:
    import matplotlib

    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # fonts are the reader's, not ours
    settings: Any = {"svg.hashsalt": "effft", "svg.fonttype": "none", "text.parse_math": False, "font.size": 9}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a glyph that matplotlib's own font lacks is drawn by the reader's font
        yield


def stills(data: ReportData, backbone: str, amount: Amount) -> dict[str, str]:
    """File name -> SVG of a backbone: scores on every split, and scores against memory."""
    with _settings():
        made = {f"overview-{backbone}-{amount.name}": _overview(data, backbone, amount)}
        if any(group.median(MEMORY) == group.median(MEMORY) for group in data.groups_on(backbone, amount)):
            made[f"cost-{backbone}-peak-memory-mb"] = _memory(data, backbone, amount)
    return {f"{anchor(name)}.svg": svg for name, svg in made.items()}


def _overview(data: ReportData, backbone: str, amount: Amount) -> str:
    """A panel for every split, a row for every strategy; runs as dots, means with their intervals."""
    groups = data.groups_on(backbone, amount)[::-1]
    still = Still(f"{data.home_title} and out of domain, {amount.examples}", 1.2 + 0.34 * max(2, len(groups)))
    still.canvas.delaxes(still.axes)
    panels = still.canvas.subplots(1, len(data.splits), sharex=True, sharey=True, squeeze=False)[0]
    for split, axes in zip(data.splits, panels, strict=True):
        still.axes = axes
        axes.grid(color="#e2e2e2", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_title(redact(split_title(split)), fontsize=9, loc="left")
        axes.set_xlabel(data.primary)
        for name, x in zip(("majority", "chance"), data.references(groups, split) or (), strict=False):
            axes.axvline(x, color=GUIDE, linestyle=":" if name == "chance" else "--", linewidth=1)
        for place, group in enumerate(groups):
            runs = group.values(f"score/{split}")
            axes.plot(runs, [place - 0.25] * len(runs), "o", color=colour(group.strategy)[0], markersize=3, alpha=0.4)
            if stat := group.score(split):
                still.point(stat.mean, place, group.strategy, group.variant, xerr=stat.interval)
        axes.set_yticks(range(len(groups)), [redact(group.variant) for group in groups])
    return still.svg()


def _memory(data: ReportData, backbone: str, amount: Amount) -> str:
    groups = [g for g in data.groups_on(backbone, amount) if g.median(MEMORY) == g.median(MEMORY)]
    still = Still(f"{data.home_title} against peak memory (MB), {amount.phrase}", 4.4)
    steps = pareto(groups, MEMORY)
    x, y = [group.median(MEMORY) for group in steps], [group.mean() for group in steps]
    still.axes.plot(x, y, color=GUIDE, linestyle="--", drawstyle="steps-post", label="front")
    for group in groups:
        if stat := group.score(data.home):
            at = group.median(MEMORY), stat.mean
            still.point(*at, group.strategy, group.variant, group.variant, yerr=stat.interval)
    _log(still.axes.xaxis, still.axes.set_xscale)
    still.axes.set_xlabel("peak memory (MB), logarithmic")
    still.axes.set_ylabel(f"{split_title(data.home)} {data.primary}")
    still.canvas.legend(loc="outside right upper", frameon=False)
    return still.svg()


def still_lines(chart: Chart) -> str:
    """The lines of a chart, such as those over a difficulty."""
    data: Any = chart.data
    with _settings():
        still = Still(chart.title, 4.4)
        for line in data["lines"]:
            shown: Any = {"color": line["look"][0], "linestyle": "--" if line["dashed"] else "-"}
            x, y = ([point[place] for point in line["points"]] for place in (0, 1))
            label = f"{line['name']}, {'OOD' if line['dashed'] else 'in domain'}"
            still.axes.plot(x, y, marker=MARKS[line["look"][2]], label=redact(label), **shown)
        still.axes.set_xlabel(redact(data["x"]))
        still.axes.set_ylabel(data["y"])
        still.canvas.legend(loc="outside right upper", frameon=False)
        return still.svg()


def _log(axis: Any, set_scale: Any) -> None:
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    set_scale("log")
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high > 30 * low else (1, 1.5, 2, 3, 5, 7)))
    axis.set_major_formatter(EngFormatter(sep=""))
    axis.set_minor_formatter(NullFormatter())
