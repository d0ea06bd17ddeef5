"""A report as one HTML page that needs nothing but itself, and as Markdown: the same sections in two templates."""

from collections.abc import Sequence
from html import escape
from typing import Any

from effft.redaction import redact
from effft.reports.blocks import Block, Figure, Section, anchor
from effft.templating import TEMPLATES, markdown_text, render


def page(title: str, lead: str, sections: Sequence[Section], foot: str) -> str:
    """The whole document with styles, scripts and plotly inside."""
    from plotly.offline import get_plotlyjs

    drawn = [block for section in sections for block in section.blocks if isinstance(block, Figure)]
    figures = {anchor(figure.key): {"data": figure.traces, "layout": figure.layout} for figure in drawn}
    return render(
        "report.html",
        title=title,
        lead=lead,
        sections=sections,
        foot=foot,
        figures=shown_by_plotly(figures),
        css=(TEMPLATES / "report.css").read_text(),
        js=(TEMPLATES / "report.js").read_text(),
        plotly=get_plotlyjs(),
        anchor=anchor,
        breakable=breakable,
    )


def shown_by_plotly(value: Any) -> Any:
    """Data for plotly, without secrets and escaped: it reads some HTML in all texts."""
    match value:
        case str():
            return escape(redact(value))
        case dict():
            return {key: part if key == "hovertemplate" else shown_by_plotly(part) for key, part in value.items()}
        case list() | tuple():
            return [shown_by_plotly(part) for part in value]
    return value


def breakable(text: str) -> str:
    """A mean with its interval may break before the bracket and nowhere else."""
    head, bracket, tail = text.partition(" [")
    if " ± " not in head:
        return text
    return head.replace(" ", "\u00a0") + (" [" + tail.replace(" ", "\u00a0") if bracket else "")


def markdown(title: str, lead: str, sections: Sequence[Section], command: str) -> str:
    """The whole document; a figure with a still picture is a file beside it."""
    return render("report.md", markdown_text, title=title, lead=lead, sections=sections, command=command)


def markdown_blocks(blocks: Sequence[Block]) -> str:
    """Paragraphs, tables and links to figures, an empty line between them."""
    return render("blocks.md", markdown_text, blocks=blocks)
