"""Bad input of every kind: exit code 2, one sentence that names place, value and remedy, and no run left behind."""

import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import bad_data
import bad_doors
import bad_files
import bad_models
import bad_numbers
import bad_tasks
import pytest
from case import Case, lay

from effft.cli.exit_codes import run_command_line

KINDS = (bad_tasks, bad_data, bad_doors, bad_files, bad_models, bad_numbers)
CASES: list[Case] = [case for kind in KINDS for case in kind.CASES]
SLOWEST = 5.0
"""Seconds that a refusal may take."""


def too_slow(_number: int, _frame: object) -> None:
    raise TimeoutError


signal.signal(signal.SIGALRM, too_slow)


@pytest.fixture(scope="session")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import effft.search.study  # noqa: F401 - no part of the time of a refusal

    return bad_models.save_all(tmp_path_factory.mktemp("backbones"))


def command(case: Case, task: Path, backbones: Path) -> list[str]:
    if case.words:
        return [word.format(task=task, models=backbones) for word in case.words]
    good = {"task": str(task), "model": "{models}/llama", "per-label": "2", "bootstrap": "0"}
    options = {name: value.format(models=backbones) for name, value in {**good, **case.options}.items()}
    return ["run", case.strategy, *(f"--{name}={value}" for name, value in options.items())]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input(
    case: Case, backbones: Path, tmp_path: Path, tracking_uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    task = lay(tmp_path, case)
    words = command(case, task, backbones)
    signal.setitimer(signal.ITIMER_REAL, SLOWEST)
    try:
        code = run_command_line(words)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    out, err = capsys.readouterr()
    assert code == 2, err
    assert [part for part in case.says if part not in err] == [], err
    assert err.startswith("effft: ")
    assert err.count("\n") == 1
    assert err.rstrip().endswith((".", "?", ")"))
    assert "Traceback" not in out + err
    assert "EFFFT_TRACEBACK" not in err
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as store:
        assert store.execute("select count(*) from runs").fetchone() == (0,)


def test_every_case_has_its_own_name() -> None:
    names = [case.name for case in CASES]
    assert [name for name in names if names.count(name) > 1] == []
    assert len(CASES) >= 60
