"""A tracking server that goes away in the middle of a run: nothing is lost, and nothing arrives twice."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from effft.cli.exit_codes import run_command_line
from effft.errors import InputError
from effft.runs import experiment
from effft.tracking.mlflow_tracker import MlflowTracker
from effft.tracking.resend import resend
from tests.place import make_place


def gone(*_words: object, **_named: object) -> None:
    raise MlflowException("API request failed")  # what MLflow makes of a refused connection


class Away:
    """A client that gives in after `calls` writes."""

    def __init__(self, client: MlflowClient, monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
        self.left = calls
        for name in ("log_batch", "log_inputs", "log_text", "create_run", "set_terminated"):
            monkeypatch.setattr(client, name, self.counted(getattr(client, name)))

    def counted(self, call: Any) -> Any:
        def counting(*words: Any, **named: Any) -> Any:
            self.left -= 1
            return call(*words, **named) if self.left >= 0 else gone()

        return counting


def tell(tracker: MlflowTracker) -> None:
    """A bit of everything, with a run under the run."""
    tracker.params({"rank": 8})
    tracker.metrics({"train/loss": 0.5}, 1)
    tracker.dataset("small", "abc", "train", "x.csv", 3)
    tracker.flush()
    child = tracker.child("one", {"strategy": "lora"})
    child.metrics({"in_domain/mcc": 0.25}, 3)
    child.table("predictions/in_domain", {"row": [0, 1]})
    child.close()
    tracker.note("done")
    tracker.close()


def kept(uri: str) -> list[tuple[object, ...]]:
    """What the store has of the experiment, without ids and times."""
    client = MlflowClient(uri)
    found = client.get_experiment_by_name("e")
    assert found is not None
    return sorted(described(client, run) for run in client.search_runs([found.experiment_id]))


def described(client: MlflowClient, run: Any) -> tuple[object, ...]:
    own = {k: v for k, v in run.data.tags.items() if k in ("strategy", "mlflow.note.content", "mlflow.loggedArtifacts")}
    parent = run.data.tags.get("mlflow.parentRunId", "")
    above = client.get_run(parent).info.run_name if parent else ""
    files = [file.path for file in client.list_artifacts(run.info.run_id)]
    inputs = [i.dataset.digest for i in run.inputs.dataset_inputs]
    numbers = (sorted(run.data.metrics.items()), history(client, run), sorted(run.data.params.items()))
    return run.info.run_name, run.info.status, above, str(numbers), str(sorted(own.items())), str(files), str(inputs)


@pytest.mark.parametrize("calls", [4, *(pytest.param(n, marks=pytest.mark.slow) for n in (0, 1, 2, 3, 5, 6, 7, 8))])
def test_what_a_server_missed_arrives_once(tracking_uri: str, monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
    tell(MlflowTracker.open("e", "whole", {}, tracking_uri))
    whole = kept(tracking_uri)
    tracker = MlflowTracker.open("e", "whole", {}, tracking_uri)
    tracker.line.recover = True  # as with a server
    with monkeypatch.context() as patch:
        Away(tracker.client, patch, calls)
        tell(tracker)
    (path,) = Path().glob("effft-recovery-*.jsonl")
    assert tracker.remedy == f"python -m effft resend {path}"
    assert kept(tracking_uri) != sorted(whole * 2)
    lines = path.read_text()
    with monkeypatch.context() as patch:  # the sending breaks off half-way, and is begun anew
        patch.setattr("effft.tracking.resend._end_rest", gone)
        assert run_command_line(["resend", str(path), "--tracking-uri", tracking_uri]) == 1
    first = resend(path, tracking_uri)
    assert first.runs[0] == tracker.run_id
    assert kept(tracking_uri) == sorted(whole * 2)
    assert resend(path, tracking_uri).again
    path.write_text(lines)  # a copy from before it was sent
    assert resend(path, tracking_uri).again
    assert kept(tracking_uri) == sorted(whole * 2)


def test_a_run_that_was_killed_after_its_server_is_ended(tracking_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = MlflowTracker.open("e", "r", {}, tracking_uri)
    tracker.line.recover = True
    with monkeypatch.context() as patch:
        Away(tracker.client, patch, 0)
        tracker.params({"rank": 8})
    (path,) = Path().glob("effft-recovery-*.jsonl")
    with path.open("a") as file:
        file.write('{"run": "cut sho')
    resend(path, tracking_uri)
    run = MlflowClient(tracking_uri).get_run(tracker.run_id)
    assert (run.info.status, run.data.params) == ("KILLED", {"rank": "8"})


def test_what_is_no_recovery_file_is_a_sentence(tracking_uri: str, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"text": "a"}\n')
    with pytest.raises(InputError, match="is no recovery file"):
        resend(tmp_path / "x.jsonl", tracking_uri)
    with pytest.raises(InputError, match="cannot be read: No such file"):
        resend(tmp_path / "y.jsonl", tracking_uri)
    head = {"what": "effft recovery 1", "id": "1", "run": "0" * 32, "server": "http://127.0.0.1:1"}
    head["process"] = {"effft.host": "elsewhere"}  # type: ignore[assignment]
    (tmp_path / "z.jsonl").write_text(json.dumps(head) + "\n")
    with pytest.raises(InputError, match="give the store it was begun in"):
        resend(tmp_path / "z.jsonl", tracking_uri)


def history(client: MlflowClient, run: Any) -> list[tuple[str, int]]:
    """How often each metric was logged."""
    keys = sorted(key for key in run.data.metrics if not key.startswith("resources/"))
    return [(key, len(client.get_metric_history(run.info.run_id, key))) for key in keys]


class Server:
    """A real `mlflow server` on 127.0.0.1 that can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        words = ["-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        words += ["--backend-store-uri", f"sqlite:///{self.folder}/server.db"]
        words += ["--artifacts-destination", str(self.folder / "artifacts")]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_TRACKING")}
        log = (self.folder / "server.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, *words], stdout=log, stderr=log, cwd=self.folder, env=environment, start_new_session=True
        )
        end = time.monotonic() + 120
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.2)
        raise AssertionError((self.folder / "server.log").read_text())

    def stop(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, 9)
            self.process.wait()
            self.process = None


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    server = Server(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_run_outlives_its_server(tracking_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = make_place(tmp_path, "gpt2")
    words = ["lora", "--task", str(place / "task.yaml"), "--model", str(place / "gpt2"), "--per-label", "8"]
    words += ["--epochs", "2", "--bootstrap", "20", "--threads", "1", "--log-model", "true"]
    evaluate, calls = experiment.evaluate, []

    with serving(tmp_path) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        assert run_command_line(["run", *words]) == 0

        def stop_then(*given: Any, **named: Any) -> Any:
            calls.append(time.monotonic())
            if len(calls) == 1:
                server.stop()
            return evaluate(*given, **named)

        monkeypatch.setattr(experiment, "evaluate", stop_then)
        assert run_command_line(["run", *words]) == 0
        seconds = time.monotonic() - calls[0]
        (path,) = Path().glob("effft-recovery-*.jsonl")
        server.start()
        assert run_command_line(["resend", str(path)]) == 0
        assert run_command_line(["resend", str(path)]) == 0
        client = MlflowClient(server.uri)
        found = client.get_experiment_by_name("effft/dogs")
        assert found is not None
        again, first = client.search_runs([found.experiment_id])
        assert [again.info.status, first.info.status] == ["FINISHED", "FINISHED"]
        own = {k: v for k, v in first.data.metrics.items() if not k.startswith("resources/")}
        assert {k: again.data.metrics[k] for k in own} == own
        assert {f.path for f in client.list_artifacts(again.info.run_id)} >= {"draw.txt", "predictions"}
        assert history(client, again) == history(client, first)
        assert [len(r.outputs.model_outputs) for r in (first, again)] == [1, 1]
        assert run_command_line(["register", again.info.run_id]) == 0
    print(f"the run went on for {seconds:.1f} s after its server had gone")
    assert seconds < 30
