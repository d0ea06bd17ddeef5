"""Ctrl-C, SIGTERM and SIGHUP: KILLED within seconds, the exit code, what was measured kept, one line for the user."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.place import make_place
from tests.reliability.lives import ended, life, wait
from tests.reliability.stages import noting
from tests.runs import runs_in

SECONDS = 5.0
ENDS = {
    signal.SIGINT: (130, "effft: stopped by Ctrl-C."),
    signal.SIGTERM: (143, "effft: stopped by SIGTERM."),
    signal.SIGHUP: (129, "effft: stopped by SIGHUP."),  # a terminal or an ssh session that is closed
}


def common(place: Path, tracking_uri: str, epochs: str) -> list[str]:
    words = ["--task", str(place / "task.yaml"), "--model", str(place / "llama"), "--per-label", "8"]
    return [*words, "--epochs", epochs, "--bootstrap", "20", "--threads", "1", "--tracking-uri", tracking_uri]


def stop(pid: int, number: signal.Signals, log: Path) -> float:
    """Send the signal; the seconds until the process has ended as it should."""
    began = time.monotonic()
    os.kill(pid, number)
    code = wait(pid, 30)
    seconds = time.monotonic() - began
    said = log.read_text()
    assert code == ENDS[number][0], said
    assert said.splitlines()[-1] == ENDS[number][1]
    assert "Traceback" not in said
    return seconds


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("number", list(ENDS), ids=lambda number: number.name)
def test_a_run_that_is_stopped(tracking_uri: str, tmp_path: Path, number: signal.Signals) -> None:
    words = ["run", "lora", *common(make_place(tmp_path, "llama"), tracking_uri, "10"), "--log-model", "true"]
    words += ["--selection", "validation"]
    took = {}
    for stage, needed in {"load": "", "train": "", "evaluation": "train/loss", "model": "in_domain/mcc"}.items():
        log, stages = tmp_path / f"log {stage}", tmp_path / "stages"
        stages.write_text("")
        pid = life(words, log, noting(stages))
        while stage not in stages.read_text().split():
            assert ended(pid) is None, log.read_text()
            time.sleep(0.002)
        took[stage] = stop(pid, number, log)
        if stage == "load":
            continue  # nothing is begun before everything is checked
        last = runs_in(tracking_uri, "effft/dogs")[0]
        assert last.info.status == "KILLED"
        assert not needed or needed in last.data.metrics
    print(f"{number.name}: {', '.join(f'{stage} {seconds:.1f} s' for stage, seconds in took.items())}")
    assert max(took.values()) < SECONDS


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_comparison_that_is_stopped_keeps_its_finished_runs(tracking_uri: str, tmp_path: Path) -> None:
    words = ["compare", "--strategies", "zero_shot,lora", "--seeds", "1"]
    words += common(make_place(tmp_path, "llama"), tracking_uri, "5000")
    log, stages = tmp_path / "log", tmp_path / "stages"
    stages.write_text("")
    pid = life(words, log, noting(stages))
    while stages.read_text().split().count("train") < 2:  # the second run
        assert ended(pid) is None, log.read_text()
        time.sleep(0.01)
    second = subprocess.run([sys.executable, "-m", "effft", *words], capture_output=True, text=True, check=False)
    assert second.returncode == 2, second.stderr
    assert "another process works on this comparison" in second.stderr
    took = stop(pid, signal.SIGTERM, log)
    status = {run.info.run_name.split(" ")[0]: run.info.status for run in runs_in(tracking_uri, "effft/dogs")}
    assert status == {"compare": "KILLED", "lora": "KILLED", "zero_shot": "FINISHED"}
    assert "zero_shot" in log.read_text()  # the table of what is there
    print(f"compare: {took:.1f} s")
    assert took < SECONDS


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_search_that_is_stopped_keeps_its_trials(tracking_uri: str, tmp_path: Path) -> None:
    words = ["search", "--strategy", "lora", "--trials", "50", "--sampler", "random", "--storage"]
    words += [f"sqlite:///{tmp_path}/optuna.db", *common(make_place(tmp_path, "llama"), tracking_uri, "10")]
    log = tmp_path / "log"
    pid = life(words, log)
    while not log.is_file() or log.read_text().count("effft: trial ") < 2:
        assert ended(pid) is None, log.read_text()
        time.sleep(0.02)
    took = stop(pid, signal.SIGINT, log)
    found = runs_in(tracking_uri, "effft/dogs")
    assert "RUNNING" not in {run.info.status for run in found}
    assert next(run for run in found if run.data.tags.get("kind") == "study").info.status == "KILLED"
    assert sum(run.info.status == "FINISHED" for run in found) >= 2
    print(f"search: {took:.1f} s")
    assert took < SECONDS


def training(place: Path, uri: str, more: Sequence[str] = ()) -> tuple["subprocess.Popen[str]", Iterator[str]]:
    """A process of its own that trains for ever, and the lines that it prints from then on."""
    words = ["run", "lora", *common(make_place(place, "llama"), uri, "100000")]
    process = subprocess.Popen([*more, sys.executable, "-m", "effft", *words], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    lines = iter(process.stderr.readline, "")
    assert next(line for line in lines if line.startswith("effft: train "))
    return process, lines


@pytest.mark.slow
@pytest.mark.parametrize("pause", [0.0, 0.003, 0.01, 0.03, 0.1, 0.3])
def test_a_second_ctrl_c_changes_nothing(tracking_uri: str, tmp_path: Path, pause: float) -> None:
    """It comes while the run is closed, while the sentence is printed, or while the interpreter ends."""
    process, lines = training(tmp_path, tracking_uri)
    time.sleep(0.3)
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        time.sleep(pause)
    said = list(lines)
    assert process.wait(30) == 130, said
    assert said[-1] == "effft: stopped by Ctrl-C.\n"
    assert "Traceback" not in "".join(said)
    (run,) = runs_in(tracking_uri, "effft/dogs")
    assert run.info.status == "KILLED"
    assert "train/loss" in run.data.metrics


def test_ctrl_c_while_the_command_line_is_imported() -> None:
    words = [sys.executable, "-X", "importtime", "-m", "effft", "strategies"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stderr is not None
    lines = iter(process.stderr.readline, "")
    next(line for line in lines if line.split()[-1] == "effft.redaction")
    process.send_signal(signal.SIGINT)
    said = list(lines)
    assert process.wait(30) == 130
    assert said[-1] == "effft: stopped by Ctrl-C.\n"
    assert "Traceback" not in "".join(said)


@pytest.mark.slow
def test_nohup_keeps_a_run(tracking_uri: str, tmp_path: Path) -> None:
    process, lines = training(tmp_path, tracking_uri, ["sh", "-c", "trap '' HUP; exec \"$@\"", "sh"])
    process.send_signal(signal.SIGHUP)
    time.sleep(1)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert "effft: stopped by SIGTERM.\n" in list(lines)
    assert process.wait(30) == 143
