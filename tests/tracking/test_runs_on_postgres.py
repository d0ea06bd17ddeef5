"""MLflow on a real PostgreSQL server: directly, and behind `mlflow server` that proxies the artifacts."""

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from effft.cli.exit_codes import run_command_line
from effft.tracking.mlflow_tracker import MlflowTracker
from effft.tracking.postgres import with_driver
from tests.database import PASSWORD, Postgres
from tests.database import postgres as running
from tests.place import make_place
from tests.reliability.servers import Server


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with running() as found:
        found.create("runs", "behind")
        yield found


@pytest.mark.slow
def test_a_run_goes_on_while_the_server_restarts(
    server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    tracker = MlflowTracker.open("e", "r", {"strategy": "lora"}, server.url("runs"))
    tracker.params({"rank": 8})
    for step, how in enumerate((signal.SIGINT, signal.SIGQUIT)):
        server.stop(how)
        comes_back = threading.Timer(1.0, server.start)
        comes_back.start()
        tracker.metrics({"train/loss": 1.0 / (step + 1)}, step)
        tracker.flush()
        tracker.child(f"c{step}", {}).close()
        comes_back.join()
    tracker.close()
    client = MlflowClient(with_driver(server.url("runs")))
    found = client.search_runs([tracker.experiment_id])
    assert sorted((run.info.run_name, run.info.status) for run in found) == [
        ("c0", "FINISHED"), ("c1", "FINISHED"), ("r", "FINISHED"),
    ]  # fmt: skip
    history = client.get_metric_history(tracker.run_id, "train/loss")
    assert [(m.step, m.value) for m in history] == [(0, 1.0), (1, 0.5)]
    assert caplog.text.count("the database is down") == 2
    assert tracker.unsent == ""
    assert not list(tmp_path.glob("effft-recovery*"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_server_in_front_proxies_what_a_run_keeps(
    server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    here = tmp_path / "here"
    here.mkdir()
    place = make_place(here, "gpt2")
    monkeypatch.chdir(here)
    front = Server(tmp_path)
    front.store = with_driver(server.url("behind")).replace(f":{PASSWORD}@", "@")
    front.environment = {"PGPASSWORD": PASSWORD}
    front.start()
    try:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", front.uri)
        words = ["lora", "--task", str(place / "task.yaml"), "--model", str(place / "gpt2"), "--per-label", "8"]
        words += ["--epochs", "1", "--bootstrap", "0", "--threads", "1", "--log-model", "true"]
        assert run_command_line(["run", *words]) == 0
        client = MlflowClient(front.uri)
        experiment = client.get_experiment_by_name("effft/dogs")
        assert experiment is not None
        assert experiment.artifact_location.startswith("mlflow-artifacts:")
        (run,) = client.search_runs([experiment.experiment_id])
        assert run.info.status == "FINISHED"
        assert {file.path for file in client.list_artifacts(run.info.run_id)} >= {"draw.txt", "predictions"}
        assert not (here / "mlruns").exists()
        assert list((tmp_path / "artifacts").rglob("effft.json"))
        server.stop()
        server.start()
        assert run_command_line(["register", run.info.run_id]) == 0
        capsys.readouterr()
        assert run_command_line(["predict", "--model", "models:/effft-dogs@champion", "--text", "dog"]) == 0
        assert "dog" in capsys.readouterr().out
    finally:
        front.stop()
    assert PASSWORD not in (tmp_path / "server.log").read_text()
