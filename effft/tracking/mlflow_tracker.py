"""Runs kept in MLflow. Through MlflowClient only: no global run, and nothing that a parent process set is lost."""

import json
import logging
import math
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ParamSpec, TypeVar

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from effft.errors import InputError, RunError
from effft.redaction import redact
from effft.tracking.orphaned_runs import close_orphaned_runs
from effft.tracking.provenance import code_tags, process_tags, user_name
from effft.tracking.recovery import Line, refused, short_patience
from effft.tracking.retry import retry
from effft.tracking.sanitize import LONGEST_PARAM, LONGEST_TAG, safe_key, sentence_of, table_json, truncate
from effft.tracking.store import prepare_store, quiet_mlflow, resolve_uri
from effft.tracking.tracker import Status, same_length
from effft.tracking.views import save_view

log = logging.getLogger(__name__)
MOST_METRICS, MOST_PARAMS = 1000, 100
HOME = "effft.runs.experiment"
P = ParamSpec("P")
T = TypeVar("T")


def is_generated(name: str) -> bool:
    """Whether MLflow made this name up, as it does for a run that the user did not name ('bouncy-fox-123').

    Nothing in a run says who named it, so the words are looked up in MLflow's own lists.
    """
    parts = name.split("-")
    if len(parts) != 3 or not parts[2].isdecimal():
        return False
    try:
        from mlflow.utils.name_utils import _GENERATOR_NOUNS, _GENERATOR_PREDICATES
    except ImportError:  # private, and may move: the shape of the name must do then
        return re.fullmatch(r"[a-z]+-[a-z]+-\d+", name) is not None
    return parts[0] in _GENERATOR_PREDICATES and parts[1] in _GENERATOR_NOUNS


class MlflowTracker:
    """A Tracker on one MLflow run. Metrics are buffered: a write costs 20 ms, however many keys it holds."""

    def __init__(self, line: Line, experiment_id: str, run_id: str, known: Mapping[str, str]) -> None:
        self.line, self.experiment_id, self.run_id = line, experiment_id, run_id
        self.client: MlflowClient = line.client
        line.root = line.root or run_id
        self._known = dict(known)
        self._home: dict[str, str] = {}
        self._metrics: list[list[str | float]] = []
        self._tables: list[dict[str, str]] = []
        self._digests: dict[str, tuple[str, str]] = {}
        self._children: list[MlflowTracker] = []
        self._closed = False

    @staticmethod
    def open(
        experiment: str, run_name: str, tags: Mapping[str, str], tracking_uri: str = "", recover: bool = True
    ) -> "MlflowTracker":
        """A new run in `experiment` (made when absent), or the run that `mlflow run` made for this process.

        The adopted run stays in its experiment (MLflow cannot move it; the tag `effft.runs.experiment` names the one it
        belongs to), keeps the name the user gave it and every parameter it has. Its environment variable is removed,
        so that no child process adopts it again. recover: when the server goes away, go on with a file.

        Raises:
            InputError: the store cannot be opened. RunError: the tracking server does not answer.
        """
        quiet_mlflow()
        short_patience()
        uri = resolve_uri(tracking_uri)
        prepare_store(uri)
        try:
            client = MlflowClient(tracking_uri=uri)
            line = Line(client, recover)
            retry(lambda: close_orphaned_runs(client))
            every = {**code_tags(), **process_tags(), HOME: experiment, **tags}
            adopted = os.environ.pop("MLFLOW_RUN_ID", "")
            if adopted:
                tracker = _adopt(line, adopted, run_name, every)
            else:
                tracker = _create(line, retry(lambda: _experiment(client, experiment)), run_name, every)
            tracker._home = {HOME: experiment}
            return tracker
        except (MlflowException, ImportError) as error:
            raise InputError(f"tracking store: {sentence_of(error)} (flag --tracking-uri).") from None

    @property
    def url(self) -> str:
        """Address of the run on a tracking server; for a file, its path in the UI that `mlflow ui` opens."""
        server = str(self.client.tracking_uri)
        base = redact(server).rstrip("/") + "/" if server.startswith("http") else ""
        return f"{base}#/experiments/{self.experiment_id}/runs/{self.run_id}"

    @property
    def remedy(self) -> str:
        """The command that sends what the store has not taken; '' when it has all of it."""
        return self.line.remedy

    @property
    def home(self) -> str:
        """The experiment that the run belongs to, wherever `mlflow run` put it."""
        return self._home.get(HOME) or str(self.client.get_experiment(self.experiment_id).name)

    def view(self, task: str, metric: str, sets: Sequence[str]) -> str:
        """Address of a view that lines the strategies up in the UI; '' where the store does not take it."""
        try:
            return save_view(self.client, self.experiment_id, task, metric, sets)
        except (MlflowException, OSError) as error:
            log.warning("the view of the runs table could not be kept: %s", sentence_of(error))
            return ""

    def params(self, values: Mapping[str, object]) -> None:
        """Log settings the run does not have yet (MLflow refuses another spelling of a known one)."""
        short = {safe_key(key): truncate(redact(str(value)), LONGEST_PARAM) for key, value in values.items()}
        new = {key: value for key, value in short.items() if key not in self._known}
        for part in _parts(new):
            self.line.write(self.run_id, "params", part)
        self._known |= new

    def tags(self, values: Mapping[str, str]) -> None:
        """Set labels."""
        for part in _parts(_safe_tags(values)):
            self.line.write(self.run_id, "tags", part)

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Buffer numbers; one that is not finite is left out with a warning (stores differ in what they do)."""
        now = int(time.time() * 1000)
        for key, value in values.items():
            if math.isfinite(value):
                self._metrics.append([safe_key(key), float(value), now, int(step)])
            else:
                log.warning("metric %s is %s at step %s and was not logged", key, value, step)
        if len(self._metrics) >= MOST_METRICS:
            self.flush()

    def dataset(self, name: str, digest: str, context: str, origin: str, rows: int) -> None:
        """Log a data set input, with its split as MLflow's context."""
        self._digests[context] = (f"{name}/{context}", digest)
        where = redact(origin)
        data = {"name": f"{name}/{context}", "digest": digest, "context": context, "origin": where, "rows": rows}
        self.line.write(self.run_id, "dataset", data)

    def table(self, path: str, columns: Mapping[str, Sequence[object]]) -> None:
        """Log rows as `path`.json, which MLflow's UI shows as a table; NaN becomes null."""
        same_length(path, columns)
        self.line.write(self.run_id, "text", {"path": f"{path}.json", "content": table_json(columns)})
        self._tables.append({"path": f"{path}.json", "type": "table"})
        index = json.dumps(self._tables)
        if len(index) <= LONGEST_TAG:  # more than about a hundred tables are found by their path only
            self.tags({"mlflow.loggedArtifacts": index})

    def text(self, path: str, content: str) -> None:
        """Log an artifact of text."""
        self.line.write(self.run_id, "text", {"path": path, "content": redact(content)})

    def model(self, folder: Path, metrics: Mapping[str, float]) -> str:
        """Log the saved model as an output of the run, its metrics by data set; returns its MLflow id."""
        data = {"folder": str(folder), "metrics": dict(metrics), "digests": self._digests}
        return self.line.write(self.run_id, "model", data)

    def note(self, markdown: str) -> None:
        """Set the description."""
        self.tags({"mlflow.note.content": markdown})

    def flush(self) -> None:
        """Write the buffered metrics."""
        while self._metrics:
            self.line.write(self.run_id, "metrics", {"rows": self._metrics[:MOST_METRICS]})
            del self._metrics[:MOST_METRICS]

    def child(self, name: str, tags: Mapping[str, str]) -> "MlflowTracker":
        """A nested run in the same experiment."""
        every = {**code_tags(), **process_tags(), **self._home, **tags, "mlflow.parentRunId": self.run_id}
        child = _create(self.line, self.experiment_id, name, every)
        self._children.append(child)
        return child

    def close(self, status: Status = "FINISHED") -> None:
        """Flush and end the run, its open children first; a child that cannot be ended does not keep it open."""
        if self._closed:
            return
        self._closed = True
        try:
            for child in self._children:
                child._close_quietly(status)
            self.flush()
        finally:
            self.line.write(self.run_id, "end", {"status": status, "time": int(time.time() * 1000)})

    def _close_quietly(self, status: Status) -> None:
        try:
            self.close(status)
        except RunError as error:
            log.warning("run %s could not be closed: %s", self.run_id, error)


def _send(call: Callable[P, T], *values: P.args, **named: P.kwargs) -> T:
    """Call MLflow; what it refuses, or cannot write, is a RunError in a sentence."""
    try:
        return retry(lambda: call(*values, **named))
    except (MlflowException, OSError) as error:
        raise refused(error) from error


def _parts(values: Mapping[str, str]) -> list[dict[str, str]]:
    rows = list(values.items())
    return [dict(rows[start : start + MOST_PARAMS]) for start in range(0, len(rows), MOST_PARAMS)]


def _safe_tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {safe_key(key): truncate(redact(value), LONGEST_TAG) for key, value in tags.items()}


def _create(line: Line, experiment_id: str, name: str, tags: Mapping[str, str]) -> MlflowTracker:
    source = {"mlflow.source.name": "effft", "mlflow.source.type": "LOCAL", "mlflow.user": user_name()}
    now = int(time.time() * 1000)
    data = {"experiment": experiment_id, "name": name, "tags": {**source, **_safe_tags(tags)}, "time": now}
    return MlflowTracker(line, experiment_id, line.write("", "start", data), {})


def _adopt(line: Line, run_id: str, name: str, tags: Mapping[str, str]) -> MlflowTracker:
    client = line.client
    try:
        run = retry(lambda: client.get_run(run_id))
    except MlflowException as error:
        raise InputError(
            f"run {run_id}, which MLFLOW_RUN_ID names, is not in the store {redact(client.tracking_uri)} "
            f"({sentence_of(error)}); under `mlflow run` give MLFLOW_TRACKING_URI an absolute path."
        ) from None
    tracker = MlflowTracker(line, run.info.experiment_id, run_id, run.data.params)
    tracker.tags({key: value for key, value in tags.items() if not key.startswith("mlflow.source.")})
    if is_generated(run.info.run_name or ""):
        client.update_run(run_id, name=name)
    return tracker


def _experiment(client: MlflowClient, name: str) -> str:
    """Id of the experiment: of MLFLOW_EXPERIMENT_ID / _NAME when set, else `name`; made when absent."""
    if chosen := os.environ.get("MLFLOW_EXPERIMENT_ID", ""):
        return chosen
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "") or name
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException:  # another process made it in between
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise InputError(f"experiment {name!r} was deleted; restore it in MLflow or name another (--experiment).")
    return str(found.experiment_id)
