"""The runner: order, processes, dying workers, Ctrl-C."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from effft.errors import RunError
from effft.runs.runner import ATTEMPTS, Runner, WorkerDiedError
from effft.runs.session import Session


def in_order(runner: Runner[Any, Any], jobs: Iterable[object]) -> list[Any]:
    return [answer for _, answer in sorted(runner.as_completed(list(jobs)), key=lambda pair: pair[0])]


def double(job: int, session: Session) -> tuple[int, int]:
    assert isinstance(session, Session)
    return 2 * job, os.getpid()


def die(job: tuple[str, int], session: Session) -> int:
    """Die as often as the job says; every attempt leaves a line."""
    path, deaths = job
    with Path(path).open("a") as file:
        file.write("x")
    if Path(path).stat().st_size <= deaths:
        os.kill(os.getpid(), signal.SIGKILL)
    return Path(path).stat().st_size


def wait(job: str, session: Session) -> None:
    Path(job).write_text(str(os.getpid()))
    time.sleep(60)


def test_one_worker_is_this_process() -> None:
    with Runner(double, 1) as runner:
        assert in_order(runner, [1, 2]) == [(2, os.getpid()), (4, os.getpid())]


@pytest.mark.slow
def test_several_workers_answer_in_order() -> None:
    with Runner(double, 2) as runner:
        answers = in_order(runner, range(5))
        again = in_order(runner, [7])
        with pytest.raises(RunError, match=r"TypeError: unsupported"):
            in_order(runner, [None])
    assert [answer[0] for answer in answers] == [0, 2, 4, 6, 8]  # type: ignore[index]
    pids = {answer[1] for answer in (*answers, *again)}  # type: ignore[index]
    assert len(pids) <= 2
    assert os.getpid() not in pids


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    jobs = [(str(tmp_path / "once"), 1), (str(tmp_path / "never"), 0), (str(tmp_path / "always"), 99)]
    with Runner(die, 2) as runner:
        once, never, always = in_order(runner, jobs)
    assert (once, never) == (2, 1)
    assert isinstance(always, WorkerDiedError)
    assert (tmp_path / "always").stat().st_size == ATTEMPTS


@pytest.mark.slow
def test_workers_end_with_their_driver(tmp_path: Path) -> None:
    code = f"from test_runner import Runner, wait; list(Runner(wait, 2).as_completed([{str(tmp_path / 'pid')!r}]))"
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths}) as driver:
        while not (tmp_path / "pid").is_file() or not (tmp_path / "pid").read_text():
            time.sleep(0.1)
        driver.kill()
        driver.wait()
    worker = int((tmp_path / "pid").read_text())
    for _ in range(100):
        if not Path(f"/proc/{worker}").exists():
            return
        time.sleep(0.1)
    pytest.fail("the worker outlived its driver")
