"""A store that stops taking what a run logs: nothing is lost, and nothing arrives twice."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from effft.cli.exit_codes import run_command_line
from effft.errors import InputError, RunError
from effft.tracking.mlflow_tracker import MlflowTracker
from effft.tracking.resend import resend
from tests.runs import runs_in


@contextmanager
def broken(uri: str, refused: str = "") -> Iterator[None]:
    """For a while the store lacks its table of runs, or refuses one kind of write to it ('update')."""
    if refused:
        begin = f"create trigger broken before {refused} on runs begin select raise(abort, 'broken'); end"
        end = "drop trigger broken"
    else:
        begin, end = "alter table runs rename to runs_gone", "alter table runs_gone rename to runs"
    execute(uri, begin)
    try:
        yield
    finally:
        execute(uri, end)


def execute(uri: str, words: str) -> None:
    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"), isolation_level=None)) as connection:
        connection.execute("pragma legacy_alter_table=on")
        connection.execute(words)


def steps(tracker: MlflowTracker) -> list[Callable[[], object]]:
    """A bit of everything, with a run under the run, in steps."""
    child: list[MlflowTracker] = []
    return [
        lambda: tracker.params({"rank": 8}),
        lambda: (tracker.metrics({"train/loss": 0.5}, 1), tracker.flush()),
        lambda: tracker.dataset("small", "abc", "train", "x.csv", 3),
        lambda: child.append(tracker.child("one", {"strategy": "lora"})),
        lambda: child[0].metrics({"in_domain/mcc": 0.25}, 3),
        lambda: child[0].table("predictions/in_domain", {"row": [0, 1]}),
        lambda: child[0].close(),
        lambda: tracker.note("done"),
        lambda: tracker.close(),
    ]


def stored(uri: str, name: str = "e") -> list[tuple[object, ...]]:
    """What the store has of the experiment, without ids and times."""
    return sorted(described(MlflowClient(uri), run) for run in runs_in(uri, name))


def described(client: MlflowClient, run: Any) -> tuple[object, ...]:
    tags = {
        k: v for k, v in run.data.tags.items() if k in ("strategy", "mlflow.note.content", "mlflow.loggedArtifacts")
    }
    parent = run.data.tags.get("mlflow.parentRunId", "")
    above = client.get_run(parent).info.run_name if parent else ""
    files = [file.path for file in client.list_artifacts(run.info.run_id)]
    inputs = [i.dataset.digest for i in run.inputs.dataset_inputs]
    histories = [(key, len(client.get_metric_history(run.info.run_id, key))) for key in sorted(run.data.metrics)]
    numbers = (sorted(run.data.metrics.items()), histories, sorted(run.data.params.items()))
    return run.info.run_name, run.info.status, above, str(numbers), str(sorted(tags.items())), str(files), str(inputs)


@pytest.mark.parametrize("step", range(9))
def test_what_a_store_missed_arrives_once(tracking_uri: str, step: int) -> None:
    for call in steps(MlflowTracker.open("e", "whole", {}, tracking_uri)):
        call()
    whole = stored(tracking_uri)
    tracker = MlflowTracker.open("e", "whole", {}, tracking_uri)
    calls = steps(tracker)
    for call in calls[:step]:
        call()
    with broken(tracking_uri):
        for call in calls[step:]:
            call()
    (path,) = Path().glob("effft-recovery-*.jsonl")
    assert f"`python -m effft resend {path}` sends these results." in tracker.unsent
    assert "no such table: runs" in tracker.unsent
    assert stored(tracking_uri) != sorted(whole * 2)
    lines = path.read_text()
    with broken(tracking_uri, "update"):  # the sending breaks off half-way, and is begun anew
        assert run_command_line(["resend", str(path), "--tracking-uri", tracking_uri]) == 1
    first = resend(path, tracking_uri)
    assert first.runs[0] == tracker.run_id
    assert stored(tracking_uri) == sorted(whole * 2)
    assert resend(path, tracking_uri).already_sent
    path.write_text(lines)  # a copy from before it was sent
    assert resend(path, tracking_uri).already_sent
    assert stored(tracking_uri) == sorted(whole * 2)


def test_what_is_stored_elsewhere_fails_instead(tracking_uri: str) -> None:
    tracker = MlflowTracker.open("e", "r", {}, tracking_uri, recover=False)
    with broken(tracking_uri), pytest.raises(RunError, match="did not take what was logged"):
        tracker.params({"rank": 8})
    assert not list(Path().glob("effft-recovery-*"))


def test_a_run_that_was_killed_after_its_store_failed_is_ended(tracking_uri: str) -> None:
    tracker = MlflowTracker.open("e", "r", {}, tracking_uri)
    with broken(tracking_uri):
        tracker.params({"rank": 8})
    (path,) = Path().glob("effft-recovery-*.jsonl")
    with path.open("a") as file:
        file.write('{"run": "cut sho')
    resend(path, tracking_uri)
    run = MlflowClient(tracking_uri).get_run(tracker.run_id)
    assert (run.info.status, run.data.params) == ("KILLED", {"rank": "8"})


def test_what_is_no_recovery_file_is_a_sentence(tracking_uri: str, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "empty.jsonl").touch()  # as a full disk leaves it
    with pytest.raises(InputError, match="is no recovery file"):
        resend(tmp_path / "empty.jsonl", tracking_uri)
    with pytest.raises(InputError, match="is no recovery file"):
        resend(tmp_path / "x.jsonl", tracking_uri)
    with pytest.raises(InputError, match="cannot be read: No such file"):
        resend(tmp_path / "y.jsonl", tracking_uri)
    head = {"what": "effft recovery 1", "id": "1", "run": "0" * 32, "server": "http://127.0.0.1:1"}
    process = {"process": {"effft.host": "elsewhere"}}
    (tmp_path / "z.jsonl").write_text(json.dumps(head | process) + "\n")
    with pytest.raises(InputError, match="give the store it began in"):
        resend(tmp_path / "z.jsonl", tracking_uri)
