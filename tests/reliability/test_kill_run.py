"""Kill -9 of one command at random moments of every stage: the store stays whole, the command succeeds in the end."""

import os
import random
import signal
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from effft.serving.manifest import MANIFEST_FILE, read_manifest
from effft.tracking.mlflow_tracker import MlflowTracker
from effft.tracking.models import fetch
from effft.tracking.registry import versions
from tests.place import make_place
from tests.reliability.lives import ended, life, wait
from tests.reliability.stages import STAGES, noting

KILLS = 5
"""In each stage."""


def dying(target: str, delay: float, path: Path) -> Any:
    """What makes a process kill itself `delay` seconds into a stage, or as the stage ends; stages go into `path`."""
    return noting(
        path,
        lambda stage: threading.Timer(delay, die).start() if stage == target else None,
        lambda stage: die() if stage == target else None,
    )


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def check_store(uri: str, living: str) -> None:
    """Readable; only the living process's run is RUNNING after a start; every version has its files."""
    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as connection:
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
    client = MlflowClient(uri)
    assert client.get_run(living).info.status == "RUNNING"
    for version in versions(client):
        folder = fetch(f"models:/{version.name}/{version.number}", client)
        assert read_manifest(folder).strategy == "lora"
        assert (folder / "adapter" / "adapter_model.safetensors").stat().st_size > 0


def runs_of(uri: str) -> list[Any]:
    client = MlflowClient(uri)
    found = client.get_experiment_by_name("effft/dogs")
    return [] if found is None else list(client.search_runs([found.experiment_id]))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_run_killed_at_twenty_moments(tracking_uri: str, tmp_path: Path) -> None:
    place = make_place(tmp_path, "llama")
    words = ["run", "lora", "--task", str(place / "task.yaml"), "--model", str(place / "llama"), "--per-label", "8"]
    words += ["--epochs", "100", "--bootstrap", "200", "--threads", "1", "--log-model", "true"]
    words += ["--tracking-uri", tracking_uri]
    living = MlflowTracker.open("elsewhere", "living", {}, tracking_uri)
    rng, log, stages, hit = random.Random(0), tmp_path / "log", tmp_path / "stages", []
    for stage in [*STAGES] * KILLS:
        stages.write_text("")
        code = wait(life(words, log, dying(stage, rng.uniform(0, 0.15), stages)))
        assert code == 128 + signal.SIGKILL, f"{code} in {stage}: {log.read_text()[-2000:]}"
        hit.append(stages.read_text().split()[-1])
        check_store(tracking_uri, living.run_id)
    before = len(runs_of(tracking_uri))
    assert wait(life(words, log)) == 0, log.read_text()[-2000:]
    found = runs_of(tracking_uri)
    assert [run.info.status for run in found] == ["FINISHED"] + ["KILLED"] * before
    check_store(tracking_uri, living.run_id)
    kill_registrations(found[0].info.run_id, tracking_uri, log, rng)
    check_store(tracking_uri, living.run_id)
    living.close()
    print(f"killed in {', '.join(f'{hit.count(s)} x {s}' for s in STAGES)}; {before} runs had begun")
    assert hit == [*STAGES] * KILLS


def kill_registrations(run_id: str, uri: str, log: Path, rng: random.Random) -> None:
    """The model is registered under kills, then in peace."""
    words = ["register", run_id, "--tracking-uri", uri]
    for _ in range(5):
        pid = life(words, log)
        time.sleep(rng.uniform(0, 0.3))
        if ended(pid) is None:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    assert wait(life(words, log)) == 0
    client = MlflowClient(uri)
    assert MANIFEST_FILE in {p.name for p in fetch("models:/effft-dogs@champion", client).iterdir()}
