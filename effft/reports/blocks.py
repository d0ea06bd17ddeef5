"""What a report is made of, before it is HTML or Markdown: sections of sentences, tables and figures."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Text:
    """A paragraph, or a list of them."""

    lines: tuple[str, ...]
    bullets: bool = False


@dataclass(frozen=True)
class Table:
    """Cells as text. left: columns that hold words; quiet: rows that are references, by number."""

    key: str
    heads: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    left: tuple[int, ...] = (0,)
    quiet: tuple[int, ...] = ()


@dataclass(frozen=True)
class Figure:
    """A plotly figure as plain data, with words for who does not see it; svg: a still picture, where there is one."""

    key: str
    title: str
    about: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    svg: str = ""


Part = Text | Table | Figure


@dataclass
class Section:
    """A heading and what stands under it. folded: closed at first on the page."""

    key: str
    title: str
    parts: list[Part] = field(default_factory=list)
    folded: bool = False
