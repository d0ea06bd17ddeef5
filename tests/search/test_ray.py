"""Trials on a real Ray cluster: the same values as anywhere, whatever dies; and what is refused before."""

import math
import pickle
import socket
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
from mlflow import MlflowClient

from effft.cli.ending import run_command_line
from effft.config import make_config
from effft.errors import InputError
from effft.session import Session
from search import cluster as before
from search.cluster import check_ray
from search.ray_executor import RayTasks
from search.settings import Settings
from search.units import InProcess, LocalProcesses, Measured, Unit
from tests.place import make_place


def units(place: Path) -> list[Unit]:
    base = {"task": str(place / "task.yaml"), "model": str(place / "gpt2"), "per_label": "8", "threads": "1"}
    base |= {"bootstrap": "0", "epochs": "4", "strategy": "lora", "precision": "fp32"}
    return [
        Unit(make_config({**base, "seed": str(seed), "learning_rate": rate}), (0, 2, seed), bars=(-9.0,) * 4)
        for seed, rate in enumerate(("0.01", "0.03", "0.05"))
    ]


def values(found: list[Measured]) -> list[tuple[float, tuple[float, ...], str]]:
    return [(one.value, one.curve, one.failure) for one in found]


def warmed(place: Path) -> Session:
    """As `plan_study` leaves it."""
    session = Session()
    InProcess(session).run(units(place)[:1])
    return session


def test_a_session_travels(tmp_path: Path) -> None:
    """What another machine gets has the task, the training split and the weights: it opens no file of ours."""
    place = make_place(tmp_path, "gpt2")
    session, todo = warmed(place), units(place)[:2]
    sent = pickle.dumps(session)
    here = values(InProcess(session).run(todo))
    for path in [*place.glob("*.csv"), *place.glob("*.yaml"), *place.glob("gpt2/*")]:
        path.unlink()
    assert values(InProcess(pickle.loads(sent)).run(todo)) == here
    assert not any(failure for _, _, failure in here)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"executor": "ray", "ray_gpus": 1.5}, "share of one GPU"),
        ({"ray_gpus": 0.5}, "counts with --executor ray only"),
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
    monkeypatch.setattr(before, "find_spec", lambda name: None)
    assert run_command_line(["search", "--executor", "ray"]) == 2
    assert capsys.readouterr().err == (
        "effft: executor=ray: Ray is not installed: pip install '.[ray]', here and on every node.\n"
    )


@pytest.mark.slow
def test_the_same_values_here_in_processes_and_on_ray(tmp_path: Path) -> None:
    place = make_place(tmp_path, "gpt2")
    session, todo = warmed(place), units(place)
    here = values(InProcess(session).run(todo))
    with closing(LocalProcesses(2)) as processes:
        assert values(processes.run(todo)) == here
    with closing(RayTasks(2, "local", 0.0, session)) as ray:
        for path in [*place.glob("*.csv"), *place.glob("*.yaml"), *place.glob("gpt2/*")]:
            path.unlink()  # another machine has none of them
        assert values(ray.run(todo)) == here
        bad = Unit(todo[0].config.model_copy(update={"max_length": 1}))
        (failed,) = ray.run([bad])
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
