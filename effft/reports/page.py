"""A report as one HTML page that needs nothing but itself, and as Markdown: the same sections in two templates."""

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from effft.redaction import redact
from effft.reports.blocks import Block, Section, anchor
from effft.reports.colors import look
from effft.reports.data import ReportData
from effft.reports.groups import RunGroup
from effft.reports.measures import Measure, measures
from effft.templating import TEMPLATES, markdown_text, render

DIGITS = 6  # Significant digits of a single run's numbers on the page; runs.csv has all.


def page_data(data: ReportData, mlflow_url: str) -> dict[str, object]:
    """What the page's script draws from: every measure of every group and run, as plain values.

    mlflow_url: where the MLflow server answers, 'http://127.0.0.1:5000'.
    """
    shown = measures(data) if data.groups else []
    return {
        "metric": data.primary,
        "home": f"{data.home}/{data.primary}",
        "splits": [f"{split}/{data.primary}" for split in data.splits],
        "measures": [vars(measure) for measure in shown],
        "backbones": data.backbones,
        "amounts": [
            {"name": amount.name, "label": amount.examples, "count": amount.per_label or min(amount.rows, 1e9)}
            for amount in sorted({group.amount for group in data.groups})
        ],
        "references": {
            f"{split}/{data.primary}": known
            for split in data.splits
            if (known := data.references(data.groups, split)) is not None
        },
        "groups": [_group(group, shown) for group in data.groups],
        "mlflow": mlflow_url.rstrip("/"),
    }


def _group(group: RunGroup, shown: Sequence[Measure]) -> dict[str, object]:
    fallen = {(seed, draw) for seed, draw, _ in group.fallen()}
    columns = [group.values(measure.key) for measure in shown]
    names = zip(group.runs["run_id"], group.runs["seed"].fillna(0), group.draws, strict=True)
    stats = [measure.of(group) for measure in shown]
    return {
        "key": group.key,
        "backbone": group.backbone,
        "amount": group.amount.name,
        "variant": group.variant,
        "look": look(group.strategy, group.variant),
        "stats": [stat and [stat.mean, stat.sd, stat.low, stat.high, stat.count] for stat in stats],
        "settings": group.settings,
        "runs": [
            {"id": str(run), "seed": int(seed), "draw": int(draw), "fallen": (int(seed), int(draw)) in fallen}
            | {"values": [_short(float(column[place])) for column in columns]}
            for place, (run, seed, draw) in enumerate(names)
        ],
    }


def _short(value: float) -> float | None:
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def plain(value: Any) -> Any:
    """Values for JSON, without secrets."""
    match value:
        case str():
            return redact(value)
        case dict():
            return {redact(str(key)): plain(part) for key, part in value.items()}
        case list() | tuple():
            return [plain(part) for part in value]
        case float():
            return value if math.isfinite(value) else None
    return value


def page(
    title: str, lead: str, sections: Sequence[Section], foot: str, data: Mapping[str, object], refresh: int
) -> str:
    """The whole document; its policy allows this style and this script alone, by their hashes."""
    css, js = (f"\n{(TEMPLATES / name).read_text()}" for name in ("report.css", "report.js"))
    return render(
        "report.html",
        title=title,
        lead=lead,
        sections=sections,
        foot=foot,
        refresh=refresh,
        data=plain(data),
        css=css,
        js=js,
        policy=f"script-src 'sha256-{_digest(js)}'; style-src 'sha256-{_digest(css)}'; img-src data:",
        anchor=anchor,
        breakable=breakable,
        shade=shade,
        plain=plain,
    )


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def shade(value: float, middle: float) -> int:
    """The colour of a share: 0 (reddest) to 10 (bluest), 5 at the middle."""
    part = (value - middle) / ((1 - middle if value > middle else middle) or 1)
    return round(5 + 5 * part)


def breakable(text: str) -> tuple[str, str]:
    """A number and the interval that stands below it."""
    head, bracket, tail = text.partition(" [")
    return (
        (head, bracket.strip() + tail) if bracket and tail.endswith("]") and head[:1] in "+-0123456789" else (text, "")
    )


def markdown(title: str, lead: str, sections: Sequence[Section], command: str) -> str:
    """The whole document; a figure with a still picture is a file beside it."""
    return render("report.md", markdown_text, title=title, lead=lead, sections=sections, command=command)


def markdown_blocks(blocks: Sequence[Block]) -> str:
    """Paragraphs, tables and links to figures, an empty line between them."""
    return render("blocks.md", markdown_text, blocks=blocks)
