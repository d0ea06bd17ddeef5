"""A report as Markdown: the same sections, tables and still figures."""

from collections.abc import Iterator, Sequence

from effft.reports.blocks import Figure, Section, Table, Text


def plain(text: str) -> str:
    """Shown as text: no HTML, no Markdown of the data's own, no cell that ends early."""
    for mark in ("\\", "|", "*", "_", "`", "[", "]", "#"):
        text = text.replace(mark, "\\" + mark) if mark in "\\|`[]*_" else text
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\n", " ")


def markdown(title: str, lead: str, sections: Sequence[Section]) -> str:
    """The whole document; figures that have a still picture are files beside it, named by their key."""
    text = f"# {plain(title)}\n\n{plain(lead)}\n"
    for section in sections:
        text += f"\n## {plain(section.title)}\n\n{markdown_blocks(section.parts)}"
    return text


def markdown_blocks(blocks: Sequence[Text | Table | Figure]) -> str:
    """Paragraphs, tables and links to figures, an empty line between them."""
    return "\n".join("\n".join(_part(block)) + "\n" for block in blocks)


def _part(part: Text | Table | Figure) -> Iterator[str]:
    if isinstance(part, Text):
        yield from (f"{'- ' if part.bullets else ''}{plain(line)}" for line in part.lines)
    elif isinstance(part, Table):
        if part.caption:
            yield from (plain(part.caption), "")
        yield _row(part.heads)
        yield _row(["---" if place in part.left else "---:" for place in range(len(part.heads))], raw=True)
        yield from (_row(row) for row in part.rows)
    elif part.svg:
        yield f"![{plain(part.title)}]({file_name(part)})"
        yield ""
        yield plain(part.about)
    else:
        yield f"{plain(part.title)}: see the HTML page."


def _row(cells: Sequence[str], raw: bool = False) -> str:
    return "| " + " | ".join(c if raw else plain(c) for c in cells) + " |"


def file_name(figure: Figure) -> str:
    """A file name without anything a path or a link could trip over."""
    return "".join(c if c.isalnum() or c in "-." else "-" for c in figure.key) + ".svg"
