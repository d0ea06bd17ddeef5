"""Runs read back from MLflow as plain records, through its public search."""

import json
import logging
import tempfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from effft.evaluation.metric_keys import from_table
from effft.redaction import redact
from effft.tracking.mlflow_tracker import HOME, RESOLVED
from effft.tracking.sanitize import sentence_of
from effft.tracking.store import every, open_client, search_all_runs, store_errors
from effft.tracking.tracker import GIVEN_TAG, METRICS_TAG

log = logging.getLogger(__name__)
PARENT = "mlflow.parentRunId"
LOCAL_SERVER = "http://127.0.0.1:5000"  # Where `mlflow ui` answers.
READERS = 8  # Artifacts that are read at the same time.


@dataclass(frozen=True)
class StoredRun:
    """A run as MLflow keeps it.

    Args:
        started: Milliseconds since 1970, None where it never began.
        metrics: All of them, from the table of metrics where the run has one.
        params: The values used.
        given: The settings given by hand.
    """

    run_id: str
    name: str
    status: str
    started: int | None
    metrics: Mapping[str, float]
    params: Mapping[str, str]
    given: Mapping[str, str]
    tags: Mapping[str, str]


class RunReader:
    """Reads the active runs of one MLflow store."""

    def __init__(self, client: MlflowClient) -> None:
        self.client = client

    @property
    def server(self) -> str:
        """Where a browser finds these runs: the tracking server, or the local one of `mlflow ui` for a store."""
        uri = str(self.client.tracking_uri)
        return redact(uri).replace("***@", "") if uri.startswith(("http://", "https://")) else LOCAL_SERVER

    def runs_of(self, experiment: str) -> list[StoredRun]:
        """The runs of an experiment, and those that `mlflow run` put into another one (their tag names this one)."""
        ids = self._ids()
        own = [ids.pop(experiment)] if experiment in ids else []
        elsewhere = [] if {"'", '"'} <= {*experiment} else ids.values()  # MLflow's filters know no such value
        return self._search(own) + self._search(elsewhere, f"tags.`{HOME}` = {quoted(experiment)}")

    def experiments(self) -> list[str]:
        """The names of all experiments."""
        return list(self._ids())

    def run(self, run_id: str) -> StoredRun | None:
        """One run; None where there is none with this id."""
        try:
            return self._stored(self.client.get_run(run_id))
        except MlflowException:
            return None

    def studies(self, task: str) -> list[StoredRun]:
        """The parent runs of the searches on a task, in every experiment, the oldest first."""
        parents = self._search(self._ids().values(), f"tags.kind = 'study' and tags.task = {quoted(task)}")
        return sorted(parents, key=lambda run: (run.started or 0, run.name))

    def comparisons(self, task: str) -> list[StoredRun]:
        """The parent runs of the comparisons on a task, in every experiment."""
        return self._search(self._ids().values(), f"tags.kind = 'comparison' and tags.task = {quoted(task)}")

    def children(self, parent: StoredRun, kind: str = "") -> list[StoredRun]:
        """The runs under a parent, in whatever experiment they are; of one kind (a tag) if it is given."""
        only = f" and tags.kind = '{kind}'" if kind else ""
        return self._search(self._ids().values(), f"tags.`{PARENT}` = '{parent.run_id}'{only}")

    def _ids(self) -> dict[str, str]:
        with store_errors():
            return {str(e.name): str(e.experiment_id) for e in every(self.client.search_experiments)}

    def _search(self, experiment_ids: Iterable[str], words: str = "") -> list[StoredRun]:
        with store_errors():
            runs = list(search_all_runs(self.client, list(experiment_ids), words))
        with ThreadPoolExecutor(READERS) as pool:
            return list(pool.map(self._stored, runs))

    def _stored(self, run: Any) -> StoredRun:
        info, tags = run.info, run.data.tags
        metrics = _in_megabytes(run.data.metrics | self._table(info.artifact_uri, tags.get(METRICS_TAG, "")))
        plain = {key: value for key, value in run.data.params.items() if not key.startswith(RESOLVED)}
        used = {key.removeprefix(RESOLVED): value for key, value in run.data.params.items() if key not in plain}
        given = _given(tags[GIVEN_TAG]) if GIVEN_TAG in tags else plain  # older runs logged both
        return StoredRun(
            info.run_id, info.run_name or "", info.status, info.start_time, metrics, plain | used, given, tags
        )

    def _table(self, folder: str, name: str) -> dict[str, float]:
        if not name:
            return {}
        uri = self.client.tracking_uri
        try:
            with tempfile.TemporaryDirectory() as place:
                file = mlflow.artifacts.download_artifacts(f"{folder}/{name}", dst_path=place, tracking_uri=uri)
                table = json.loads(Path(file).read_text(encoding="utf-8"))
            return from_table(table["columns"], table["data"])
        except (MlflowException, OSError, ValueError, KeyError, TypeError) as error:
            log.warning("effft: %s/%s cannot be read (%s); slices and intervals of its run are missing.",
                        redact(folder), name, sentence_of(error))  # fmt: skip
            return {}


def open_reader(tracking_uri: str = "") -> RunReader:
    """A reader of the store in use."""
    return RunReader(open_client(tracking_uri))


def quoted(text: str) -> str:
    """A value as MLflow's filters take it; one with both kinds of quotes cannot be written."""
    return f'"{text}"' if "'" in text else f"'{text}'"


def _in_megabytes(metrics: Mapping[str, float]) -> dict[str, float]:
    """Older runs counted memory in bytes."""
    old = [key for key in metrics if key.endswith("_bytes")]
    converted = {key.removesuffix("_bytes") + "_mb": metrics[key] / 1e6 for key in old}
    return {key: value for key, value in metrics.items() if key not in old} | converted


def _given(text: str) -> dict[str, str]:
    try:
        return {name: str(value) for name, value in json.loads(text).items()}
    except (ValueError, AttributeError):
        return {}
