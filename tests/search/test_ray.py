"""Trials on a real Ray cluster: the same values as anywhere, whatever dies; and what is refused before."""

import math
import pickle
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
from mlflow import MlflowClient
from optuna.trial import TrialState

from effft.cli.exit_codes import run_command_line
from effft.config import make_config
from effft.errors import InputError
from effft.runs.runner import Runner
from effft.runs.session import Session
from effft.search.jobs import Executor, JobResult, TrainingJob, measure, measure_all
from effft.search.ray_executor import RayTasks, check_ray
from effft.search.settings import Settings
from tests.place import make_place
from tests.runs import runs_in

TRIALS = 8


def units(place: Path) -> list[TrainingJob]:
    base = {"task": str(place / "task.yaml"), "model": str(place / "gpt2"), "per_label": "8", "threads": "1"}
    base |= {"bootstrap": "0", "epochs": "4", "strategy": "lora", "precision": "fp32"}
    return [
        TrainingJob(
            make_config({**base, "seed": str(seed), "learning_rate": rate}), (0, 2, seed), epoch_thresholds=(-9.0,) * 4
        )
        for seed, rate in enumerate(("0.01", "0.03", "0.05"))
    ]


def values(found: list[JobResult]) -> list[tuple[float, tuple[float, ...], str]]:
    return [(one.value, one.curve, one.failure) for one in found]


def ended(executor: Executor, todo: list[TrainingJob]) -> list[JobResult]:
    found = dict(measure_all(executor, dict(enumerate(todo))))
    return [found[place] for place in range(len(todo))]


def warmed(place: Path) -> Session:
    """As `plan_study` leaves it."""
    session = Session()
    ended(Runner(measure, 1, session), units(place)[:1])
    return session


@pytest.mark.slow
def test_a_session_travels(tmp_path: Path) -> None:
    """What another machine gets has the task, the training split and the weights: it opens no file of ours."""
    place = make_place(tmp_path, "gpt2")
    session, todo = warmed(place), units(place)[:2]
    sent = pickle.dumps(session)
    here = values(ended(Runner(measure, 1, session), todo))
    for path in [*place.glob("*.csv"), *place.glob("*.yaml"), *place.glob("gpt2/*")]:
        path.unlink()
    assert values(ended(Runner(measure, 1, pickle.loads(sent)), todo)) == here
    assert not any(failure for _, _, failure in here)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"executor": "ray", "ray_gpus": 1.5}, "share of one GPU"),
        ({"ray_gpus": 0.5}, "ray_gpus=0.5 counts with --executor ray only"),
        ({"ray_address": "local"}, "ray_address=local counts with --executor ray only"),
        ({"executor": "ray", "ray_address": "ray://head:10001"}, "host:port"),
        ({"executor": "ray", "ray_address": "127.0.0.1:9"}, "no cluster can be joined there"),
        ({"executor": "ray", "ray_address": "127.0.0.1:99999"}, "no cluster can be joined there"),
    ],
)
def test_what_cannot_be_is_a_sentence(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        settings = Settings(**given)
        check_ray(settings.executor, settings.ray_address, settings.ray_gpus)


def test_no_ray_is_a_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert run_command_line(["search", "--executor", "ray"]) == 2
    assert capsys.readouterr().err == (
        "effft: executor=ray: Ray is not installed: pip install '.[ray]', here and on every node.\n"
    )


@pytest.mark.alone
@pytest.mark.slow
def test_the_same_values_here_in_processes_and_on_ray(tmp_path: Path) -> None:
    """Bit for bit."""
    place = make_place(tmp_path, "gpt2")
    session, todo = warmed(place), units(place)
    here = values(ended(Runner(measure, 1, session), todo))
    with Runner(measure, 2) as processes:
        assert values(ended(processes, todo)) == here
    with closing(RayTasks(2, "local", 0.0, session)) as ray:
        for path in [*place.glob("*.csv"), *place.glob("*.yaml"), *place.glob("gpt2/*")]:
            path.unlink()  # another machine has none of them
        assert values(ended(ray, todo)) == here
        bad = TrainingJob(todo[0].config.model_copy(update={"max_length": 1}))
        (failed,) = ended(ray, [bad])
        assert failed.failure
        assert math.isnan(failed.value)
        assert exposed() == []
    with pytest.raises(InputError, match="the cluster has 0 GPUs"):
        RayTasks(1, "local", 0.5, session)


def exposed() -> list[str]:
    """Addresses beyond this machine on which a process under this one listens."""
    found = []
    for process in psutil.Process().children(recursive=True):
        for place in process.net_connections("inet"):
            if place.status == psutil.CONN_LISTEN and place.laddr.ip.removeprefix("::ffff:") not in (
                "127.0.0.1",
                "::1",
            ):
                found.append(f"{process.name()} {place.laddr}")
    return found


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes of a CPU and a pretended GPU each, on 127.0.0.1 alone."""
    pytest.importorskip("ray", reason="Ray is not installed")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # it is 15, and a busy machine would starve them
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # listens on 127.0.0.1 alone
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "num_gpus": 1, "object_store_memory": 80_000_000}
    soon = {"health_check_period_ms": 500, "health_check_timeout_ms": 2000, "health_check_failure_threshold": 3}
    made = Cluster(True, head_node_args={**node, "include_dashboard": False, "_system_config": soon})
    try:
        made.add_node(**node)
        yield made
    finally:
        made.shutdown()


def workers_of(node: Any) -> list[psutil.Process]:
    """The processes of a node that have a task in hand."""
    (raylet,) = node.all_processes["raylet"]
    return [p for p in psutil.Process(raylet.process.pid).children() if p.name().startswith("ray::work")]


@pytest.fixture
def told(tmp_path: Path) -> Callable[[int, "subprocess.Popen[bytes]"], None]:
    def wait(count: int, process: "subprocess.Popen[bytes]") -> None:
        log, end = tmp_path / "log", time.monotonic() + 200
        while log.read_text().count("effft: trial ") < count:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)

    return wait


def start(words: list[str], log: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-m", "effft", *words], stdout=log.open("ab"), stderr=log.open("ab"))


@pytest.mark.alone
@pytest.mark.slow
def test_a_study_survives_a_dead_worker_and_a_dead_node(
    cluster: Any, tracking_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: Any
) -> None:
    monkeypatch.chdir(Path(__file__).parent.parent.parent)
    place, log = make_place(tmp_path, "gpt2"), tmp_path / "log"
    words = ["search", "--task", str(place / "task.yaml"), "--model", str(place / "gpt2"), "--per-label", "8"]
    words += ["--trials", str(TRIALS), "--pruner", "none", "--reseeds", "1", "--seeds", "1", "--bootstrap", "0"]
    words += ["--folds", "2", "--tracking-uri", tracking_uri, "--sampler", "random", "--workers", "2"]
    words += ["--storage", f"sqlite:///{tmp_path}/optuna.db", "--threads", "1", "--epochs", "20"]
    driver = start(
        [*words, "--study", "ray", "--executor", "ray", "--ray-address", cluster.address, "--ray-gpus", "0.5"], log
    )
    told(2, driver)
    (second,) = cluster.worker_nodes
    end_one(cluster.head_node, driver)
    told(4, driver)
    cluster.remove_node(second, allow_graceful=False)
    assert driver.wait(300) == 0, log.read_text()[-2000:]
    said = log.read_text()
    assert "Traceback" not in said
    assert "the cluster says: A worker died or was killed" in said
    assert "state-dump" not in said
    assert start([*words, "--study", "processes"], tmp_path / "log2").wait(300) == 0

    def trials(name: str) -> list[tuple[dict[str, Any], list[float], list[float]]]:
        found = optuna.load_study(study_name=name, storage=f"sqlite:///{tmp_path}/optuna.db").trials
        assert [t.state for t in found] == [TrialState.COMPLETE] * TRIALS
        return [(t.params, t.values, t.user_attrs["measured"]["scores"]) for t in found]

    assert trials("ray") == trials("processes")
    runs = runs_in(tracking_uri, words="tags.kind != 'final'")
    assert [run.info.status for run in runs] == ["FINISHED"] * 2 * (TRIALS + 1)


def end_one(node: Any, driver: "subprocess.Popen[bytes]") -> None:
    """Kill a worker of this node in the middle of its unit."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        assert driver.poll() is None
        for worker in workers_of(node):
            worker.kill()
            return
        time.sleep(0.01)
    raise AssertionError("no worker had anything in hand")


@pytest.mark.alone
@pytest.mark.slow
def test_nobody_at_the_address_is_a_sentence_at_once(
    tracking_uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    words = ["search", "--per-label", "4", "--trials", "1", "--tracking-uri", tracking_uri, "--executor", "ray"]
    for given in (address, "auto"):
        began = time.monotonic()
        assert run_command_line([*words, "--ray-address", given]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1, error
        assert "ray start --head" in error
        assert time.monotonic() - began < 20
    assert not MlflowClient(tracking_uri).search_experiments(filter_string="name LIKE 'effft%'")
    assert not (tmp_path / "optuna.db").exists() or not optuna.get_all_study_names(f"sqlite:///{tmp_path}/optuna.db")
