"""Runs read back from MLflow as plain records, through its public search."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from effft.errors import InputError
from effft.tracking.mlflow_tracker import HOME
from effft.tracking.sanitize import sentence_of
from effft.tracking.store import open_client, search_all_runs

PARENT = "mlflow.parentRunId"


@dataclass(frozen=True)
class StoredRun:
    """A run as MLflow keeps it. started: milliseconds since 1970, None where it never began."""

    run_id: str
    name: str
    status: str
    started: int | None
    metrics: Mapping[str, float]
    params: Mapping[str, str]
    tags: Mapping[str, str]


class RunReader:
    """Reads the active runs of one MLflow store."""

    def __init__(self, client: MlflowClient) -> None:
        self.client = client

    def runs_of(self, experiment: str) -> list[StoredRun]:
        """The runs of an experiment, and those that `mlflow run` put into another one (their tag names this one).

        Raises:
            InputError: The store cannot be read.
        """
        try:
            ids = self._ids()
            own = [ids.pop(experiment)] if experiment in ids else []
            return self._search(own) + self._search(ids.values(), f"tags.`{HOME}` = {quoted(experiment)}")
        except MlflowException as error:
            raise InputError(f"experiment {experiment!r}: {sentence_of(error)}") from None

    def experiments(self) -> list[str]:
        """The names of all experiments."""
        return list(self._ids())

    def run(self, run_id: str) -> StoredRun | None:
        """One run; None where there is none with this id."""
        try:
            return _stored(self.client.get_run(run_id))
        except MlflowException:
            return None

    def studies(self, task: str) -> list[StoredRun]:
        """The parent runs of the searches on a task, in every experiment, the oldest first."""
        parents = self._search(self._ids().values(), f"tags.kind = 'study' and tags.task = {quoted(task)}")
        return sorted(parents, key=lambda run: (run.started or 0, run.name))

    def children(self, parent: StoredRun, kind: str) -> list[StoredRun]:
        """The runs of one kind (a tag) under a parent, in whatever experiment they are."""
        return self._search(self._ids().values(), f"tags.`{PARENT}` = '{parent.run_id}' and tags.kind = '{kind}'")

    def _ids(self) -> dict[str, str]:
        return {str(e.name): str(e.experiment_id) for e in self.client.search_experiments()}

    def _search(self, experiment_ids: Iterable[str], words: str = "") -> list[StoredRun]:
        return [_stored(run) for run in search_all_runs(self.client, list(experiment_ids), words)]


def open_reader(tracking_uri: str = "") -> RunReader:
    """A reader of the store in use.

    Raises:
        InputError, RunError: The store cannot be opened.
    """
    return RunReader(open_client(tracking_uri))


def quoted(text: str) -> str:
    """A value as MLflow's filters take it; a value with both kinds of quotes cannot be written and matches nothing."""
    return f'"{text}"' if "'" in text else f"'{text}'"


def _stored(run: Any) -> StoredRun:
    info, data = run.info, run.data
    return StoredRun(
        info.run_id, info.run_name or "", info.status, info.start_time, data.metrics, data.params, data.tags
    )
