"""How a command ends: one sentence and the right exit code."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from effft.cli import app as app_module
from effft.cli.exit_codes import run_command_line
from effft.errors import InputError, RunError


def test_no_arguments_show_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """Bad input of every other kind: tests/bad."""
    assert run_command_line([]) == 2
    assert "Usage" in capsys.readouterr().err


def failing(error: BaseException) -> click.Command:
    """A command that raises `error`."""

    @click.command()
    def fail() -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (InputError("no such thing."), 2, "effft: no such thing.\n"),
        (RunError("the loss\nis nan."), 1, "effft: the loss is nan.\n"),
        (OSError("disk full"), 1, "effft: OSError: disk full (EFFFT_TRACEBACK=1 shows where.)\n"),
        (ValueError(), 1, "effft: ValueError: no message (EFFFT_TRACEBACK=1 shows where.)\n"),
        (KeyboardInterrupt(), 130, "stopped by Ctrl-C.\n"),
        (SystemExit(143), 143, "effft: stopped by SIGTERM.\n"),
        (click.exceptions.Exit(1), 1, ""),
    ],
)
def test_every_error_has_its_code(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, sentence: str
) -> None:
    assert run_command_line([], failing(error)) == code
    assert capsys.readouterr().err.strip().endswith(sentence.strip())


@pytest.mark.parametrize(("arguments", "variable"), [(["--traceback"], ""), ([], "1")])
def test_the_traceback_is_there_when_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], variable: str
) -> None:
    monkeypatch.setenv("EFFFT_TRACEBACK", variable)
    assert run_command_line(arguments, failing(OSError("disk full"))) == 1
    assert "Traceback" in capsys.readouterr().err


def python(code: str, **options: object) -> "subprocess.Popen[str]":
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code], **{**pipes, **options})  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGTERM, 143, "SIGTERM"), (signal.SIGINT, 130, "Ctrl-C"), (signal.SIGHUP, 129, "SIGHUP")],
)
def test_signals_end_in_one_line(tmp_path: Path, number: signal.Signals, code: int, word: str) -> None:
    ready = tmp_path / "ready"
    script = (
        "import signal, sys, time, click, pathlib\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored where the tests run in the background
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        "@click.command()\ndef wait():\n"
        f"    pathlib.Path({str(ready)!r}).touch()\n    time.sleep(30)\n"
        "from effft.cli.exit_codes import run_command_line\nsys.exit(run_command_line([], wait))"
    )
    process = python(script)
    while not ready.exists():
        time.sleep(0.02)
        assert process.poll() is None
    time.sleep(0.1)
    os.kill(process.pid, number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == code
    assert err.strip() == f"effft: stopped by {word}."


def test_every_command_exists() -> None:
    context = click.Context(app_module.app)
    for name in app_module.COMMANDS:
        command = app_module.app.get_command(context, name)
        assert command.name == name
        assert command.help
