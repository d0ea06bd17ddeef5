"""When a tracking server goes away in the middle of a run: what it did not take is kept in a file beside the user."""

import json
import logging
import os
import shlex
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from effft.errors import InputError, RunError
from effft.redaction import redact
from effft.tracking.operations import OPERATIONS, Data
from effft.tracking.provenance import process_tags
from effft.tracking.retry import retry
from effft.tracking.sanitize import sentence_of
from effft.tracking.store import sqlite_path

log = logging.getLogger(__name__)
FORMAT = "effft recovery 1"
GONE = 500
"""HTTP status from which it is the server's fault, and not that of what was written."""


class RecoveryFile:
    """A JSON line for the run it belongs to, then one for every write; the models stand in a folder beside it.

    Every line is handed to the system at once, so a kill -9 loses none; one that it cut short is passed over.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def models(self) -> Path:
        """Folder of the models."""
        return self.path.with_suffix(".models")

    @staticmethod
    def new(run_id: str, server: str) -> "RecoveryFile":
        """In the current folder, or that of temporary files where nothing can be written."""
        name = f"effft-recovery-{run_id[:12]}-{uuid.uuid4().hex[:6]}.jsonl"
        head: dict[str, Any] = {
            "what": FORMAT,
            "id": uuid.uuid4().hex,
            "run": run_id,
            "server": redact(server),
        }
        head["process"] = process_tags()
        for folder in (Path.cwd(), Path(tempfile.gettempdir())):
            made = RecoveryFile(folder / name)
            try:
                made._append(head)
            except OSError:
                continue
            return made
        raise RunError(f"the tracking server is away, and no recovery file can be written in {Path.cwd()}.")

    def add(self, run_id: str, what: str, data: Data) -> str:
        """Keep one write; returns the name that a run begun now goes by."""
        if what == "start":
            run_id = run_id or f"kept-{uuid.uuid4().hex}"
        if what == "model":
            folder = self.models / run_id
            shutil.copytree(data["folder"], folder, dirs_exist_ok=True)
            data = {**data, "folder": run_id}
        self._append({"run": run_id, "do": what, "with": data})
        return run_id if what == "start" else ""

    def mark_sent(self) -> None:
        """Say in the file that all of it was sent; the models are no longer needed."""
        self._append({"sent": time.strftime("%Y-%m-%d %H:%M:%S")})
        shutil.rmtree(self.models, ignore_errors=True)

    def _append(self, line: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def read(self) -> Iterator[dict[str, Any]]:
        """The lines, the head first.

        Raises:
            InputError: it cannot be read, or it is another kind of file.
        """
        try:
            with self.path.open(encoding="utf-8") as file:
                lines = list(file)
        except (OSError, UnicodeDecodeError) as error:
            said = getattr(error, "strerror", None) or error
            raise InputError(f"recovery file {self.path} cannot be read: {said}.") from None
        for place, line in enumerate(lines):
            try:
                found = json.loads(line)
            except ValueError:
                found = None
            if place == 0 and not (isinstance(found, dict) and found.get("what") == FORMAT):
                raise InputError(f"{self.path} is no recovery file; its name is effft-recovery-....jsonl.")
            if isinstance(found, dict):
                yield found
            elif place + 1 < len(lines):
                raise InputError(f"recovery file {self.path}, line {place + 1}: it is damaged; remove that line.")


class Line:
    """The way of a run and its children to the store.

    root: id of the run, once it has one. recover: when a server is gone, go on with a file (False: what is logged
    can be made again, so fail).
    """

    def __init__(self, client: MlflowClient, recover: bool = True) -> None:
        self.client = client
        self.recover = recover and sqlite_path(str(client.tracking_uri)) is None
        self.root = ""
        self.file: RecoveryFile | None = None

    @property
    def remedy(self) -> str:
        """The command that sends what was kept; '' when everything has arrived."""
        if self.file is None:
            return ""
        path = self.file.path
        shown = path.name if path.parent == Path.cwd() else str(path)
        return f"python -m effft resend {shlex.quote(shown)}"

    def write(self, run_id: str, what: str, data: Data) -> str:
        """To the store, or to the file once the store is away; returns the id of what was made, where there is one.

        Raises:
            RunError: the store refuses it, or cannot write; neither can the file.
        """
        if self.file is None:
            try:
                return retry(lambda: OPERATIONS[what](self.client, run_id, data) or "")
            except (MlflowException, OSError) as error:
                if not (self.recover and is_gone(error)):
                    raise refused(error) from error
                self.file = RecoveryFile.new(self.root or "runs", str(self.client.tracking_uri))
                log.warning(
                    "effft: the tracking server does not answer any more; the run goes on, and `%s` sends its results.",
                    self.remedy,
                )
        try:
            return self.file.add(run_id, what, data)
        except OSError as error:
            raise RunError(f"the tracking server is away, and {self.file.path} cannot be written ({error}).") from error


def is_gone(error: MlflowException | OSError) -> bool:
    """Whether nobody (or a server that is out of order) answers: no fault of what was sent."""
    return not isinstance(error, MlflowException) or status(error) >= GONE


def status(error: Any) -> int:
    """The HTTP status of what MLflow raised."""
    return int(error.get_http_status_code())


def refused(error: BaseException) -> RunError:
    """What the store says, as a sentence."""
    said = sentence_of(error)
    full = "disk is full" in said or "No space left" in said
    remedy = "; make room, and give the same command again." if full else ""
    return RunError(f"the tracking store did not take what was logged: {said}{remedy}")


def short_patience() -> None:
    """Give a server that is gone a few seconds, where MLflow would try for four minutes; what the user set stays."""
    patience = {"MAX_RETRIES": "3", "BACKOFF_FACTOR": "1", "BACKOFF_JITTER": "0", "TIMEOUT": "30"}
    for name, value in patience.items():
        os.environ.setdefault(f"MLFLOW_HTTP_REQUEST_{name}", value)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # a line for every try
