"""`effft resend`: a recovery file is sent to its store, exactly once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from effft.errors import InputError
from effft.redaction import redact
from effft.tracking.provenance import is_dead, process_tags
from effft.tracking.recovery import Data, RecoveryFile, check_arrived, perform, store_error
from effft.tracking.store import open_client, resolve_uri

RECOVERED = "effft.recovered"  # Tag of a run whose recovery file has arrived.


@dataclass(frozen=True)
class Resent:
    """What `resend` did: the ids of the runs written to and how many operations; none if it was sent before."""

    runs: tuple[str, ...] = ()
    operations: int = 0

    @property
    def already_sent(self) -> bool:
        """Whether an earlier call had sent everything."""
        return not self.runs


def resend(path: Path, tracking_uri: str = "") -> Resent:
    """Send a recovery file to its store; one whose sending broke off is sent again from the start.

    Raises:
        InputError: It is no recovery file, its run is still going on, or the store is another one.
        RunError: The store does not take it.
    """
    file = RecoveryFile(path)
    head, *lines = file.read()
    with FileLock(f"{path}.lock"):
        if any("sent" in line for line in file.read()):
            return Resent()
        _must_be_over(head, path)
        client = open_client(_address(tracking_uri, str(head["server"])))
        try:
            runs = _send(client, file, head, lines)
        except (MlflowException, OSError) as error:
            raise store_error(error) from None
        file.mark_sent()
    Path(f"{path}.lock").unlink(missing_ok=True)
    return Resent(tuple(runs), len(lines)) if runs else Resent()


def _send(client: MlflowClient, file: RecoveryFile, head: Data, lines: list[Data]) -> list[str]:
    """Send all lines; returns the ids of the runs, [] if a copy of the file had been sent."""
    sent: dict[str, list[tuple[str, Data]]] = {}
    ids: dict[str, str] = {} if head["run"] == "runs" else {head["run"]: head["run"]}
    if ids and _run(client, head["run"]).data.tags.get(RECOVERED) == head["id"]:
        return []
    for line in lines:
        run_id, operation, data = line["run"], line["do"], dict(line["with"])
        if operation == "start":
            parent = data["tags"].get("mlflow.parentRunId", "")
            tags = {"mlflow.parentRunId": ids.get(parent, parent)} if parent else {}
            ids[run_id] = perform(client, run_id, operation, {**data, "tags": data["tags"] | tags})
            if len(ids) == 1 and _run(client, ids[run_id]).data.tags.get(RECOVERED) == head["id"]:
                return []
            continue
        if operation == "model":
            data["folder"] = str(file.models / data["folder"])
        run_id = ids.setdefault(run_id, run_id)
        perform(client, run_id, operation, data)
        sent.setdefault(run_id, []).append((operation, data))
    for run_id, operations in sent.items():
        check_arrived(client, run_id, operations)
    for run_id in ids.values():  # a run that the file does not end is one whose process was killed
        if client.get_run(run_id).info.status == "RUNNING":
            client.set_terminated(run_id, "KILLED")
    if ids:
        client.set_tag(next(iter(ids.values())), RECOVERED, head["id"])
    return list(ids.values())


def _run(client: MlflowClient, run_id: str) -> Any:
    try:
        return client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        store = redact(str(client.tracking_uri))
        raise InputError(f"run {run_id} is not in {store}; give the store it began in (flag --tracking-uri).") from None


def _must_be_over(head: Data, path: Path) -> None:
    tags = head["process"]
    if tags["effft.host"] == process_tags()["effft.host"] and not is_dead(tags) and tags != process_tags():
        pid = tags["effft.pid"]
        raise InputError(f"the run of {path} is still going on (process {pid}); send it when it has ended.")


def _address(tracking_uri: str, server: str) -> str:
    uri = resolve_uri(tracking_uri)
    uri = uri if tracking_uri or uri.startswith("http") else server
    if "://***@" in uri:
        raise InputError(f"the password of {server} is not in the file; give the address with --tracking-uri.")
    return uri
