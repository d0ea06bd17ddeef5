"""How many threads a run takes: as asked, as the environment says, never more than the cores that it may use."""

import os

import pytest

from effft.config import RunConfig
from effft.models.forward.attention import NARROW
from effft.runs.resolved import threads_of

CONFIG = RunConfig(task="agreement", strategy="lora")


@pytest.mark.parametrize(("environment", "threads"), [("1", 1), ("0", 1), ("1000", None), ("2,1", None), ("", None)])
def test_the_environment_and_the_cores_are_heeded(
    environment: str, threads: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", environment)
    cores = len(os.sched_getaffinity(0))
    assert threads_of(CONFIG, NARROW) == (threads or cores)
    assert threads_of(CONFIG, NARROW - 1) == 1
    assert threads_of(CONFIG.model_copy(update={"threads": 3}), NARROW) == 3


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system does not tie a process to cores")
def test_a_process_tied_to_one_core_takes_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        assert threads_of(CONFIG, NARROW) == 1
    finally:
        os.sched_setaffinity(0, cores)
