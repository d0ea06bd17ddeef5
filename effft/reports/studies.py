"""Searches, read back from MLflow alone: a parent run with the verdict, a child run for every trial."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mlflow import MlflowClient

from effft.reports.collect import Row, quoted, read_runs

IMPORTANCE = "importance/"
"""Prefix of the parent's metrics that say how much a parameter mattered."""

STATES = {"complete": "complete", "pruned": "pruned", "fail": "failed", "interrupted": "interrupted"}


@dataclass(frozen=True)
class Trial:
    """One trial: its state, the mean metric on validation (None where there is none), the values it tried."""

    number: int
    state: str
    value: float | None
    values: dict[str, str]


@dataclass(frozen=True)
class Study:
    """A study as its parent run tells it. metric: what it chose by; parent: the run's row."""

    name: str
    metric: str
    parent: Row
    trials: tuple[Trial, ...]

    @property
    def strategy(self) -> str:
        """What was tuned."""
        return str(self.parent["tags"].get("strategy", ""))

    @property
    def per_label(self) -> str:
        """Examples per label; '' where the parent does not say."""
        return str(self.parent["params"].get("per_label", ""))

    @property
    def backbone(self) -> str:
        """The model."""
        return str(self.parent["params"].get("model", ""))

    @cached_property
    def complete(self) -> list[Trial]:
        """The trials that ran to their end, in the order they were asked."""
        return [trial for trial in self.trials if trial.state == "complete" and trial.value is not None]

    @property
    def importances(self) -> list[tuple[str, float]]:
        """Parameter -> share of the spread that it explains, the largest first; [] where it was not computed."""
        metrics: dict[str, float] = self.parent["metrics"]
        found = {k.removeprefix(IMPORTANCE): v for k, v in metrics.items() if k.startswith(IMPORTANCE)}
        return sorted(found.items(), key=lambda item: -item[1])

    @property
    def winner(self) -> Trial | None:
        """The trial that was chosen, once the study is over."""
        number = self.parent["metrics"].get("winner")
        return next((trial for trial in self.trials if trial.number == number), None)

    @property
    def verdict(self) -> list[str]:
        """The sentences it ended with, without the link to its plots."""
        note = str(self.parent["tags"].get("mlflow.note.content", ""))
        return [line.strip() for line in note.splitlines() if line.strip() and not line.startswith("[")]

    def best_so_far(self) -> list[tuple[int, float]]:
        """(trial, best validation up to it) over the complete trials."""
        best, found = float("-inf"), []
        for trial in self.complete:
            best = max(best, trial.value if trial.value is not None else best)
            found.append((trial.number, best))
        return found

    def counts(self) -> dict[str, int]:
        """State -> number of trials, in words."""
        found: dict[str, int] = {}
        for trial in self.trials:
            state = STATES.get(trial.state, "not ended")
            found[state] = found.get(state, 0) + 1
        return found


def read_studies(client: MlflowClient, task: str, only: Sequence[str] | None = None) -> list[Study]:
    """Every study of a task, whatever experiment it lies in, the oldest first; only: their names."""
    words = f"tags.kind = 'study' and tags.task = {quoted(task)}"
    every = [str(e.experiment_id) for e in client.search_experiments()]
    places = [place for place in every if client.search_runs([place], words, max_results=1)]
    return sorted(
        (study for place in places for study in _in_experiment(client, place, task, only)),
        key=lambda study: (study.parent["started"] or 0, study.name),
    )


def _in_experiment(client: MlflowClient, place: str, task: str, only: Sequence[str] | None) -> Iterator[Study]:
    rows = list(read_runs(client, place))
    children: dict[str, list[Row]] = {}
    for row in rows:
        if row["tags"].get("kind") == "trial":
            children.setdefault(row["tags"].get("mlflow.parentRunId", ""), []).append(row)
    for row in rows:
        tags = row["tags"]
        if (tags.get("kind"), tags.get("task")) != ("study", task) or (
            only is not None and tags.get("study") not in only
        ):
            continue
        mine = children.get(row["run_id"], [])
        metric = _metric(mine)
        trials = sorted((_trial(child, metric) for child in mine), key=lambda trial: trial.number)
        yield Study(str(tags.get("study", row["name"])), metric, row, tuple(trials))


def _metric(rows: Sequence[Row]) -> str:
    """What the trials were measured by; all have the same."""
    keys = (key for row in rows for key in row["metrics"] if key.startswith("validation/") and key.count("/") == 1)
    return next((key.removeprefix("validation/") for key in keys), "")


def _trial(row: Row, metric: str) -> Trial:
    tags: dict[str, Any] = row["tags"]
    number = str(tags.get("optuna.trial", ""))
    value = row["metrics"].get(f"validation/{metric}")
    state = str(tags.get("trial.state", ""))
    return Trial(int(number) if number.isdecimal() else -1, state, value, dict(row["params"]))
