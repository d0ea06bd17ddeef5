"""Terminals that go away: printing never decides a run's fate."""

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = f"{sys.executable} -m effft"
RUN = f"{COMMAND} run lora --steps 3 --evaluation-limit 4 --bootstrap 0 --threads 1 --no-tracking"


def shell(line: str, folder: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    """A line of bash; its exit code is that of the first command of a pipe."""
    line += "; exit ${PIPESTATUS[0]}"
    environment = os.environ | variables
    return subprocess.run(
        ["bash", "-c", line], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.parametrize(
    ("redirection", "code"),
    [("| head -1", 0), ("2>/dev/full", 0), (">&-", 0), ("<&- >&- 2>&-", 0), (">/dev/full", 1)],
)
def test_output_that_nobody_takes(tmp_path: Path, redirection: str, code: int) -> None:
    done = shell(f"{COMMAND} strategies {redirection}", tmp_path)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
    assert ("standard output could not be written" in done.stderr) == bool(code)


@pytest.mark.parametrize("redirection", ["2>/dev/full", "<&- >&- 2>&-"])
@pytest.mark.slow
def test_a_run_goes_on_and_its_results_are_kept(tmp_path: Path, redirection: str, tracking_uri: str) -> None:
    done = shell(f"{RUN.replace('--no-tracking', '')} {redirection}", tmp_path)
    assert done.returncode == 0, done.stderr
    query = "select status, (select count(*) from latest_metrics m where m.run_uuid = r.run_uuid) > 5 from runs r"
    with sqlite3.connect(tmp_path / "mlflow.db") as store:
        assert store.execute(query).fetchall() == [("FINISHED", 1)]


@pytest.mark.slow
def test_an_encoding_without_our_characters(tmp_path: Path) -> None:
    done = shell(RUN, tmp_path, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "effft \\xb7 lora" in done.stdout


def test_json_is_json(tmp_path: Path) -> None:
    tasks = json.loads(shell(f"{COMMAND} tasks --json", tmp_path).stdout)
    assert {"task": "agreement", "metric": "mcc"}.items() <= tasks[0].items()
