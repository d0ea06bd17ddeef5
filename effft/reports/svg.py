"""Still pictures without any library: what Markdown shows, and what the README keeps."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

from effft.reports.advice import size
from effft.reports.data import ReportData
from effft.reports.groups import RunGroup, Statistic
from effft.reports.style import colours

WIDTH, LEFT, RIGHT, TOP, ROW = 860, 230, 30, 56, 30
STYLE = (
    "<style>text{font:13px system-ui,sans-serif;fill:#222}.q{fill:#777;font-size:12px}.bg{fill:#fff}"
    ".g{stroke:#e2e2e2}.r{stroke:#999;stroke-dasharray:3 3}</style>"
)


def _frame(height: float, about: str, body: Iterable[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
        f'height="{height:.0f}" role="img" aria-label="{escape(about)}">{STYLE}'
        f'<rect class="bg" width="100%" height="100%"/>{"".join(body)}</svg>\n'
    )


def _text(x: float, y: float, words: str, anchor: str = "start", kind: str = "") -> str:
    look = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{look}>{escape(words)}</text>'


def _rungs(scale: Sequence[float], y: Callable[[float], float], left: float, right: float) -> list[str]:
    """A grid line with its number for every tick of the vertical axis."""
    return [
        mark
        for tick in scale
        for mark in (
            f'<path class="g" d="M{left} {y(tick):.1f}H{right}"/>',
            _text(left - 8, y(tick) + 4, f"{tick:g}", "end", "q"),
        )
    ]


def _mark(x: float, y: float, colour: str, kind: int) -> str:
    """Circle, square, diamond, triangle: shape tells the split as colour does."""
    if kind == 0:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>'
    turn = f' transform="rotate(45 {x:.1f} {y:.1f})"' if kind == 2 else ""
    if kind == 3:
        return f'<path d="M{x:.1f} {y - 6:.1f}l6 11h-12z" fill="{colour}"/>'
    return f'<rect x="{x - 4.5:.1f}" y="{y - 4.5:.1f}" width="9" height="9" fill="{colour}"{turn}/>'


def ticks(low: float, high: float) -> list[float]:
    """Round numbers from below `low` to above `high`; around a single number, a tenth on each side."""
    if high - low < 1e-6:
        low, high = low - 0.1, high + 0.1
    step = 10 ** math.floor(math.log10(high - low))
    step = next(s for s in (step / 5, step / 2, step, 2 * step) if (high - low) / s <= 7)
    first = math.floor(low / step)
    return [round((first + i) * step, 10) for i in range(math.ceil(high / step) - first + 1)]


def dots(material: ReportData, cells: list[RunGroup], lines: dict[str, float], marks: list[tuple[str, str]]) -> str:
    """A row a strategy (the last one on top), a mark with its interval a split."""
    known = [(c, [material.stat(c, split) for split in material.splits]) for c in cells[::-1]]
    ends = [b for _, stats in known for s in stats if s for b in (s.mean, s.low, s.high) if b is not None]
    if not ends:
        return ""
    scale = ticks(min([*ends, *lines.values()]), max([*ends, *lines.values()]))
    height = TOP + ROW * len(known) + 40
    bottom = TOP + ROW * len(known)

    def x(value: float) -> float:
        return LEFT + (value - scale[0]) / (scale[-1] - scale[0]) * (WIDTH - LEFT - RIGHT)

    body = []
    for tick in scale:
        body.append(f'<path class="g" d="M{x(tick):.1f} {TOP - 8}V{bottom}"/>')
        body.append(_text(x(tick), bottom + 18, f"{tick:g}", "middle", "q"))
    for name, value in lines.items():
        body.append(f'<path class="r" d="M{x(value):.1f} {TOP - 8}V{bottom}"/>')
        body.append(_text(x(value), TOP - 14, name, "middle", "q"))
    place = 12.0
    for kind, split in enumerate(material.splits):
        words = f"{split.replace('in_domain', 'in domain')} {material.primary}"
        body += [_mark(place, 18, marks[kind][0], kind % 4), _text(place + 12, 22, words)]
        place += 30 + 7.4 * len(words)
    spread = min(6.0, 18 / len(material.splits))
    for row, (cell, stats) in enumerate(known):
        y = TOP + ROW * (row + 0.5)
        body.append(_text(LEFT - 12, y + 4, cell.variant[:34], "end"))
        for kind, stat in enumerate(stats):
            if stat is None:
                continue
            at, colour = y + (kind - (len(stats) - 1) / 2) * spread, marks[kind][0]
            if stat.low is not None and stat.high is not None:
                body.append(
                    f'<path d="M{x(stat.low):.1f} {at:.1f}H{x(stat.high):.1f}" stroke="{colour}" stroke-width="2"/>'
                )
            body.append(_mark(x(stat.mean), at, colour, kind % 4))
    return _frame(height, f"{material.primary} of every strategy with 95 % intervals", body)


def plane(material: ReportData, cells: list[RunGroup], steps: list[RunGroup], key: str) -> str:
    """In domain against peak memory, logarithmic, names beside the marks, the front dotted."""
    looks = colours(c.variant for c in cells)
    costs = {id(c): max(c.median(key), 1.0) for c in cells}
    gains = {id(c): material.mean(c, "in_domain") for c in cells}
    low, high = math.log10(min(costs.values()) * 0.8), math.log10(max(costs.values()) * 1.6)
    scale = ticks(min(gains.values()), max(gains.values()))
    height, bottom, left = 420, 360, 70

    def x(value: float) -> float:
        return left + (math.log10(value) - low) / (high - low) * (WIDTH - left - 150)

    def y(value: float) -> float:
        return bottom - (value - scale[0]) / (scale[-1] - scale[0]) * (bottom - 40)

    body = [_text(12, 22, f"in domain {material.primary} against peak memory above the start")]
    body += _rungs(scale, y, left, WIDTH - 20)
    for power in range(math.ceil(low), math.floor(high) + 1):
        for digit in (1, 2, 5):
            value = digit * 10.0**power
            if low <= math.log10(value) <= high:
                body.append(_text(x(value), bottom + 20, size(value), "middle", "q"))
    points = [(x(costs[id(c)]), y(gains[id(c)])) for c in steps]
    path = "".join(
        f"{'M' if not i else 'H'}{px:.1f}{f' {py:.1f}' if not i else f'V{py:.1f}'}" for i, (px, py) in enumerate(points)
    )
    body.append(f'<path class="r" fill="none" d="{path}"/>' if path else "")
    taken: list[tuple[float, float]] = []
    for cell in sorted(cells, key=lambda c: -gains[id(c)]):
        px, py = x(costs[id(cell)]), y(gains[id(cell)])
        at = py + 4
        while any(abs(at - ty) < 14 and abs(px - tx) < 150 for tx, ty in taken):
            at += 14
        taken.append((px, at))
        body += [_mark(px, py, looks[cell.variant], 0), _text(px + 10, at, cell.variant[:34])]
    return _frame(height, f"in domain {material.primary} against peak memory", body)


@dataclass(frozen=True)
class Line:
    """One line of a figure over a number. where: 'in domain' or 'OOD'; stats: (x, mean with its interval)."""

    variant: str
    where: str
    dashed: bool
    colour: str
    symbol: str
    stats: tuple[tuple[float, Statistic], ...]


def curves(lines: Sequence[Line], axis: str, metric: str) -> str:
    """Lines with intervals, and their names at the right in the order of their ends."""
    ends = [b for line in lines for _, s in line.stats for b in (s.mean, s.low, s.high) if b is not None]
    places = sorted({x for line in lines for x, _ in line.stats})
    scale = ticks(min(ends), max(ends))
    height, bottom, left, right = 420, 350, 60, WIDTH - 230

    def x(value: float) -> float:
        return left + 12 + (value - places[0]) / (places[-1] - places[0] or 1) * (right - left - 24)

    def y(value: float) -> float:
        return bottom - (value - scale[0]) / (scale[-1] - scale[0]) * (bottom - 40)

    body = [_text(12, 22, f"{metric} against {axis}")]
    body += _rungs(scale, y, left, right)
    body += [_text(x(place), bottom + 20, f"{place:g}", "middle", "q") for place in places]
    body.append(_text((left + right) / 2, bottom + 44, axis, "middle"))
    spread, at = 3.0, -math.inf
    for number, line in enumerate(sorted(lines, key=lambda one: y(one.stats[-1][1].mean))):
        shift = (number - (len(lines) - 1) / 2) * spread
        points = [(x(place) + shift, y(stat.mean), stat) for place, stat in line.stats]
        dash = ' stroke-dasharray="6 4"' if line.dashed else ""
        path = "L".join(f"{px:.1f} {py:.1f}" for px, py, _ in points)
        body.append(f'<path d="M{path}" fill="none" stroke="{line.colour}" stroke-width="2"{dash}/>')
        for px, py, stat in points:
            if stat.low is not None and stat.high is not None:
                body.append(f'<path d="M{px:.1f} {y(stat.low):.1f}V{y(stat.high):.1f}" stroke="{line.colour}"/>')
            body.append(_mark(px, py, line.colour, int(line.dashed)))
        at = max(points[-1][1] + 4, at + 16)
        body.append(_text(right + 12, at, f"{line.variant[:24]}, {line.where}"))
    return _frame(height, f"{metric} against {axis}", body)
