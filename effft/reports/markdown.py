"""A report as Markdown: the same sections, tables and still figures."""

import re
from collections.abc import Iterator, Sequence

from effft.redaction import redact
from effft.reports.blocks import Block, Figure, Section, Table


def escaped(text: str) -> str:
    """Text from runs as Markdown that shows it: without secrets, HTML, or marks of its own."""
    text = re.sub(r"([\\|`\[\]*_])", r"\\\1", redact(text))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\n", " ")


def markdown(title: str, lead: str, sections: Sequence[Section]) -> str:
    """The whole document; a figure with a still picture is a file beside it, named by its key."""
    text = f"# {escaped(title)}\n\n{escaped(lead)}\n"
    for section in sections:
        text += f"\n## {escaped(section.title)}\n\n{markdown_blocks(section.blocks)}"
    return text


def markdown_blocks(blocks: Sequence[Block]) -> str:
    """Paragraphs, tables and links to figures, an empty line between them."""
    return "\n".join("\n".join(_lines(block)) + "\n" for block in blocks)


def _lines(block: Block) -> Iterator[str]:
    if isinstance(block, str):
        yield escaped(block)
    elif isinstance(block, list):
        yield from (f"- {escaped(line)}" for line in block)
    elif isinstance(block, Table):
        if block.caption:
            yield from (escaped(block.caption), "")
        aligned = ["---" if place in block.left else "---:" for place in range(len(block.heads))]
        for row in (map(escaped, block.heads), aligned, *(map(escaped, row) for row in block.rows)):
            yield f"| {' | '.join(row)} |"
    elif block.still:
        yield from (f"![{escaped(block.title)}]({file_name(block)})", "", escaped(block.about))
    else:
        yield f"{escaped(block.title)}: see the HTML page."


def file_name(figure: Figure) -> str:
    """A file name without anything that a path or a link could trip over."""
    return "".join(c if c.isalnum() or c in "-." else "-" for c in figure.key) + ".svg"
