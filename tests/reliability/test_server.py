"""A tracking server that dies, hangs, refuses the login or answers nonsense in the middle of a run."""

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from effft.cli.exit_codes import run_command_line
from effft.errors import EffftError
from effft.tracking.mlflow_tracker import MlflowTracker
from effft.tracking.resend import resend
from tests.place import make_place
from tests.reliability.servers import Proxy, Server, serving
from tests.runs import runs_in
from tests.tracking.test_recovery import steps, stored

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
FAULTS = ("refused login", "nonsense", "no JSON fields", "hang")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server")) as found:
        yield found


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("MLFLOW_RUN_ID", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return make_place(tmp_path, "gpt2")


def words_of(place: Path, experiment: str) -> list[str]:
    words = ["run", "lora", "--task", str(place / "task.yaml"), "--model", str(place / "gpt2"), "--per-label", "8"]
    words += ["--epochs", "2", "--bootstrap", "20", "--threads", "1", "--log-model", "true"]
    return [*words, "--experiment", experiment]


def runs(server: Server, experiment: str) -> list[Run]:
    return sorted(runs_in(server.uri, experiment), key=lambda run: run.info.start_time)


def check_equal(client: MlflowClient, first: Run, second: Run) -> None:
    """Two runs of one command hold the same, each number as often."""
    numbers = [{k: v for k, v in run.data.metrics.items() if not k.startswith("resources/")} for run in (first, second)]
    assert numbers[0] == numbers[1]
    losses = [client.get_metric_history(run.info.run_id, "train/loss") for run in (first, second)]
    assert len(losses[0]) == len(losses[1])
    files = [{file.path for file in client.list_artifacts(run.info.run_id)} for run in (first, second)]
    assert files[0] == files[1]
    assert [len(run.outputs.model_outputs) for run in (first, second)] == [1, 1]
    assert [run.info.status for run in (first, second)] == ["FINISHED"] * 2


# An empty object is MLflow's own answer to a write: only reading back tells it from success.
@pytest.mark.parametrize("fault", [*FAULTS, "killed"])
def test_a_run_outlives_its_server(
    server: Server, place: Path, fault: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    proxy = Proxy(server)
    address = proxy.uri.replace("//", "//me:p%20a%25%3A%40ss%C3%A9@")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    words = words_of(place, fault)
    assert run_command_line(words) == 0
    assert not list(Path().glob("effft-recovery-*")), "".join(capfd.readouterr())
    passed = -proxy.healthy
    proxy.fault, proxy.healthy = fault, passed // 2  # in the middle of the second run
    began = time.monotonic()
    said = ""
    try:
        assert run_command_line(words) == 0
        seconds = time.monotonic() - began
        said = "".join(capfd.readouterr())
    finally:
        proxy.fault = ""
        if fault == "killed":
            server.start()
    (path,) = Path().glob("effft-recovery-*.jsonl")
    assert f"python -m effft resend {path}" in " ".join(said.replace("│", " ").split())  # the panel wraps it
    assert "p%20a" not in said
    assert "ssé" not in said
    assert "ss%C3" not in said
    assert run_command_line(["resend", str(path), "--tracking-uri", address]) == 0
    assert run_command_line(["resend", str(path), "--tracking-uri", address]) == 0
    first, second = runs(server, fault)
    check_equal(MlflowClient(server.uri), first, second)
    assert run_command_line(["register", second.info.run_id, "--tracking-uri", address]) == 0
    said += "".join(capfd.readouterr())
    assert "p%20a" not in said
    print(f"{fault}: the run ended after {seconds:.1f} s")
    assert seconds < 75


def test_a_token_that_expires_is_replaced_when_the_results_are_sent(
    server: Server, place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    proxy = Proxy(server)
    proxy.token = "first-SENTINEL-token"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", proxy.token)
    first, *others = steps(MlflowTracker.open("e", "whole", {}, proxy.uri))
    first()
    proxy.token = "second-SENTINEL-token"
    for step in others:
        step()
    assert run_command_line(words_of(place, "e")) == 2  # a run that begins is refused before it trains
    (path,) = Path().glob("effft-recovery-*.jsonl")
    assert run_command_line(["resend", str(path)]) == 2
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", proxy.token)
    assert run_command_line(["resend", str(path)]) == 0
    assert "SENTINEL" not in "".join(capfd.readouterr()) + path.read_text()
    for step in steps(MlflowTracker.open("undisturbed", "whole", {}, proxy.uri)):
        step()
    assert stored(server.uri) == stored(server.uri, "undisturbed")


@pytest.mark.parametrize("fault", ["nonsense", "no JSON fields"])
def test_success_that_is_none_loses_nothing_whenever_it_is_answered(server: Server, place: Path, fault: str) -> None:
    """From any request of a run on, to all that follow or to a few; then the results are sent again."""
    proxy, random, whole = Proxy(server), Random(0), f"{fault}: undisturbed"
    tracker = MlflowTracker.open(whole, "whole", {}, proxy.uri)
    opened = -proxy.healthy
    for step in steps(tracker):
        step()
    for number, healthy in enumerate(random.sample(range(-proxy.healthy - opened), 5)):
        experiment = f"{fault} {number}"
        tracker = MlflowTracker.open(experiment, "whole", {}, proxy.uri)
        proxy.fault, proxy.healthy, proxy.ill = fault, healthy, random.choice([1, 2, 3, 10**9])
        for step in steps(tracker):
            step()
        proxy.fault = ""
        for path in Path().glob("effft-recovery-*.jsonl"):
            resend(path, proxy.uri)
            path.unlink()
        assert stored(server.uri, experiment) == stored(server.uri, whole), (healthy, proxy.ill)


def test_a_server_that_hangs_is_reported_within_ten_seconds(
    server: Server, place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    proxy = Proxy(server)
    tracker = MlflowTracker.open("hang", "r", {}, proxy.uri)
    proxy.fault, proxy.healthy = "hang", 0
    began = time.monotonic()
    writing = threading.Thread(target=lambda: tracker.params({"rank": 8}))
    with caplog.at_level(logging.WARNING):
        writing.start()
        writing.join(10)
        assert "slow to answer" in caplog.text
        writing.join(60)
    seconds = time.monotonic() - began
    assert seconds < 60
    assert "The run goes on; `python -m effft resend" in caplog.text
    print(f"a hanging server: the file took over after {seconds:.1f} s")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_that_is_broken_from_the_start_is_a_sentence(server: Server, place: Path, fault: str) -> None:
    proxy = Proxy(server)
    proxy.fault = fault
    began = time.monotonic()
    with pytest.raises(EffftError, match=r"tracking (store|server)"):
        MlflowTracker.open("e", "r", {}, proxy.uri)
    assert time.monotonic() - began < 60
