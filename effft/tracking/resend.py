"""Sending what a run kept while its tracking server was away: all of it, exactly once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from effft.errors import InputError, RunError
from effft.redaction import redact
from effft.tracking.operations import OPERATIONS
from effft.tracking.provenance import is_dead, process_tags
from effft.tracking.recovery import RecoveryFile, is_gone, refused, short_patience
from effft.tracking.store import prepare_store, quiet_mlflow, resolve_uri

SENT = "effft.recovered"
"""Tag of a run whose kept writes have arrived: the id of the file."""


@dataclass(frozen=True)
class Sent:
    """What came of it. runs: ids of those written to; again: it had been sent before, so nothing was done."""

    runs: tuple[str, ...]
    writes: int
    again: bool = False


def resend(path: Path, tracking_uri: str = "") -> Sent:
    """Send a recovery file. Every write may arrive twice without harm, so a sending that broke off is begun anew.

    Raises:
        InputError: no recovery file; its run goes on still; the store is another one. RunError: the server is away.
    """
    from filelock import FileLock

    file = RecoveryFile(path)
    head, *lines = file.read()
    with FileLock(f"{path}.lock"):
        if any("sent" in line for line in file.read()):
            return Sent((), 0, again=True)
        _must_be_over(head, path)
        client = _client(tracking_uri, str(head["server"]))
        names: dict[str, str] = {}
        try:
            root = _start(client, head, lines, names)
            if client.get_run(root).data.tags.get(SENT) == head["id"]:  # a copy of the file was sent
                file.mark_sent()
                return Sent((), 0, again=True)
            for line in lines:
                _write(client, file, line, names)
            _end_rest(client, [root, *names.values()])
            client.set_tag(root, SENT, head["id"])
        except (MlflowException, OSError) as error:
            raise refused(error) from None
        file.mark_sent()
    Path(f"{path}.lock").unlink(missing_ok=True)
    return Sent(tuple(dict.fromkeys([root, *names.values()])), len(lines))


def _must_be_over(head: dict[str, Any], path: Path) -> None:
    tags = head["process"]
    if tags["effft.host"] == process_tags()["effft.host"] and not is_dead(tags) and tags != process_tags():
        raise InputError(f"the run of {path} goes on still (process {tags['effft.pid']}); send it when it has ended.")


def _client(tracking_uri: str, server: str) -> MlflowClient:
    quiet_mlflow()
    short_patience()
    uri = resolve_uri(tracking_uri)
    uri = uri if tracking_uri or uri.startswith("http") else server
    if "://***@" in uri:
        raise InputError(f"the password of {server} is not in the file; give the address with --tracking-uri.")
    prepare_store(uri)
    return MlflowClient(tracking_uri=uri)


def _start(client: MlflowClient, head: dict[str, Any], lines: list[dict[str, Any]], names: dict[str, str]) -> str:
    """The id of the run that the file belongs to; one that was begun while the store was away is begun now."""
    known = str(head["run"])
    if known != "runs":
        try:
            client.get_run(known)
        except MlflowException as error:
            if is_gone(error):
                raise
            raise InputError(
                f"run {known} is not in {redact(str(client.tracking_uri))}; give the store it was begun in "
                "(flag --tracking-uri)."
            ) from None
        return known
    first = next((line for line in lines if line.get("do") == "start"), None)
    if first is None:
        raise RunError("the recovery file holds no run.")
    names[first["run"]] = str(OPERATIONS["start"](client, first["run"], first["with"]))
    return names[first["run"]]


def _write(client: MlflowClient, file: RecoveryFile, line: dict[str, Any], names: dict[str, str]) -> None:
    run_id, what, data = line["run"], line["do"], dict(line["with"])
    if what == "start":
        parent = data["tags"].get("mlflow.parentRunId", "")
        data["tags"] = {**data["tags"], "mlflow.parentRunId": names.get(parent, parent)} if parent else data["tags"]
        names[run_id] = str(OPERATIONS["start"](client, run_id, data))
        return
    run_id = names.get(run_id, run_id)
    if what == "model":
        outputs = client.get_run(run_id).outputs
        if outputs and outputs.model_outputs:
            return
        data["folder"] = str(file.models / data["folder"])
    OPERATIONS[what](client, run_id, data)


def _end_rest(client: MlflowClient, runs: list[str]) -> None:
    """A run that was not ended in the file is one whose process was killed."""
    for run_id in dict.fromkeys(runs):
        if client.get_run(run_id).info.status == "RUNNING":
            client.set_terminated(run_id, "KILLED")
