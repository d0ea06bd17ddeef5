"""Progress, the summary panel, and the line that opens the UI."""

import contextlib
import fcntl
import io
import json
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from effft.cli.exit_codes import run_command_line
from effft.cli.output import SECONDS_BETWEEN_LINES, Progress, print_outcomes, summary_lines
from effft.cli.tracking import store_in_use, ui_line
from effft.config import make_config
from effft.reports.disagreement import Disagreement
from effft.reports.results import outcomes_table
from effft.runs.compare import Outcome
from effft.runs.experiment import Result
from effft.tracked_comparison import TaskOutcomes
from effft.tracking.tracker import MemoryTracker


class Clock:
    """Time that moves by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_plain_lines_are_few() -> None:
    clock, stream = Clock(), io.StringIO()
    with Progress(stream, clock) as progress:
        for step in range(80):
            clock.now += 0.25
            progress("train", step, 80)
        progress.runs("lora", 1, 4)
        clock.now += SECONDS_BETWEEN_LINES
        progress("evaluate in_domain", 0, 0)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 20 / SECONDS_BETWEEN_LINES + 1
    assert lines[0].startswith("effft: train ")
    assert lines[-1] == "effft: run 2 of 4 (lora): evaluate in_domain"


def test_plain_lines_say_how_long_it_may_take() -> None:
    clock, stream = Clock(), io.StringIO()
    with Progress(stream, clock) as progress:
        for done in (2, 3):  # two runs were there before
            progress.runs("lora", done, 5)
            clock.now += 60
        progress.runs("lora", 4, 5)
        progress("train", 1, 8)
    assert stream.getvalue() == "effft: run 5 of 5 (lora, about 60 s left): train 1/8\n"


def test_a_short_run_says_nothing() -> None:
    stream = io.StringIO()
    with Progress(stream, Clock()) as progress:
        progress("train", 1, 2)
    assert stream.getvalue() == ""


def test_a_terminal_gets_bars() -> None:
    stream = Terminal()
    with Progress(stream) as progress:
        progress.runs("lora", 0, 2)
        progress("train", 1, 2)
        assert progress.bars is not None
        assert [task.description for task in progress.bars.tasks] == ["runs: lora", "train"]
        progress("evaluate", 0, 0)
        assert [task.description for task in progress.bars.tasks] == ["runs: lora", "evaluate"]


def one_result(**changes: float) -> Result:
    metrics = {
        "in_domain/mcc": 0.612,
        "in_domain/majority": 0.7,
        "in_domain/chance": 0.5,
        "in_domain/labels": 2,
        "ood/far/mcc": 0.1,
        "ood/far/majority": 0.7,
        "ood/far/chance": 0.5,
        "ood/far/labels": 2,
        "resources/trainable_parameters": 12288.0,
        "resources/total_parameters": 1480000.0,
        "resources/peak_memory_mb": 120.0,
        "resources/labels_used": 64.0,
        "resources/train_seconds": 3.21,
        "resources/evaluation_seconds": 0.5,
    }
    config = make_config({"strategy": "lora", "per_label": 32})
    return Result(config, "lora r8", metrics | changes, "mcc", ("far",), ("2 texts were cut.",))


def test_the_panel_has_the_numbers() -> None:
    result = one_result(**{"in_domain/mcc_low": 0.55, "in_domain/mcc_high": 0.67})
    lines = dict(summary_lines(result, "5f3a", "effft ui"))
    assert lines["in_domain mcc"] == "0.612  [0.550, 0.670]   majority 0.000, chance 0.000"
    assert lines["ood/far mcc"] == "0.100   majority 0.000, chance 0.000"
    assert lines["task"].endswith("32 examples per label, 64 labels used")
    assert lines["trainable"] == "0.83 % (12,288 of 1,480,000 parameters)"
    assert lines["peak memory"] == "120 MB above the start"
    assert lines["time"] == "training 3.2 s, evaluation 0.5 s"
    assert lines["note"] == "2 texts were cut."
    assert (lines["run id"], lines["view"]) == ("5f3a", "effft ui")
    assert lines["next"] == "effft report --task agreement"
    assert "run id" not in dict(summary_lines(result, "", ""))
    elsewhere = replace(result, config=make_config({"data": "my rows.csv"}))
    assert dict(summary_lines(elsewhere, "5f3a", "effft ui"))["next"] == "effft report --task 'my rows.csv'"


@pytest.mark.parametrize("run_id", ["", "5f3a"])
def test_a_file_is_named_only_where_it_is_kept(run_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    table = outcomes_table([Outcome(one_result().config, one_result())])
    pairs = Disagreement("ood/films", (1,), {"icl": [["good"]], "lora": [["bad"]]})
    print_outcomes(TaskOutcomes("reviews", MemoryTracker(run_id=run_id), (), table, [pairs]))
    assert ("disagreement.csv" in capsys.readouterr().out) == bool(run_id)


@pytest.mark.parametrize(
    ("given", "environment", "line"),
    [
        ("", "", "effft ui"),
        ("sqlite:///mlflow.db", "", "effft ui"),
        ("", "sqlite:///{here}/mlflow.db", "effft ui"),
        ("sqlite:///my runs.db", "", "effft ui --tracking-uri 'sqlite:///my runs.db'"),
        ("", "sqlite:////elsewhere/mlflow.db", "effft ui --tracking-uri sqlite:////elsewhere/mlflow.db"),
        ("http://tracking:5000", "", "http://tracking:5000"),
    ],
)
def test_the_line_that_opens_the_ui(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str, environment: str, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", environment.format(here=tmp_path))
    assert ui_line(given).removeprefix("python -m ") == line
    assert (store_in_use(given) == "") == (line == "effft ui")


def lines_on_terminal(words: list[str], folder: Path, columns: int = 80) -> list[str]:
    """What a command prints on a terminal of so many columns, without styles."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    command = [sys.executable, "-m", "effft", *words]
    with subprocess.Popen(command, cwd=folder, stdout=follower, stderr=subprocess.DEVNULL) as process:
        os.close(follower)
        text = b""
        with contextlib.suppress(OSError):  # Linux says so when the other end is closed
            while part := os.read(leader, 65536):
                text += part
    os.close(leader)
    assert process.returncode == 0
    return re.sub(r"\x1b\[[0-9;]*m", "", text.decode()).splitlines()


@pytest.mark.parametrize(
    "command",
    [
        "tasks",
        "strategies",
        pytest.param("estimate --strategies context_distillation,lora+pbft", marks=pytest.mark.slow),
    ],
)
def test_tables_are_readable_at_80_columns(command: str, tmp_path: Path) -> None:
    lines = lines_on_terminal(command.split(), tmp_path)
    assert max(map(len, lines)) <= 80
    whole = {"mnli_mismatched", "acceptable"} if command == "tasks" else {"context_distillation", "lora+pbft"}
    assert whole <= {word.rstrip(",") for line in lines for word in line.split()}, "a name is broken"


@pytest.mark.slow
def test_json_is_the_only_thing_on_stdout(
    tmp_path: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    compare = "compare --strategies zero_shot --seeds 1 --evaluation-limit 4 --bootstrap 0 --threads 1 --json"
    for command in (compare, "report --json", "models --json", "tasks --json", "estimate --strategies probe --json"):
        store = ["--tracking-uri", tracking_uri] if command.split()[0] in ("compare", "report", "models") else []
        assert run_command_line([*command.split(), *store]) == 0
        assert isinstance(json.loads(capsys.readouterr().out), dict | list), command


@pytest.mark.slow
def test_the_ui_takes_a_free_port_of_this_machine_alone_and_prints_links(tmp_path: Path, tracking_uri: str) -> None:
    MlflowClient(tracking_uri).create_experiment("effft/dogs", tags={"mlflow.sharedViewState.effft-dogs": "{}"})
    command = [sys.executable, "-m", "effft", "ui", "--tracking-uri", tracking_uri]
    with (
        socket.socket() as taken,
        subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, start_new_session=True) as process,
    ):
        try:
            with contextlib.suppress(OSError):  # another program has it already
                taken.bind(("127.0.0.1", 5000))
                taken.listen()
            assert process.stdout is not None
            link, address = process.stdout.readline(), process.stdout.readline()
            served = re.match(r"MLflow UI: (http://127\.0\.0\.1:(\d+)) ", address)
            assert served is not None
            assert link.startswith(f"effft/dogs: {served[1]}/#/experiments/1/runs?viewStateShareKey=effft-dogs")
            words: list[str] = []
            while "ui" not in words or "mlflow" not in words:
                words = Path(f"/proc/{process.pid}/cmdline").read_text().split("\0")
            assert words[words.index("--host") + 1] == "127.0.0.1"
            assert words[words.index("--port") + 1] == served[2] != "5000"
        finally:
            os.killpg(process.pid, signal.SIGKILL)
