"""A report as one HTML page that needs nothing but itself: styles, scripts and plotly are inside."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from effft.reports.blocks import Block, Figure, Section, Table
from effft.reports.drawing import plotly_figure, shown

HERE = Path(__file__).parent

CONTENT_POLICY = (
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src data: blob:\">"
)
"""Of every page that we write: it loads nothing and sends nothing."""


def page(title: str, lead: str, sections: Sequence[Section], foot: str) -> str:
    """The whole document. Everything that comes from runs is escaped: in HTML, in plotly's texts and in the JSON."""
    figures = [block for section in sections for block in section.blocks if isinstance(block, Figure)]
    body = "\n".join(line for section in sections for line in _section(section))
    links = "".join(f'<li><a href="#{_id(s.key)}">{shown(s.title)}</a></li>' for s in sections)
    style, script = (HERE / "page.css").read_text(), (HERE / "page.js").read_text()
    data = json.dumps({_id(figure.key): plotly_figure(figure) for figure in figures}, allow_nan=False)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"{CONTENT_POLICY}<title>{shown(title)}</title><style>{style}</style></head><body>"
        f'<a class="skip" href="#main">To the results</a><header><h1>{shown(title)}</h1>'
        f'<p class="soft">{shown(lead)}</p></header><nav aria-label="Sections"><ul>{links}</ul></nav>'
        f'<main id="main">{body}</main><footer><p>{shown(foot)}</p></footer>'
        f'<script type="application/json" id="figures">{_in_script(data)}</script>'
        f"{f'<script>{_plotly()}</script>' if figures else ''}<script>{script}</script>"
        "</body></html>\n"
    )


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def _in_script(data: str) -> str:
    """JSON that cannot end its script element, nor begin a comment in it."""
    return data.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _id(key: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in key)


def _section(section: Section) -> Iterator[str]:
    yield f'<section id="{_id(section.key)}"><h2>{shown(section.title)}</h2>'
    for block in section.blocks:
        yield from _block(block, section.key)
    yield "</section>"


def _block(block: Block, key: str) -> Iterator[str]:
    if isinstance(block, Table):
        yield from _table(block)
    elif isinstance(block, Figure):
        name = _id(block.key)
        yield f'<h3 id="{name}-name">{shown(block.title)}</h3>'
        yield f'<figure><div class="plot" id="{name}" role="img" aria-labelledby="{name}-name"></div>'
        yield f"<figcaption>{shown(block.about)}</figcaption></figure>"
    elif isinstance(block, list):
        yield "<ul>" + "".join(f"<li>{shown(line)}</li>" for line in block) + "</ul>"
    else:
        words = f"<p>{shown(block)}</p>"
        yield f'<div class="callout">{words}</div>' if key.startswith("advice") else words


def _table(table: Table) -> Iterator[str]:
    yield f'<div class="wide" role="region" tabindex="0" aria-label="{shown(table.caption or table.heads[0])}"><table>'
    if table.caption:
        yield f"<caption>{shown(table.caption)}</caption>"
    left = [' class="l"' if place in table.left else "" for place in range(len(table.heads))]
    heads = zip(left, map(shown, table.heads), strict=True)
    heads_html = (f'<th scope="col"{look}><button type="button">{head}</button></th>' for look, head in heads)
    yield f"<thead><tr>{''.join(heads_html)}</tr></thead><tbody>"
    for number, row in enumerate(table.rows):
        first, *others = (shown(breakable(text)) for text in row)
        cells = (f"<td{look}>{text}</td>" for look, text in zip(left[1:], others, strict=True))
        look = ' class="q"' if number in table.quiet else ""
        yield f'<tr{look}><th scope="row" class="l">{first}</th>{"".join(cells)}</tr>'
    yield "</tbody></table></div>"


def breakable(text: str) -> str:
    """A mean with its interval may break before the bracket and nowhere else."""
    head, bracket, tail = text.partition(" [")
    if " ± " not in head:
        return text
    return head.replace(" ", "\u00a0") + (" [" + tail.replace(" ", "\u00a0") if bracket else "")
