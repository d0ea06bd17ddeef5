"""Worker processes: they end with their driver, whatever ended it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import psutil
import pytest
from optuna.trial import TrialState

from effft.cli.exit_codes import run_command_line

SCRIPT = """\
import os, time
from effft.search.jobs import LocalProcesses

if __name__ == "__main__":
    executor = LocalProcesses(1)
    print(executor._pool.submit(os.getpid).result(), flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
def test_a_worker_ends_when_its_driver_is_killed(tmp_path: object) -> None:
    path = f"{tmp_path}/driver.py"
    with open(path, "w") as file:
        file.write(SCRIPT)
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    driver = subprocess.Popen([sys.executable, path], stdout=subprocess.PIPE, text=True, env=environment)
    assert driver.stdout is not None
    worker = int(driver.stdout.readline())
    assert psutil.pid_exists(worker)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    end = time.monotonic() + 30
    while psutil.pid_exists(worker) and time.monotonic() < end:
        time.sleep(0.1)
    assert not psutil.pid_exists(worker)


@pytest.mark.slow
def test_a_whole_study_on_two_workers_is_the_same_study_twice(tracking_uri: str, tmp_path: Path) -> None:
    def study(name: str) -> list[tuple[dict[str, object], list[float]]]:
        words = "search --trials 5 --per-label 4 --folds 2 --reseeds 1 --seeds 1 --evaluation-limit 8 --epochs 1"
        words += f" --steps 1 --bootstrap 0 --workers 2 --storage sqlite:///{tmp_path}/{name}.db"
        assert run_command_line([*words.split(), "--tracking-uri", tracking_uri]) == 0
        (known,) = optuna.get_all_study_names(f"sqlite:///{tmp_path}/{name}.db")
        trials = optuna.load_study(study_name=known, storage=f"sqlite:///{tmp_path}/{name}.db").trials
        assert sum(t.state == TrialState.COMPLETE for t in trials) == 5
        return [(t.params, t.values) for t in trials if t.values]

    assert study("one") == study("two")
