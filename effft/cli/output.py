"""What a command prints: tables and the panel of a run on stdout, progress on stderr."""

import json
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

import click

from effft.config import Amount
from effft.evaluation.metric_keys import CROSS_VALIDATED, bounds
from effft.progress import shown_on
from effft.reports.blocks import Table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID
    from rich.table import Table as RichTable

    from effft.reports.results import ResultsTable
    from effft.runs.experiment import Result
    from effft.tracked_comparison import TaskOutcomes

MOST_RECALLS = 6  # Labels whose recall the panel of a run shows.
COLUMNS_WITHOUT_TERMINAL = 160  # Tables in a file or a log are this wide.
SECONDS_BETWEEN_LINES = 5.0  # Where there is no terminal, progress is a line now and then.


def console() -> "Console":
    """Stdout, as wide as the terminal."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else COLUMNS_WITHOUT_TERMINAL, highlight=False)


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int], *notes: str) -> None:
    """A table without lines, and sentences below it; left: the columns that hold words."""
    out = console()
    out.print(_rich_table(Table(heads, rows, left=tuple(left)), 2 if out.width >= 100 else 1))
    for note in notes:
        out.print(note, markup=False)


def print_results(results: "ResultsTable", out: "Console | None" = None) -> None:
    """The table of results in all its columns where they fit, else in few; remarks and warnings stand below it."""
    from rich.measure import Measurement

    out = out or console()
    heads = "mean ± sd over runs"
    table = _rich_table(results.block(remarks=False), 2, f"{heads}; gap = in domain - mean of OOD")
    if Measurement.get(out, out.options.update(width=1000), table).maximum > out.width:
        table = _rich_table(results.block(narrow=True), 1, heads)
    out.print(table)
    for sentence in results.sentences():
        out.print(sentence, markup=False)


def print_outcomes(compared: "TaskOutcomes") -> None:
    """The table of a comparison on one task, and for sets without labels how often the strategies differ."""
    print_results(compared.table)
    for one in compared.disagreements:
        table = one.table()
        console().print(f"{table.caption}:", markup=False)
        console().print(_rich_table(table, 2))
    if compared.disagreements and compared.parent.run_id:
        console().print("disagreement.csv of the run has the texts that are worth a label.", markup=False)


def _rich_table(table: Table, padding: int, title: str | None = None) -> "RichTable":
    """Numbers and single words are never broken, sentences between their words."""
    from rich.table import Table as RichTable
    from rich.text import Text

    made = RichTable(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, padding, 0, 0))
    for place, head in enumerate(table.heads):
        is_left = place in table.left
        whole = not is_left or not any(" " in row[place] for row in table.rows)
        made.add_column(
            "\n".join(head.rsplit(" ", 1)), justify="left" if is_left else "right", no_wrap=whole, overflow="fold"
        )
    for number, row in enumerate(table.rows):
        made.add_row(*map(Text, row), style="dim" if number in table.quiet else None)
    return made


def print_json(value: object) -> None:
    """One JSON document on stdout, for `--json`."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def score_text(result: "Result", split: str) -> str:
    """The primary metric of a split with its interval: '0.612  [0.551, 0.668]   majority 0.500, chance 0.500'."""
    from effft.evaluation.statistics import chance_remark, reference_scores

    metrics = result.metrics
    majority, chance = reference_scores(result.primary, lambda name: metrics.get(f"{split}/{name}")) or (0.0, 0.0)
    score, interval = metrics[f"{split}/{result.primary}"], bounds(metrics, split, result.primary)
    low, high = interval or (score, score)
    remark = chance_remark(score, low, high, majority, chance)
    shown = f"{score:.3f}  [{low:.3f}, {high:.3f}]" if interval else f"{score:.3f}"
    return f"{shown}   majority {majority:.3f}, chance {chance:.3f}" + (f": {remark}" if remark else "")


def further_text(result: "Result", split: str) -> str:
    """The metrics that only some tasks have: 'quadratic kappa 0.71 [0.60, 0.80], mean absolute error 0.42 [...]'."""
    from effft.evaluation.metrics import FURTHER_METRICS

    shown = []
    for name in FURTHER_METRICS:
        if name != result.primary and (value := result.metrics.get(f"{split}/{name}")) is not None:
            ends = bounds(result.metrics, split, name)
            shown.append(f"{name.replace('_', ' ')} {value:.3f}" + (f" [{ends[0]:.3f}, {ends[1]:.3f}]" if ends else ""))
    return ", ".join(shown)


def recall_text(result: "Result", split: str) -> str:
    """The share of right answers among the examples of every label, of many labels the lowest; '' without a table."""
    table = result.tables.get(split, {})
    right: dict[object, list[bool]] = {}
    several = f"{split}/subset_accuracy" in result.metrics
    for label, answer in zip(table.get("label", ()), table.get("answer", ()), strict=True):
        given = json.loads(str(answer)) if several else [answer]
        for name in json.loads(str(label)) if several else [label]:
            right.setdefault(name, []).append(name in given)
    recalls = sorted((sum(own) / len(own), str(label), len(own)) for label, own in right.items())
    shown = [f"{label} {recall:.2f} ({count})" for recall, label, count in recalls[:MOST_RECALLS]]
    more = f", {len(recalls) - MOST_RECALLS} labels above" if len(recalls) > MOST_RECALLS else ""
    return ", ".join(shown) + more


def summary_lines(result: "Result", run_id: str, view: str) -> list[tuple[str, str]]:
    """Label and text of every line of the panel; the last ones say what to do next."""
    config, metrics = result.config, result.metrics
    used = metrics["resources/labels_used"]
    lines = [
        ("strategy", result.name),
        ("task", f"{config.task}   model {config.model}   {Amount.of(vars(config)).examples}, {used:.0f} labels used"),
    ]
    splits = [name for name in ("in_domain", CROSS_VALIDATED) if f"{name}/{result.primary}" in metrics]
    for split in (*splits, *(f"ood/{name}" for name in result.ood)):
        lines.append((f"{split} {result.primary}", score_text(result, split)))
        lines += [(f"{split}, further", text)] if (text := further_text(result, split)) else []
    lines += [(f"{split} recall", text) for split in splits if (text := recall_text(result, split))]
    evaluation = metrics["resources/evaluation_seconds"]
    trainable, total = metrics["resources/trainable_parameters"], metrics["resources/total_parameters"]
    lines += [
        ("trainable", f"{100 * trainable / total:.3g} % ({trainable:,.0f} of {total:,.0f} parameters)"),
        ("peak memory", f"{metrics['resources/peak_memory_mb']:,.0f} MB above the start"),
        ("time", f"training {metrics['resources/train_seconds']:.1f} s, evaluation {evaluation:.1f} s"),
    ]
    lines += [("note", note) for note in result.notes]
    if not run_id:
        return lines
    follow = f"effft register {run_id}" if config.log_model else f"effft report --task {shlex.quote(config.task)}"
    return [*lines, ("run id", run_id), ("view", view), ("next", follow)]


def print_summary(result: "Result", run_id: str, view: str) -> None:
    """The panel of a run, on stdout."""
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    for label, text in summary_lines(result, run_id, view):
        grid.add_row(Text(label, style="dim"), Text(text))
    console().print(Panel(grid, title=f"effft · {result.config.strategy}", expand=False))


class Progress:
    """Progress on stderr: bars on a terminal, a line every few seconds elsewhere.

    A context manager and a ProgressCallback; `runs` adds a bar over several runs.

    clock: seconds, for tests. silent: show nothing, as in every process of a distributed run but the first.
    """

    def __init__(
        self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic, silent: bool = False
    ) -> None:
        self.silent = silent
        self.stream = stream or sys.stderr
        self.clock = clock
        self.last_line_at = clock()
        self.run_text = ""
        self.first: tuple[float, int] | None = None
        self.bars: Bars | None = None
        self.stage: tuple[str, TaskID] | None = None
        self.overall: TaskID | None = None

    def __enter__(self) -> "Progress":
        self._shown = shown_on(self)
        self._shown.__enter__()
        if not self.silent and self.stream.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self.bars = Progress(*columns, console=Console(file=self.stream), transient=True)
            self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shown.__exit__(None, None, None)
        self.stop()

    def stop(self) -> None:
        """Remove the bars, so that what is printed next stands alone."""
        if self.bars is not None:
            self.bars.stop()

    def line(self, text: str) -> None:
        """A line of its own, above the bars where there are any."""
        if self.bars is not None:
            self.bars.console.print(text, markup=False, highlight=False)
        elif not self.silent:
            self.last_line_at = self.clock()
            self.stream.write(f"effft: {text}\n")
            self.stream.flush()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show the stage; total 0 means that the amount of work is not known."""
        if self.bars is not None:
            if self.stage is None or self.stage[0] != stage:
                self._end_stage()
                self.stage = (stage, self.bars.add_task(stage, total=total or None))
            self.bars.update(self.stage[1], completed=done, total=total or None)
        elif self.clock() - self.last_line_at >= SECONDS_BETWEEN_LINES:
            self.line(f"{self.run_text}{stage}" + (f" {done}/{total}" if total else ""))

    def runs(self, name: str, done: int, total: int) -> None:
        """Show the run that begins after `done` others; the time left assumes that the rest take as long."""
        self.run_text = f"run {done + 1} of {total} ({name}{self._left(done, total)}): "
        if self.bars is None:
            return
        self._end_stage()
        if self.overall is None:
            self.overall = self.bars.add_task("runs", total=total)
        self.bars.update(self.overall, completed=done, description=f"runs: {name}")

    def _end_stage(self) -> None:
        if self.bars is not None and self.stage is not None:
            self.bars.remove_task(self.stage[1])
        self.stage = None

    def _left(self, done: int, total: int) -> str:
        if self.first is None or done < self.first[1]:
            self.first = (self.clock(), done)
        start, before = self.first
        if done == before:
            return ""
        seconds = (self.clock() - start) / (done - before) * (total - done)
        return f", about {seconds / 60:.0f} min left" if seconds >= 90 else f", about {seconds:.0f} s left"
