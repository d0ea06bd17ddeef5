"""Runs stored in MLflow. Only through MlflowClient: no global run, so nothing that a parent process set is lost."""

import json
import logging
import math
import os
import re
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from effft.errors import InputError, RunError
from effft.redaction import redact
from effft.tracking.experiments import DEFAULT_EXPERIMENT, chosen_experiment, experiment_named, ready
from effft.tracking.postgres import retry
from effft.tracking.provenance import code_tags, process_tags, user_name
from effft.tracking.recovery import Writer, report_slow_answer
from effft.tracking.sanitize import LONGEST_PARAM, LONGEST_TAG, sentence_of, table_json, truncate
from effft.tracking.store import open_client, store_errors
from effft.tracking.tracker import NOTE, Status, Tracker, check_lengths
from effft.tracking.views import save_view

log = logging.getLogger(__name__)
METRICS_PER_BATCH, VALUES_PER_BATCH = 1000, 100  # MLflow's limits.
DESCRIBED = (
    "task", "strategy", "strategies", "backbone", "per_label", "rows", "seed", "data_seed", "study", "optuna.trial",
)  # fmt: skip
"""Tags that the first description of a run repeats."""
HOME = "effft.runs.experiment"  # Tag: the experiment that a run belongs to, wherever `mlflow run` put it.
RESOLVED = "resolved."  # Before a parameter whose own name holds what was typed at `mlflow run`.

IN_DEFAULT = (
    "effft: `mlflow run` put this run into the experiment Default; `mlflow run --experiment-name %s ...` keeps it "
    "beside the other runs of its task."
)
GENERATED_NAME = re.compile(r"[a-z]+-[a-z]+-\d{1,4}")
"""A name as MLflow makes up for a run that the user did not name ('bouncy-fox-123')."""


class MlflowTracker(Tracker):
    """A Tracker on one MLflow run. Metrics are buffered: a write costs 20 ms, however many keys it holds."""

    def __init__(self, writer: Writer, experiment_id: str, run_id: str, params: Mapping[str, str]) -> None:
        self.writer, self.experiment_id, self.run_id = writer, experiment_id, run_id
        self.client: MlflowClient = writer.client
        self.home_id, self.home = experiment_id, ""
        writer.run_id = writer.run_id or run_id
        self._params = dict(params)
        self._metrics: list[list[str | float]] = []
        self._tables: list[dict[str, str]] = []
        self._digests: dict[str, tuple[str, str]] = {}
        self._children: list[MlflowTracker] = []
        self._closed = False

    @staticmethod
    def open(
        experiment: str, run_name: str, tags: Mapping[str, str], tracking_uri: str = "", recover: bool = True
    ) -> "MlflowTracker":
        """A new run in `experiment`, or the run that `mlflow run` made for this process.

        That run keeps its experiment, the name that the user gave it, and its parameters. MLflow cannot move a run, so
        one in the Default experiment stays there, while its children are created in `experiment`. MLFLOW_RUN_ID is
        removed from the environment, so that no child process uses the run again.

        Raises:
            InputError: The store cannot be opened. RunError: The tracking server does not answer.
        """
        with report_slow_answer():
            writer = Writer(open_client(tracking_uri), recover)
            with store_errors():
                return _open(writer, experiment, run_name, tags)

    @property
    def url(self) -> str:
        """Address of the run on a tracking server; for a file, its path in the UI that `mlflow ui` opens."""
        server = str(self.client.tracking_uri)
        base = redact(server).rstrip("/") + "/" if server.startswith("http") else ""
        return f"{base}#/experiments/{self.experiment_id}/runs/{self.run_id}"

    @property
    def unsent(self) -> str:
        """Why results are in a recovery file and the command that sends them; '' when the store has all of them."""
        return f"{self.writer.reason} `{self.writer.resend_command}` sends these results." if self.writer.file else ""

    def view(self, task: str, metric: str, sets: Sequence[str], home: str = "in_domain") -> str:
        """Save a view that shows the strategies side by side; returns its address, '' where the store refuses it."""
        try:
            return save_view(self.client, self.home_id, task, metric, sets, home)
        except (MlflowException, OSError) as error:
            log.warning("the view of the runs table could not be saved: %s", sentence_of(error))
            return ""

    def params(self, values: Mapping[str, object]) -> None:
        """Log settings the run does not have yet.

        One that `mlflow run` logged with another value, as it was typed, is logged as `resolved.<name>`: MLflow never
        changes a parameter.
        """
        texts = {key: truncate(redact(str(value)), LONGEST_PARAM) for key, value in values.items()}
        typed = {f"{RESOLVED}{key}": value for key, value in texts.items() if self._params.get(key, value) != value}
        new = {key: value for key, value in (texts | typed).items() if key not in self._params}
        self._write_in_parts("params", new)
        self._params |= new

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags."""
        self._write_in_parts("tags", _texts(values))

    def _write_in_parts(self, operation: str, values: Mapping[str, str]) -> None:
        rows = list(values.items())
        for start in range(0, len(rows), VALUES_PER_BATCH):
            self.writer.write(self.run_id, operation, dict(rows[start : start + VALUES_PER_BATCH]))

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Buffer numbers; one that is not finite is left out with a warning (stores differ in what they do)."""
        now = int(time.time() * 1000)
        for key, value in values.items():
            if math.isfinite(value):
                self._metrics.append([key, float(value), now, int(step)])
            else:
                log.warning("metric %s is %s at step %s and was not logged", key, value, step)
        if len(self._metrics) >= METRICS_PER_BATCH:
            self.flush()

    def dataset(self, name: str, digest: str, context: str, origin: str, rows: int) -> None:
        """Log a data set input, with its split as MLflow's context."""
        name = f"{name}/{context}"
        self._digests[context] = (name, digest)
        data = {"name": name, "digest": digest, "context": context, "origin": redact(origin), "rows": rows}
        self.writer.write(self.run_id, "dataset", data)

    def table(self, path: str, columns: Mapping[str, Sequence[object]]) -> None:
        """Log rows as `path`.json, which MLflow's UI shows as a table; NaN becomes null."""
        check_lengths(path, columns)
        self.writer.write(self.run_id, "text", {"path": f"{path}.json", "content": table_json(columns)})
        # `MlflowClient.log_table` appends, so sending it twice would double the rows; this is the tag that it sets.
        self._tables.append({"path": f"{path}.json", "type": "table"})
        index = json.dumps(self._tables)
        if len(index) <= LONGEST_TAG:  # further tables are found by their path only
            self.tags({"mlflow.loggedArtifacts": index})

    def text(self, path: str, content: str) -> None:
        """Log an artifact of text without secrets; pages hold code and stay as they are, their values come redacted."""
        is_page = path.endswith((".html", ".svg"))
        self.writer.write(self.run_id, "text", {"path": path, "content": content if is_page else redact(content)})

    def model(self, folder: Path, metrics: Mapping[str, float]) -> str:
        """Log the saved model as an output of the run, its metrics by data set; returns its MLflow id."""
        data = {"folder": str(folder), "metrics": dict(metrics), "digests": self._digests}
        return self.writer.write(self.run_id, "model", data)

    def flush(self) -> None:
        """Write the buffered metrics."""
        while self._metrics:
            self.writer.write(self.run_id, "metrics", {"rows": self._metrics[:METRICS_PER_BATCH]})
            del self._metrics[:METRICS_PER_BATCH]

    def child(self, name: str, tags: Mapping[str, str]) -> "MlflowTracker":
        """A nested run."""
        child = _create(self.writer, self.home_id, name, {HOME: self.home, **tags, "mlflow.parentRunId": self.run_id})
        child.home = self.home
        self._children.append(child)
        return child

    def reopen(self, run_id: str) -> "MlflowTracker":
        """A child run that exists, running again in this process; what it has logged stays."""
        params = retry(lambda: self.client.get_run(run_id)).data.params
        child = MlflowTracker(self.writer, self.home_id, run_id, params)
        child.tags(process_tags())
        retry(lambda: self.client.update_run(run_id, status="RUNNING"))
        self._children.append(child)
        return child

    def close(self, status: Status = "FINISHED") -> None:
        """Flush and end the run, its open children first; a child that cannot be ended does not keep it open."""
        if self._closed:
            return
        self._closed = True
        try:
            for child in self._children:
                try:
                    child.close(status)
                except RunError as error:
                    log.warning("run %s could not be closed: %s", child.run_id, error)
            self.flush()
        finally:
            self.writer.write(self.run_id, "end", {"status": status, "time": int(time.time() * 1000)})


def _texts(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: truncate(redact(value), LONGEST_TAG) for key, value in tags.items()}


def _open(writer: Writer, experiment: str, name: str, tags: Mapping[str, str]) -> MlflowTracker:
    run_id = os.environ.pop("MLFLOW_RUN_ID", "")
    client, task, tags = writer.client, tags.get("task", ""), {HOME: experiment, **tags}
    if not run_id:
        tracker = _create(writer, chosen_experiment(client, experiment, task), name, tags)
    else:
        tracker = _adopt(writer, run_id, name, tags)
        if tracker.experiment_id == DEFAULT_EXPERIMENT:
            tracker.home_id = experiment_named(client, experiment, task)
            log.warning(IN_DEFAULT, shlex.quote(experiment))
        else:
            ready(client, client.get_experiment(tracker.experiment_id), task)
    tracker.home = experiment
    return tracker


def _create(writer: Writer, experiment_id: str, name: str, tags: Mapping[str, str]) -> MlflowTracker:
    now = int(time.time() * 1000)
    source = {"mlflow.source.name": "effft", "mlflow.source.type": "LOCAL", "mlflow.user": user_name()}
    data = {"experiment": experiment_id, "name": name, "tags": source | _all_tags(tags), "time": now}
    return MlflowTracker(writer, experiment_id, writer.write("", "start", data), {})


def _adopt(writer: Writer, run_id: str, name: str, tags: Mapping[str, str]) -> MlflowTracker:
    client = writer.client
    try:
        run = retry(lambda: client.get_run(run_id))
    except MlflowException as error:
        raise InputError(
            f"run {run_id}, which MLFLOW_RUN_ID names, is not in the store {redact(client.tracking_uri)} "
            f"({sentence_of(error)}); under `mlflow run` give MLFLOW_TRACKING_URI an absolute path."
        ) from None
    tracker = MlflowTracker(writer, run.info.experiment_id, run_id, run.data.params)
    tracker.tags({key: value for key, value in _all_tags(tags).items() if not key.startswith("mlflow.source.")})
    if GENERATED_NAME.fullmatch(run.info.run_name or ""):
        client.update_run(run_id, name=name)
    return tracker


def _all_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags of a run with those of its code and process, a kind, and a description made of them."""
    tags = {"kind": "run", **tags}
    shown = [f"{key.replace('_', ' ')} {tags[key]}" for key in DESCRIBED if tags.get(key)]
    return _texts({**code_tags(), **process_tags(), NOTE: " · ".join([f"**{tags['kind']}**", *shown]), **tags})
