"""What a report is made of before it is HTML or Markdown: sections of text, tables and figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from effft.redaction import redact

Plotly = dict[str, Any]
"""A trace, an axis or a layout, as plotly names their parts; texts in it are as they are."""


@dataclass(frozen=True)
class Table:
    """Rows of text. left: numbers of the columns that hold words; quiet: numbers of the rows that are references."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    left: tuple[int, ...] = (0,)
    quiet: Sequence[int] = ()


@dataclass(frozen=True)
class Figure:
    """A figure, described once for the page and for a still picture.

    Args:
        key: A name of its own in the report.
        title: Its heading.
        about: What it shows, for readers who do not see it too.
        traces: Plotly's `data`.
        layout: Plotly's `layout`.
        still: Whether it is also written as an SVG file, which the Markdown report shows.
    """

    key: str
    title: str
    about: str
    traces: Sequence[Plotly]
    layout: Plotly
    still: bool = False

    @property
    def file_name(self) -> str:
        """The file of its still picture."""
        return f"{anchor(self.key)}.svg"


Block = str | list[str] | Table | Figure
"""A paragraph, the points of a list, a table or a figure."""


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    key: str
    title: str
    blocks: Sequence[Block]


def anchor(key: str) -> str:
    """A key without anything that a path or a link could trip over."""
    return "".join(c if c.isalnum() or c in "-." else "-" for c in redact(key))
