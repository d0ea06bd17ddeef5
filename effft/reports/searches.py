"""The section on searches, read back from MLflow alone: a parent run with the verdict, a child run for every trial."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import pandas as pd

from effft.config import Amount
from effft.evaluation.metric_keys import parse
from effft.reports.blocks import Block, Chart, Table
from effft.reports.colors import look
from effft.reports.csv_files import csv_text
from effft.tracking.reading import RunReader, StoredRun

IMPORTANCE = "importance/"  # Prefix of the parent's metrics that say how much a parameter mattered.
STATES = {"complete": "complete", "pruned": "pruned", "fail": "failed", "interrupted": "interrupted"}
MOST_STUDIES = 8  # Studies in one figure; the table holds all.
FEW_TRIALS = 30  # Complete trials below which importances are called a hint.


@dataclass(frozen=True)
class TrialRecord:
    """One trial: its state, the mean metric on validation (None where there is none), the values it tried, its time."""

    number: int
    state: str
    value: float | None
    values: Mapping[str, str]
    seconds: float = 0

    @property
    def words(self) -> str:
        """The values: numbers with three digits, names as they are."""
        return ", ".join(f"{spoken(key)} {_short(value)}" for key, value in self.values.items())


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
    def seconds(self) -> float:
        """Training and evaluation of all its trials."""
        return sum(trial.seconds for trial in self.trials)

    @property
    def sentences(self) -> list[str]:
        """What it ended with, the recommendation first, without the link to its plots."""
        if f"validation/{self.metric}" not in self.parent.metrics:
            return []  # it has not ended; the note says what is running
        lines = map(str.strip, self.parent.tags.get("mlflow.note.content", "").splitlines())
        return [line for line in lines if line and not line.startswith("[")]


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
    seconds = sum(run.metrics.get(f"resources/{stage}_seconds", 0) for stage in ("train", "evaluation"))
    state = run.tags.get("trial.state", "")
    return TrialRecord(int(number) if number.isdecimal() else -1, state, value, run.params, seconds)


def search_section(studies: Sequence[StudyRecord]) -> Iterator[Block]:
    """What each study recommends, a table, the history and the importances."""
    told = {s.label: " ".join(f"{line[0].upper()}{line[1:]}" for line in s.sentences) for s in studies if s.sentences}
    if told:
        yield told
    heads = (
        "study", "backbone", "trials", "time spent", "best validation", "final mean", "recommended",
    )  # fmt: skip
    about = "Selection uses validation alone. The best of many noisy trials looks too good, so it is measured again."
    yield Table(heads, [_row(study) for study in studies], about, (0, 1, 2, 6))
    drawn = [study for study in studies if study.complete][-MOST_STUDIES:]
    if drawn:
        lines = [
            {"name": study.label, "metric": study.metric}
            | {"look": look(study.parent.tags.get("strategy", ""), study.label)}
            | {"trials": [(trial.number, value, trial.words) for trial, value in study.complete]}
            for study in drawn
        ]
        about = "A mark is a complete trial, the line the best so far. Pruned and failed trials are in the table only."
        yield Chart("history", "History of the searches", about, lines)
    known = [study for study in drawn if study.importances]
    if known:
        about = "What mattered: the share of the spread in validation that a parameter explains (fANOVA)."
        if any(len(study.complete) < FEW_TRIALS for study in known):
            about += f" There are fewer than {FEW_TRIALS} trials, so read it as a hint."
        names = list(dict.fromkeys(name for study in known for name, _ in study.importances))
        shares = [dict(study.importances) for study in known]
        rows = [(spoken(n), *(f"{own[n]:.2f}" if n in own else "-" for own in shares)) for n in names]
        yield Table(("parameter", *(study.label for study in known)), rows, about, kind="shares")


def _row(study: StudyRecord) -> list[str]:
    counts = Counter(STATES.get(trial.state, "not ended") for trial in study.trials)
    fresh, number = (study.parent.metrics.get(key) for key in (f"validation/{study.metric}", "winner"))
    return [
        study.label,
        study.parent.params.get("model", ""),
        ", ".join(f"{count} {state}" for state, count in counts.items()) or "none",
        f"{study.seconds:,.0f} s" if study.seconds else "-",
        f"{study.best_so_far[-1]:.3f}" if study.complete else "-",
        f"{fresh:.3f}" if fresh is not None else "-",
        next((f"trial {t.number}: {t.words}" for t in study.trials if t.number == number), "-"),
    ]


def _short(value: str) -> str:
    try:
        return f"{float(value):.3g}"
    except ValueError:
        return value


def spoken(parameter: str) -> str:
    """A parameter in the user's words."""
    return parameter.replace("_", " ")


def trials_csv(studies: Sequence[StudyRecord]) -> str:
    """A line for every trial and parameter; then the numbers of each study itself, with no trial."""
    heads = (
        "study", "strategy", "backbone", "per_label", "trial", "state", "metric", "value", "seconds", "parameter",
        "tried",
    )  # fmt: skip
    rows: list[list[object]] = []
    for study in studies:
        params = study.parent.params
        place = [study.name, study.parent.tags.get("strategy", ""), params.get("model", ""), Amount.of(params)]
        for trial in study.trials:
            told = [trial.number, trial.state, study.metric, trial.value, trial.seconds]
            rows += [[*place, *told, *pair] for pair in (trial.values or {"": ""}).items()]
        rows += [[*place, "", "", key, value, "", "", ""] for key, value in study.parent.metrics.items()]
    return csv_text(pd.DataFrame(rows, columns=heads))
