"""The comparison as text (terminal and Markdown), as CSV, and as flat metrics of the parent run."""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from effft.runs.compare import Outcome, Row, Spread, references

if TYPE_CHECKING:
    from rich.table import Table

Texts = list[list[str]]


def ood_names(rows: Sequence[Row]) -> list[str]:
    """The OOD sets of all rows, in order."""
    return list(dict.fromkeys(name for row in rows for name in row.ood))


def headers(rows: Sequence[Row], primary: str) -> list[str]:
    """One a column."""
    sets = [f"ood/{name}" for name in ood_names(rows)]
    return [
        "strategy", "per label", "runs", f"in domain {primary}", *sets, "gap", "trainable", "peak memory", "training",
        "evaluation", "remarks",
    ]  # fmt: skip


def texts(rows: Sequence[Row], outcomes: Sequence[Outcome]) -> Texts:
    """The cells of the table; the last two lines are what majority and chance would get."""
    sets = ood_names(rows)
    lines = [
        [
            row.strategy,
            str(row.per_label),
            str(row.runs),
            _or_dash(row.in_domain),
            *(_or_dash(row.ood.get(name)) for name in sets),
            _or_dash(row.gap),
            _number(100 * row.trainable_share, "{:.3g} %"),
            _number(row.peak_bytes / 1e6, "{:,.0f} MB"),
            _number(row.train_seconds, "{:.1f} s"),
            _number(row.evaluation_seconds, "{:.1f} s"),
            "; ".join(row.remarks),
        ]
        for row in rows
    ]
    return lines + _reference_lines(sets, outcomes)


def _reference_lines(sets: Sequence[str], outcomes: Sequence[Outcome]) -> Texts:
    result = next((o.result for o in outcomes if o.result is not None), None)
    if result is None:
        return []
    found = [references(result, split) for split in ("in_domain", *(f"ood/{name}" for name in sets))]
    return [
        [name, "", "", *(f"{values[place]:.3f}" for values in found), "", "", "", "", "", ""]
        for place, name in enumerate(("majority", "chance"))
    ]


def _or_dash(value: Spread | None) -> str:
    return "-" if value is None else str(value)


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else form.format(value)


def rich_table(heads: Sequence[str], lines: Texts) -> "Table":
    """For the terminal."""
    from rich.table import Table

    table = Table(title="mean ± sd over runs; gap = in domain - mean of OOD", title_justify="left")
    for place, head in enumerate(heads):
        table.add_column(head, justify="left" if place in (0, len(heads) - 1) else "right")
    for line in lines:
        table.add_row(*line, style="dim" if line[0] in ("majority", "chance") else None)
    return table


def markdown(heads: Sequence[str], lines: Texts, sentences: Sequence[str]) -> str:
    """The same for `comparison.md`."""
    body = [heads, ["---"] * len(heads), *lines]
    table = "\n".join("| " + " | ".join(line) + " |" for line in body)
    return table + "\n" + "".join(f"\n- {sentence}" for sentence in sentences) + "\n"


def csv_text(outcomes: Sequence[Outcome]) -> str:
    """`comparison.csv`: a line a run, every metric unrounded, failed runs with their reason."""
    keys = sorted({key for o in outcomes if o.result for key in o.result.metrics})
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["strategy", "per_label", "seed", "data_seed", "failure", *keys])
    for o in outcomes:
        values = o.result.metrics if o.result else {}
        place = [o.config.strategy, o.config.per_label, o.config.seed, o.config.data_seed, o.failure]
        writer.writerow([*place, *(values.get(key, "") for key in keys)])
    return out.getvalue()


def parent_metrics(rows: Sequence[Row], primary: str) -> dict[str, float]:
    """Flat keys for the parent run: 'lora-pbft/32/in_domain/mcc', with '_sd' where there are several runs."""
    found: dict[str, float] = {}
    for row in rows:
        place = f"{row.strategy.replace('+', '-')}/{row.per_label}"
        for name, value in _spreads(row):
            key = f"{place}/{name}" if name == "gap" else f"{place}/{name}/{primary}"
            found[key] = value.mean
            if value.sd is not None:
                found[f"{key}_sd"] = value.sd
        if row.runs:
            found[f"{place}/trainable_share"] = row.trainable_share
            found[f"{place}/peak_memory_bytes"] = row.peak_bytes
            found[f"{place}/train_seconds"] = row.train_seconds
            found[f"{place}/evaluation_seconds"] = row.evaluation_seconds
        found[f"{place}/failed"] = float(row.failed)
    return found


def _spreads(row: Row) -> Iterator[tuple[str, Spread]]:
    if row.in_domain is not None:
        yield "in_domain", row.in_domain
    for name, value in row.ood.items():
        yield f"ood/{name}", value
    if row.gap is not None:
        yield "gap", row.gap
