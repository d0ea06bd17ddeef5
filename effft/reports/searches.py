"""The section on searches, read back from MLflow alone: a parent run with the verdict, a child run for every trial."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import pandas as pd

from effft.config import Amount
from effft.evaluation.metric_keys import parse
from effft.reports.blocks import Block, Figure, Table
from effft.reports.csv_files import csv_text
from effft.reports.figures import axis, look, sideways, trace
from effft.tracking.reading import RunReader, StoredRun

IMPORTANCE = "importance/"
"""Prefix of the parent's metrics that say how much a parameter mattered."""
STATES = {"complete": "complete", "pruned": "pruned", "fail": "failed", "interrupted": "interrupted"}
MOST_STUDIES = 8
"""Studies in one figure; the table holds all."""
FEW_TRIALS = 30
"""Complete trials below which importances are called a hint."""


@dataclass(frozen=True)
class TrialRecord:
    """One trial: its state, the mean metric on validation (None where there is none), the values it tried."""

    number: int
    state: str
    value: float | None
    values: Mapping[str, str]

    @property
    def words(self) -> str:
        """The values: numbers with three digits, names as they are."""
        return ", ".join(f"{key}={_short(value)}" for key, value in self.values.items())


@dataclass(frozen=True)
class StudyRecord:
    """A study as its parent run tells it. metric: what it chose by; label: its name in tables and figures."""

    name: str
    label: str
    metric: str
    parent: StoredRun
    trials: Sequence[TrialRecord]

    @cached_property
    def complete(self) -> list[tuple[TrialRecord, float]]:
        """The trials that ran to their end with their metric, in the order they were asked."""
        return [(t, t.value) for t in self.trials if t.state == "complete" and t.value is not None]

    @cached_property
    def best_so_far(self) -> list[float]:
        """The best validation up to every complete trial."""
        return list(accumulate((value for _, value in self.complete), max))

    @cached_property
    def importances(self) -> list[tuple[str, float]]:
        """(parameter, share of the spread that it explains), the largest first; [] where it was not computed."""
        metrics = self.parent.metrics
        shares = [(key.removeprefix(IMPORTANCE), metrics[key]) for key in metrics if key.startswith(IMPORTANCE)]
        return sorted(shares, key=lambda share: -share[1])

    @property
    def verdict(self) -> str:
        """The sentences it ended with, without the link to its plots."""
        lines = self.parent.tags.get("mlflow.note.content", "").splitlines()
        return " ".join(line.strip() for line in lines if line.strip() and not line.startswith("["))


def read_studies(reader: RunReader, task: str, only: Sequence[str] | None = None) -> list[StudyRecord]:
    """Every study of a task, in whatever experiment, the oldest first. only: the names of those that are meant."""
    parents = [run for run in reader.studies(task) if only is None or run.tags.get("study") in only]
    labels = [f"{p.tags.get('strategy', '')}, {Amount.of(p.params).phrase}" for p in parents]
    studies = []
    for parent, label in zip(parents, labels, strict=True):
        name = parent.tags.get("study", parent.name)
        runs = reader.children(parent, "trial")
        keys = (parts for run in runs for key in run.metrics if (parts := parse(key)) and not parts.slice)
        metric = next((parts.metric for parts in keys if parts.split == "validation"), "")
        trials = sorted((_trial(run, metric) for run in runs), key=lambda trial: trial.number)
        unique = label if labels.count(label) == 1 else f"{label} ({name})"
        studies.append(StudyRecord(name, unique, metric, parent, trials))
    return studies


def _trial(run: StoredRun, metric: str) -> TrialRecord:
    number = run.tags.get("optuna.trial", "")
    value = run.metrics.get(f"validation/{metric}")
    return TrialRecord(int(number) if number.isdecimal() else -1, run.tags.get("trial.state", ""), value, run.params)


def search_section(studies: Sequence[StudyRecord]) -> Iterator[Block]:
    """A table, the history, the importances, and what each study ended with."""
    heads = (
        "study", "backbone", "trials", "best validation", "final mean", "what mattered", "chosen values",
    )  # fmt: skip
    about = "Selection uses validation alone. The best of many noisy trials looks too good, so it is measured again."
    yield Table(heads, [_row(study) for study in studies], about, (0, 1, 2, 5, 6))
    drawn = [study for study in studies if study.complete][-MOST_STUDIES:]
    if drawn:
        yield history(drawn)
    known = [study for study in drawn if study.importances]
    if known:
        yield importances(known)
    yield from (f"{study.label}: {study.verdict}" for study in studies if study.verdict)


def _row(study: StudyRecord) -> list[str]:
    counts = Counter(STATES.get(trial.state, "not ended") for trial in study.trials)
    fresh, number = (study.parent.metrics.get(key) for key in (f"validation/{study.metric}", "winner"))
    return [
        study.label,
        study.parent.params.get("model", ""),
        ", ".join(f"{count} {state}" for state, count in counts.items()) or "none",
        f"{study.best_so_far[-1]:.3f}" if study.complete else "-",
        f"{fresh:.3f}" if fresh is not None else "-",
        ", ".join(f"{key} {share:.2f}" for key, share in study.importances[:3]) or "-",
        next((trial.words for trial in study.trials if trial.number == number), "-"),
    ]


def _short(value: str) -> str:
    try:
        return f"{float(value):.3g}"
    except ValueError:
        return value


def history(studies: Sequence[StudyRecord]) -> Figure:
    """A mark for every complete trial, and the best so far as a line."""
    traces, labels = [], [study.label for study in studies]
    for study in studies:
        marker = look(study.label, labels)
        numbers, values = [trial.number for trial, _ in study.complete], [value for _, value in study.complete]
        hover = [f"trial {trial.number}: {trial.words}" for trial, _ in study.complete]
        traces.append(trace(study.label, numbers, values, "markers", marker, hover=hover))
        traces.append(trace("", numbers, study.best_so_far, "lines", marker, shape="hv"))
    metrics = ", ".join(dict.fromkeys(study.metric for study in studies))
    about = "A mark is a complete trial, the line the best so far. Pruned and failed trials are in the table only."
    layout = {"xaxis": axis("trial"), "yaxis": axis(f"validation {metrics}")}
    return Figure("history", "History of the searches", about, traces, layout)


def importances(studies: Sequence[StudyRecord]) -> Figure:
    """Bars: the share of the spread in validation that each parameter explains."""
    traces = []
    for study in studies:
        names, shares = zip(*study.importances[::-1], strict=True)
        color = look(study.label, [study.label for study in studies])["color"]
        bars = {"type": "bar", "orientation": "h", "x": shares, "y": names, "marker": {"color": color}}
        named = {"name": study.label, "showlegend": True}
        traces.append(bars | named | {"hovertemplate": "%{fullData.name}: %{x:.3f}<extra></extra>"})
    about = "How much of the spread in validation each parameter explains (fANOVA over the complete trials)."
    if any(len(study.complete) < FEW_TRIALS for study in studies):
        about += f" There are fewer than {FEW_TRIALS} trials, so read it as a hint."
    parameters = {name for study in studies for name, _ in study.importances}
    height = 160 + len(parameters) * (16 + 12 * len(studies))
    layout = sideways(height) | {"xaxis": axis("share of the spread"), "barmode": "group"}
    return Figure("importances", "What mattered in the searches", about, traces, layout)


def trials_csv(studies: Sequence[StudyRecord]) -> str:
    """A line for every trial and parameter."""
    heads = ("study", "strategy", "backbone", "per_label", "trial", "state", "metric", "value", "parameter", "tried")
    rows = [
        [study.name, study.parent.tags.get("strategy", ""), study.parent.params.get("model", ""),
         Amount.of(study.parent.params), trial.number, trial.state, study.metric, trial.value, key, tried]
        for study in studies
        for trial in study.trials
        for key, tried in (trial.values or {"": ""}).items()
    ]  # fmt: skip
    return csv_text(pd.DataFrame(rows, columns=heads))
