"""A study with worker processes: one that dies is made good, and Ctrl-C ends all of them at once."""

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

from effft.config import RunConfig
from effft.runs.runner import Runner
from effft.search.jobs import TrainingJob, measure, measure_all
from tests.place import make_place


class Deadly(RunConfig):
    """A configuration that ends the process which unpickles it."""

    def __reduce__(self) -> tuple[object, ...]:
        return os._exit, (1,)


@pytest.mark.slow
def test_a_unit_that_no_worker_survives_is_a_failure() -> None:
    config = {"strategy": "probe", "per_label": 4, "epochs": 1, "bootstrap": 0}
    good = TrainingJob(RunConfig(**config), (0, 2, 0))
    with Runner(measure, 2) as executor:
        found = dict(measure_all(executor, {"bad": TrainingJob(Deadly(**config)), "good": good, "after": good}))
    assert "worker process died 3 times" in found["bad"].failure
    assert [found[key].failure for key in ("good", "after")] == ["", ""]
    assert found["good"].value == found["after"].value


def start(words: list[str], log: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-m", "effft", *words], stdout=log.open("ab"), stderr=log.open("ab"))


def told(log: Path, count: int, process: "subprocess.Popen[bytes]") -> None:
    """Wait until so many trials are told."""
    end = time.monotonic() + 200
    while log.read_text().count("effft: trial ") < count:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.1)


@pytest.mark.slow
def test_a_study_survives_a_dead_worker_and_ctrl_c(
    tracking_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parent.parent.parent)
    place, log = make_place(tmp_path, "gpt2"), tmp_path / "log"
    words = ["search", "--task", str(place / "task.yaml"), "--model", str(place / "gpt2"), "--per-label", "8"]
    words += "--trials 12 --pruner none --reseeds 1 --seeds 1 --bootstrap 0 --folds 2".split()
    words += ["--storage", f"sqlite:///{tmp_path}/optuna.db", "--tracking-uri", tracking_uri, "--study", "s"]
    words += ["--threads", "1", "--sampler", "random", "--workers", "2", "--epochs", "30"]
    driver = start(words, log)
    told(log, 2, driver)
    workers = [c for c in psutil.Process(driver.pid).children(recursive=True) if "spawn_main" in " ".join(c.cmdline())]
    assert len(workers) == 2
    workers[0].kill()
    told(log, 4, driver)
    assert log.read_text().count("a worker process died") == 1
    children = psutil.Process(driver.pid).children(recursive=True)
    began = time.monotonic()
    os.kill(driver.pid, signal.SIGINT)
    assert driver.wait(30) == 130
    seconds = time.monotonic() - began
    assert "effft: stopped by Ctrl-C." in log.read_text()
    assert "Traceback" not in log.read_text()
    _, alive = psutil.wait_procs(children, 5)
    assert not alive
    assert start(words, log).wait(300) == 0, log.read_text()[-2000:]
    trials = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/optuna.db").trials
    states = [t.state for t in trials]
    print(f"Ctrl-C took {seconds:.1f} s; {[(s.name, states.count(s)) for s in set(states)]}")
    assert states.count(TrialState.COMPLETE) == 12
    assert TrialState.RUNNING not in states
    assert not [t for t in trials if "failure" in t.user_attrs]
    assert seconds < 5
