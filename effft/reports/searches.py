"""The section on searches, read back from MLflow alone: a parent run with the verdict, a child run for every trial."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from effft.evaluation.metric_keys import parse
from effft.reports.blocks import Axis, Block, Figure, Series, Table, Text
from effft.reports.csv_files import csv_text
from effft.reports.figures import colours
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
    values: dict[str, str]


@dataclass(frozen=True)
class StudyRecord:
    """A study as its parent run tells it. metric: what it chose by; label: its name in tables and figures."""

    name: str
    label: str
    metric: str
    parent: StoredRun
    trials: tuple[TrialRecord, ...]

    @cached_property
    def complete(self) -> list[TrialRecord]:
        """The trials that ran to their end, in the order they were asked."""
        return [trial for trial in self.trials if trial.state == "complete" and trial.value is not None]

    @property
    def importances(self) -> list[tuple[str, float]]:
        """(parameter, share of the spread that it explains), the largest first; [] where it was not computed."""
        metrics = self.parent.metrics
        shares = [(key.removeprefix(IMPORTANCE), metrics[key]) for key in metrics if key.startswith(IMPORTANCE)]
        return sorted(shares, key=lambda share: -share[1])

    @property
    def winner(self) -> TrialRecord | None:
        """The trial that was chosen, once the study is over."""
        number = self.parent.metrics.get("winner")
        return next((trial for trial in self.trials if trial.number == number), None)

    @property
    def verdict(self) -> str:
        """The sentences it ended with, without the link to its plots."""
        lines = self.parent.tags.get("mlflow.note.content", "").splitlines()
        return " ".join(line.strip() for line in lines if line.strip() and not line.startswith("["))

    def best_so_far(self) -> list[tuple[int, float]]:
        """(trial, best validation up to it) over the complete trials."""
        best, points = float("-inf"), []
        for trial in self.complete:
            best = max(best, trial.value if trial.value is not None else best)
            points.append((trial.number, best))
        return points


def read_studies(reader: RunReader, task: str, only: Sequence[str] | None = None) -> list[StudyRecord]:
    """Every study of a task, in whatever experiment, the oldest first. only: the names of those that are meant."""
    parents = [run for run in reader.studies(task) if only is None or run.tags.get("study") in only]
    labels = [f"{p.tags.get('strategy', '')}, {p.params.get('per_label', '')} per label" for p in parents]
    studies = []
    for parent, label in zip(parents, labels, strict=True):
        name = parent.tags.get("study", parent.name)
        runs = reader.children(parent, "trial")
        keys = (parts for run in runs for key in run.metrics if (parts := parse(key)) and not parts.slice)
        metric = next((parts.metric for parts in keys if parts.split == "validation"), "")
        trials = sorted((_trial(run, metric) for run in runs), key=lambda trial: trial.number)
        unique = label if labels.count(label) == 1 else f"{label} ({name})"
        studies.append(StudyRecord(name, unique, metric, parent, tuple(trials)))
    return studies


def _trial(run: StoredRun, metric: str) -> TrialRecord:
    number = run.tags.get("optuna.trial", "")
    value = run.metrics.get(f"validation/{metric}")
    return TrialRecord(
        int(number) if number.isdecimal() else -1, run.tags.get("trial.state", ""), value, dict(run.params)
    )


def search_section(studies: Sequence[StudyRecord]) -> Iterator[Block]:
    """A table, the history, the importances, and what each study ended with."""
    yield _table(studies)
    drawn = [study for study in studies if study.complete][-MOST_STUDIES:]
    if drawn:
        yield history(drawn)
    known = [study for study in drawn if study.importances]
    if known:
        yield importances(known)
    for study in studies:
        if study.verdict:
            yield Text((f"{study.label}: {study.verdict}",))


def _table(studies: Sequence[StudyRecord]) -> Table:
    rows = []
    for study in studies:
        counts = Counter(STATES.get(trial.state, "not ended") for trial in study.trials)
        best = study.best_so_far()
        fresh = study.parent.metrics.get(f"validation/{study.metric}")
        rows.append(
            (
                study.label,
                study.parent.params.get("model", ""),
                ", ".join(f"{count} {state}" for state, count in counts.items()) or "none",
                f"{best[-1][1]:.3f}" if best else "-",
                f"{fresh:.3f}" if fresh is not None else "-",
                ", ".join(f"{key} {share:.2f}" for key, share in study.importances[:3]) or "-",
                _words(study.winner.values) if study.winner else "-",
            )
        )
    heads = (
        "study",
        "backbone",
        "trials",
        "best validation",
        "winner on fresh seeds",
        "what mattered",
        "chosen values",
    )
    about = "Selection uses validation alone. The best of many noisy trials looks too good, so it is measured again."
    return Table("studies", heads, rows, about, (0, 1, 2, 5, 6))


def _words(values: dict[str, str]) -> str:
    return ", ".join(f"{key}={_short(value)}" for key, value in values.items())


def _short(value: str) -> str:
    """Numbers with three digits, names as they are."""
    try:
        return f"{float(value):.3g}"
    except ValueError:
        return value


def history(studies: Sequence[StudyRecord]) -> Figure:
    """A mark for every complete trial, and the best so far as a line."""
    series = []
    for study in studies:
        colour = colours(study.label for study in studies)[study.label]
        numbers, values = [t.number for t in study.complete], [t.value or 0.0 for t in study.complete]
        hover = [f"trial {trial.number}: {_words(trial.values)}" for trial in study.complete]
        series.append(Series(study.label, numbers, values, "markers", colour, hover=hover))
        best = study.best_so_far()
        series.append(Series("", [number for number, _ in best], [v for _, v in best], "lines", colour, steps=True))
    metrics = ", ".join(dict.fromkeys(study.metric for study in studies))
    about = "A mark is a complete trial, the line the best so far. Pruned and failed trials are in the table only."
    return Figure("history", "History of the searches", about, series, Axis("trial"), Axis(f"validation {metrics}"))


def importances(studies: Sequence[StudyRecord]) -> Figure:
    """Bars: the share of the spread in validation that each parameter explains."""
    series = [
        Series(
            study.label,
            [share for _, share in study.importances][::-1],
            [name for name, _ in study.importances][::-1],
            "bars",
            colours(study.label for study in studies)[study.label],
        )
        for study in studies
    ]
    parameters = {name for study in studies for name, _ in study.importances}
    about = "How much of the spread in validation each parameter explains (fANOVA over the complete trials)."
    if any(len(study.complete) < FEW_TRIALS for study in studies):
        about += f" There are fewer than {FEW_TRIALS} trials, so read it as a hint."
    height = 160 + len(parameters) * (16 + 12 * len(studies))
    title = "What mattered in the searches"
    return Figure(
        "importances", title, about, series, Axis("share of the spread"), Axis(words=True), height, horizontal=True
    )


def trials_csv(studies: Sequence[StudyRecord]) -> str:
    """A line for every trial and parameter."""
    heads = ("study", "strategy", "backbone", "per_label", "trial", "state", "metric", "value", "parameter", "tried")
    rows = [
        [study.name, study.parent.tags.get("strategy", ""), study.parent.params.get("model", ""),
         study.parent.params.get("per_label", ""), trial.number, trial.state, study.metric, trial.value, key, tried]
        for study in studies
        for trial in study.trials
        for key, tried in (trial.values or {"": ""}).items()
    ]  # fmt: skip
    return csv_text(heads, rows)
