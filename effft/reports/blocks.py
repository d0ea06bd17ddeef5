"""What a report is made of before it is HTML or Markdown: sections of text, tables and figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from effft.redaction import redact


@dataclass(frozen=True)
class Table:
    """Rows of text.

    Args:
        heads: The names of the columns.
        rows: A text for every column.
        caption: What the table is.
        left: Numbers of the columns that hold words.
        quiet: Numbers of the rows that are references.
        kind: How the page shows it: 'results', 'slices', 'pairs', 'plain'.
        keys: For every row the group or the strategy that it is about, '' for none.
        middle: Of slices, the accuracy without a colour: red below, blue above.
        where: Which choice on the page shows it: {'backbone': 'tiny-lm', 'amount': '32'}; {} always.
    """

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    left: tuple[int, ...] = (0,)
    quiet: Sequence[int] = ()
    kind: str = "plain"
    keys: Sequence[str] = ()
    middle: float = 0.5
    where: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Chart:
    """A figure that the page draws from its data. about: what it shows, also for readers who do not see it.

    still: the name of the file with the same as a still picture, which the Markdown report shows.
    """

    kind: str
    title: str
    about: str
    data: object = None
    still: str = ""


Block = str | list[str] | dict[str, str] | Table | Chart
"""A paragraph, the points of a list, paragraphs with a name each, a table or a figure."""


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    key: str
    title: str
    blocks: Sequence[Block]


def anchor(key: str) -> str:
    """A key without anything that a path or a link could trip over."""
    return "".join(c if c.isalnum() or c in "-." else "-" for c in redact(key))
