"""A report as one HTML page that needs nothing but itself: styles, scripts and plotly are inside."""

import json
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from effft.reports.blocks import Figure, Section, Table, Text

HERE = Path(__file__).parent


def page(title: str, lead: str, sections: Sequence[Section], foot: str) -> str:
    """The whole document. Everything that comes from runs is escaped, in HTML, in plotly texts and in the JSON."""
    figures = [part for section in sections for part in section.parts if isinstance(part, Figure)]
    body = "\n".join(line for section in sections for line in _section(section))
    links = "".join(f'<li><a href="#{_id(s.key)}">{escape(s.title)}</a></li>' for s in sections)
    style, script = (HERE / "page.css").read_text(), (HERE / "page.js").read_text()
    plotly = f"<script>{_plotly()}</script>" if figures else ""
    data = json.dumps({_id(f.key): {"data": f.data, "layout": f.layout} for f in figures}, allow_nan=False)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; script-src 'unsafe-inline'; "
        "style-src 'unsafe-inline'; img-src data: blob:\">"
        f"<title>{escape(title)}</title><style>{style}</style></head><body>"
        f'<a class="skip" href="#main">To the results</a><header><h1>{escape(title)}</h1>'
        f'<p class="soft">{escape(lead)}</p></header><nav aria-label="Sections"><ul>{links}</ul></nav>'
        f'<main id="main">{body}</main><footer><p>{escape(foot)}</p></footer>'
        f'<script type="application/json" id="figures">{_in_script(data)}</script>'
        f"{plotly}<script>{script if figures else ''}</script>"
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
    inner = [line for part in section.parts for line in _part(part, section.key)]
    if section.folded:
        yield f'<section id="{_id(section.key)}"><details><summary>{escape(section.title)}</summary>'
        yield from (*inner, "</details></section>")
    else:
        yield f'<section id="{_id(section.key)}"><h2>{escape(section.title)}</h2>'
        yield from (*inner, "</section>")


def _part(part: Text | Table | Figure, key: str) -> Iterator[str]:
    if isinstance(part, Table):
        yield from _table(part)
    elif isinstance(part, Figure):
        name = _id(part.key)
        yield f'<h3 id="{name}-name">{escape(part.title)}</h3>'
        yield f'<figure><div class="plot" id="{name}" role="img" aria-labelledby="{name}-name"></div>'
        yield f"<figcaption>{escape(part.about)}</figcaption></figure>"
    elif part.bullets:
        yield "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in part.lines) + "</ul>"
    else:
        words = "".join(f"<p>{escape(line)}</p>" for line in part.lines)
        yield f'<div class="callout">{words}</div>' if key.startswith("advice") else words


def _table(table: Table) -> Iterator[str]:
    name = table.caption or table.heads[0]
    yield f'<div class="wide" role="region" tabindex="0" aria-label="{escape(name)}"><table>'
    if table.caption:
        yield f"<caption>{escape(table.caption)}</caption>"
    heads = (
        f'<th scope="col"{_left(place, table)}><button type="button">{escape(head)}</button></th>'
        for place, head in enumerate(table.heads)
    )
    yield f"<thead><tr>{''.join(heads)}</tr></thead><tbody>"
    for number, row in enumerate(table.rows):
        cells = [f'<th scope="row" class="l">{escape(row[0])}</th>']
        cells += [f"<td{_left(place, table)}>{escape(breakable(cell))}</td>" for place, cell in enumerate(row) if place]
        look = ' class="q"' if number in table.quiet else ""
        yield f"<tr{look}>{''.join(cells)}</tr>"
    yield "</tbody></table></div>"


def breakable(cell: str) -> str:
    """A mean with its interval may break before the bracket and nowhere else."""
    head, bracket, tail = cell.partition(" [")
    if not bracket or not head[:1].isdigit():
        return cell
    return head.replace(" ", "\u00a0") + " " + ("[" + tail).replace(" ", "\u00a0")


def _left(place: int, table: Table) -> str:
    return ' class="l"' if place in table.left else ""
