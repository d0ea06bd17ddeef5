"""What a tracking store does not take is kept in a recovery file; see `effft.tracking.resend`.

Everything a run logs is an operation: a name and plain data, so that it can go to a store now or later from a file.
"""

import json
import logging
import shlex
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from effft.disk import check_regular
from effft.errors import InputError, RunError
from effft.redaction import redact
from effft.tracking.artifacts import artifacts_of, check_files, put_text
from effft.tracking.models import log_saved_model
from effft.tracking.postgres import retry
from effft.tracking.provenance import process_tags
from effft.tracking.sanitize import sentence_of

log = logging.getLogger(__name__)
FORMAT = "effft recovery 1"
PLACEHOLDER = "effft.kept_run"  # Tag of a run that started while the store was away: its name in the file.

MAX_WAIT, SLOW = 45.0, 5.0
"""Seconds that a database may be down before the file is used, and after which waiting is reported."""

Data = dict[str, Any]


def perform(client: MlflowClient, run_id: str, operation: str, data: Data) -> str:
    """Send one operation to a store; return the id of the run or model that it made, else ''.

    Sending an operation twice does no harm, so a file of which a part has arrived can be sent as a whole.
    """
    match operation:
        case "start":
            return _start(client, run_id, data)
        case "params":
            client.log_batch(run_id, params=[Param(key, value) for key, value in data.items()])
        case "tags":
            client.log_batch(run_id, tags=[RunTag(key, value) for key, value in data.items()])
        case "metrics":
            client.log_batch(run_id, metrics=[Metric(*row) for row in data["rows"]])
        case "dataset":
            profile, source = json.dumps({"num_rows": data["rows"]}), json.dumps({"uri": data["origin"]})
            dataset = Dataset(data["name"], data["digest"], "local", source, None, profile)
            inputs = [DatasetInput(dataset, [InputTag("mlflow.data.context", data["context"])])]
            try:
                client.log_inputs(run_id, inputs)
            except MlflowException:  # another process may have written the same data set in between
                client.log_inputs(run_id, inputs)
        case "text":
            put_text(artifacts_of(client, run_id), data["path"], data["content"])
        case "model":
            outputs = client.get_run(run_id).outputs
            if not (outputs and outputs.model_outputs):
                return log_saved_model(client, run_id, Path(data["folder"]), data["metrics"], data["digests"])
        case "end":
            client.set_terminated(run_id, data["status"], data["time"])
    return ""


def _start(client: MlflowClient, placeholder: str, data: Data) -> str:
    """Create a run; one that has a placeholder may have been created by an earlier attempt and is then found."""
    tags = dict(data["tags"])
    if placeholder:
        created = client.search_runs([data["experiment"]], f"tags.`{PLACEHOLDER}` = '{placeholder}'", max_results=1)
        if created:
            return str(created[0].info.run_id)
        tags[PLACEHOLDER] = placeholder
    run_id = str(client.create_run(data["experiment"], data["time"], tags, data["name"]).info.run_id)
    if not run_id:
        raise MlflowException("it gave the run no id")
    return run_id


def check_arrived(client: MlflowClient, run_id: str, operations: Sequence[tuple[str, Data]]) -> None:
    """Read a run back: a server, or what stands before it, may answer a write with success and keep nothing.

    Raises:
        MlflowException: Something is not there.
    """
    sent: dict[str, object] = {}
    texts: dict[str, int] = {}
    for operation, data in operations:
        match operation:
            case "params" | "tags":
                sent |= {f"{operation[:-1]} {key}": True for key in data}
            case "metrics":
                sent |= {f"metric {row[0]}": True for row in data["rows"]}
            case "dataset":
                sent[f"data set {data['name']}"] = True
            case "text":
                texts[data["path"]] = len(data["content"].encode())
            case "model":
                sent["model"] = True
            case "end":
                sent["status"] = data["status"]
    run = client.get_run(run_id)
    found: dict[str, object] = {"status": run.info.status, "model": bool(run.outputs and run.outputs.model_outputs)}
    for kind in ("param", "tag", "metric"):
        found |= {f"{kind} {key}": True for key in getattr(run.data, f"{kind}s")}
    found |= {f"data set {each.dataset.name}": True for each in (run.inputs.dataset_inputs if run.inputs else ())}
    if lost := [name for name, value in sent.items() if found.get(name) != value]:
        raise MlflowException(f"it answered each write with success, but {lost[0]} of run {run_id} is not there")
    if texts:
        check_files(artifacts_of(client, run_id), texts)


class Writer:
    """Sends what a run and its children log to the store; after a failure, all that follows goes to a recovery file.

    What a server said that it took is kept until the run is read back at its end, and else goes to the file too.

    recover: whether to go on with a file (False: raise, because the results are kept elsewhere).
    """

    def __init__(self, client: MlflowClient, recover: bool = True) -> None:
        self.client, self.recover = client, recover
        self.run_id = ""
        self.unproved: dict[str, list[tuple[str, Data]]] = {}
        self.file: RecoveryFile | None = None
        self.reason = ""

    @property
    def resend_command(self) -> str:
        """The command that sends the recovery file; '' when everything has arrived."""
        if self.file is None:
            return ""
        path = self.file.path
        return f"python -m effft resend {shlex.quote(path.name if path.parent == Path.cwd() else str(path))}"

    def write(self, run_id: str, operation: str, data: Data) -> str:
        """Perform an operation, or keep it; returns the id of the run or model that it made, else ''.

        Raises:
            RunError: Neither the store nor the recovery file takes it.
        """
        failure = None
        if self.file is None:
            try:
                with report_slow_answer():
                    return self._send(run_id, operation, data)
            except Exception as error:  # a refusal, a timeout, an answer that is no JSON, a full disk: all are kept
                failure = store_error(error)
                if not self.recover:
                    raise failure from error
        try:
            if self.file is None:
                self.file = RecoveryFile.create(self.run_id or "runs", str(self.client.tracking_uri))
                for run, operations in self.unproved.items():
                    for each in operations:
                        self.file.append(run, *each)
                self.unproved.clear()
            name = self.file.append(run_id, operation, data)
        except OSError as error:
            self.file = None  # what follows is tried on the store again
            raise failure or RunError(f"the recovery file cannot be written: {error}.") from error
        if failure is not None:
            self.reason = str(failure)
            log.warning("effft: %s The run goes on; `%s` sends its results.", failure, self.resend_command)
        return name

    def _send(self, run_id: str, operation: str, data: Data) -> str:
        made = retry(lambda: perform(self.client, run_id, operation, data), MAX_WAIT)
        if not str(self.client.tracking_uri).startswith("http") or operation == "start":
            return made  # a database raises what goes wrong
        kept = self.unproved.setdefault(run_id, [])
        if operation in ("model", "end"):
            check_arrived(self.client, run_id, [*kept, (operation, data)])
        if operation == "end":
            del self.unproved[run_id]
        elif operation != "model":  # its folder is gone soon
            kept.append((operation, data))
        return made


@contextmanager
def report_slow_answer() -> Iterator[None]:
    """Say so when the block takes longer than SLOW seconds."""
    timer = threading.Timer(SLOW, log.warning, ["effft: the tracking store is slow to answer; waiting for it."])
    timer.daemon = True
    try:
        with suppress(RuntimeError):  # where memory has no room for a thread, nothing is reported
            timer.start()
        yield
    finally:
        timer.cancel()


def store_error(error: BaseException) -> RunError:
    """What the store said, as one sentence."""
    reason = (sentence_of(error) or type(error).__name__).rstrip(".")
    full = "disk is full" in reason or "No space left" in reason
    return RunError(f"the tracking store did not take what was logged: {reason}{'; make room' if full else ''}.")


class RecoveryFile:
    """A JSON line about the run, then one per operation; saved models are copied into a folder beside the file.

    Every line reaches the system at once, so kill -9 loses none; one that it cut short is skipped.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.models = path, path.with_suffix(".models")

    @staticmethod
    def create(run_id: str, server: str) -> "RecoveryFile":
        """A new file in the current folder, else in that for temporary files."""
        name = f"effft-recovery-{run_id[:12]}-{uuid.uuid4().hex[:6]}.jsonl"
        head = {"what": FORMAT, "id": uuid.uuid4().hex, "run": run_id, "server": redact(server)}
        file = RecoveryFile(Path.cwd() / name)
        try:
            file._write({**head, "process": process_tags()})
        except OSError:
            file = RecoveryFile(Path(tempfile.gettempdir()) / name)
            file._write({**head, "process": process_tags()})
        return file

    def append(self, run_id: str, operation: str, data: Data) -> str:
        """Keep an operation; returns the placeholder that stands for a new run, else ''."""
        if operation == "start":
            run_id = run_id or f"kept-{uuid.uuid4().hex}"
        if operation == "model":
            shutil.copytree(data["folder"], self.models / run_id, dirs_exist_ok=True)
            data = {**data, "folder": run_id}
        self._write({"run": run_id, "do": operation, "with": data})
        return run_id if operation == "start" else ""

    def mark_sent(self) -> None:
        """Note that all of it was sent, and remove the models."""
        self._write({"sent": time.strftime("%Y-%m-%d %H:%M:%S")})
        shutil.rmtree(self.models, ignore_errors=True)

    def _write(self, line: Data) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def read(self) -> Iterator[Data]:
        """The lines, the one about the run first."""
        check_regular(self.path)
        try:
            with self.path.open(encoding="utf-8") as file:
                lines = list(file)
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"recovery file {self.path} cannot be read: {reason}.") from None
        for number, line in enumerate(lines or [""], 1):
            try:
                entry = json.loads(line)
            except ValueError:
                entry = None
            if number == 1 and not (isinstance(entry, dict) and entry.get("what") == FORMAT):
                raise InputError(f"{self.path} is no recovery file; its name is effft-recovery-....jsonl.")
            if isinstance(entry, dict):
                yield entry
            elif number < len(lines):
                raise InputError(f"recovery file {self.path}, line {number}: it is damaged; remove that line.")
