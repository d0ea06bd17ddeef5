"""Progress, the summary panel, and the line that opens the UI."""

import io
from pathlib import Path

import pytest

from effft.cli.output import SECONDS_BETWEEN_LINES, Progress, summary_lines
from effft.cli.tracking import store_in_use, ui_line
from effft.config import make_config
from effft.runs.experiment import Result


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
        "resources/train_seconds": 3.21,
        "resources/evaluation_seconds": 0.5,
    }
    config = make_config({"strategy": "lora"})
    return Result(config, "lora r8", metrics | changes, "mcc", ("far",), ("2 texts were cut.",))


def test_the_panel_has_the_numbers() -> None:
    result = one_result(**{"in_domain/mcc_low": 0.55, "in_domain/mcc_high": 0.67})
    lines = dict(summary_lines(result, "5f3a", "effft ui"))
    assert lines["in_domain mcc"] == "0.612  [0.550, 0.670]   majority 0.000, chance 0.000"
    assert lines["ood/far mcc"] == "0.100   majority 0.000, chance 0.000"
    assert lines["trainable"] == "0.83 % (12,288 of 1,480,000 parameters)"
    assert lines["peak memory"] == "120 MB above the start"
    assert lines["time"] == "training 3.2 s, evaluation 0.5 s"
    assert lines["note"] == "2 texts were cut."
    assert (lines["run id"], lines["view"]) == ("5f3a", "effft ui")
    assert lines["next"] == "effft report --task agreement"
    assert "run id" not in dict(summary_lines(result, "", ""))


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
