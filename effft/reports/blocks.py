"""What a report is made of before it is HTML or Markdown: sections of text, tables and figures."""

from collections.abc import Sequence
from dataclasses import dataclass, field

GREY = "#888888"


@dataclass(frozen=True)
class Table:
    """Rows of text. left: numbers of the columns that hold words; quiet: numbers of the rows that are references."""

    key: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    left: tuple[int, ...] = (0,)
    quiet: Sequence[int] = ()


@dataclass(frozen=True)
class Axis:
    """An axis of a figure. ticks: the only numbers that are written; words: names in place of numbers."""

    title: str = ""
    log: bool = False
    ticks: tuple[float, ...] = ()
    words: bool = False


@dataclass(frozen=True)
class Series:
    """Points of one look. style: 'markers', 'lines', 'lines+markers' or 'bars'; a name of '' is not in the legend.

    intervals: (low, high) of every value, along the axis of the values. steps: lines turn at right angles.
    """

    name: str
    x: Sequence[float | str]
    y: Sequence[float | str]
    style: str = "markers"
    colour: str = GREY
    symbol: str = "circle"
    dash: str = "solid"
    intervals: Sequence[tuple[float, float]] = ()
    hover: Sequence[str] = ()
    steps: bool = False


@dataclass(frozen=True)
class HeatMap:
    """Values from 0 to 1 for every row and column; None where there is none."""

    columns: Sequence[str]
    rows: Sequence[str]
    values: Sequence[Sequence[float | None]]


@dataclass(frozen=True)
class Figure:
    """A figure, described once for the page and for a still picture.

    Args:
        key: A name of its own in the report.
        title: Its heading.
        about: What it shows, for readers who do not see it too.
        horizontal: Values lie along x, names along y.
        guides: Dotted lines across the values, with their names.
        diagonal: Draw the line of equal values.
        still: Whether it is also written as an SVG file, which the Markdown report shows.
    """

    key: str
    title: str
    about: str
    content: Sequence[Series] | HeatMap
    x: Axis = Axis()
    y: Axis = Axis()
    height: int = 440
    horizontal: bool = False
    guides: dict[str, float] = field(default_factory=dict)
    diagonal: bool = False
    still: bool = False


Block = str | list[str] | Table | Figure
"""A paragraph, the points of a list, a table or a figure."""


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    key: str
    title: str
    blocks: Sequence[Block]
