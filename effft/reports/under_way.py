"""How far the comparisons of a task are that still run: what has ended, the time left, the cells that have filled."""

import time
from collections import Counter
from collections.abc import Iterator

from effft.config import Amount
from effft.reports.blocks import Block, Table
from effft.tracking.reading import RunReader, StoredRun


def under_way(reader: RunReader, task: str) -> Iterator[Block]:
    """For every comparison that runs a sentence, and a table of strategies and numbers of examples."""
    for parent in reader.comparisons(task):
        if parent.status == "RUNNING":
            runs = reader.children(parent)
            yield _sentence(parent, runs)
            if runs:
                yield _cells(runs, parent.tags.get("strategies", ""))


def _sentence(parent: StoredRun, runs: list[StoredRun]) -> str:
    counts = Counter(run.status for run in runs)
    ended, planned = len(runs) - counts["RUNNING"], int(parent.params.get("runs", len(runs)))
    text = f"{parent.name}: {ended} of {planned} runs have ended, {counts['RUNNING']} run now"
    if lost := counts["FAILED"] + counts["KILLED"]:
        text += f", {lost} have no result"
    if 0 < ended < planned and parent.started:
        minutes = (time.time() - parent.started / 1000) / ended * (planned - ended) / 60
        text += "; less than a minute left" if minutes < 1 else f"; about {minutes:.0f} minutes left"
    return f"{text}."


def _cells(runs: list[StoredRun], planned: str) -> Table:
    """planned: the strategies, comma-separated; those that have no run yet have empty cells."""
    cells: dict[tuple[str, Amount], Counter[str]] = {}
    for run in runs:
        place = run.tags.get("strategy", run.name), Amount.of(run.tags)
        cells.setdefault(place, Counter())["run now" if run.status == "RUNNING" else "ended"] += 1
    names = dict.fromkeys([*filter(None, planned.split(",")), *(name for name, _ in cells)])
    amounts = sorted({amount for _, amount in cells})
    rows = [
        [
            name,
            *(", ".join(f"{n} {what}" for what, n in cells.get((name, a), Counter()).items()) or "-" for a in amounts),
        ]
        for name in names
    ]
    return Table(["strategy", *(amount.phrase for amount in amounts)], rows)
