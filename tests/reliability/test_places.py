"""Places that cannot be written, paths that are something else: a sentence before training, by whoever runs it."""

import ctypes
import shutil
from pathlib import Path

import pytest

from effft.cli.exit_codes import run_command_line
from effft.runs import experiment
from tests.place import make_place
from tests.reliability.disks import read_only
from tests.reliability.lives import life, wait


@pytest.fixture
def words(tracking_uri: str, tmp_path: Path) -> list[str]:
    (tmp_path / "p").mkdir()
    place = make_place(tmp_path / "p", "gpt2")
    words = ["run", "lora", "--task", str(place / "task.yaml"), "--model", str(place / "gpt2"), "--per-label", "8"]
    return [*words, "--epochs", "1", "--bootstrap", "0", "--threads", "1"]


def refused(words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The one sentence; nothing may train before it."""

    def trains(*_: object) -> None:
        raise AssertionError("it trained before it looked")

    with monkeypatch.context() as patch:
        patch.setattr(experiment, "adapt", trains)
        code = run_command_line(words)
    err = capsys.readouterr().err
    assert code in (1, 2), err
    assert err.startswith("effft: ")
    assert err.count("\n") == 1, err
    return err


@pytest.mark.parametrize(
    ("option", "value", "fragments"),
    [
        ("--tracking-uri", "sqlite:///p", ("it is a folder", "--tracking-uri")),
        ("--tracking-uri", "sqlite:///p/task.yaml", ("no sqlite database", "name another")),
        ("--tracking-uri", "sqlite:///p/task.yaml/mlflow.db", ("does not exist", "--tracking-uri")),
        ("--model", "p/task.yaml", ("is a file", "give the folder")),
        ("--data-dir", "p/task.yaml", ("p/task.yaml", "--data-dir")),
        ("--task", "p", ("p", "task")),
        ("--task", "p/gpt2/model.safetensors", ("model.safetensors",)),
    ],
)
def test_a_path_that_is_something_else(
    words: list[str],
    option: str,
    value: str,
    fragments: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = refused([*words, option, value], capsys, monkeypatch)
    assert all(fragment in said for fragment in fragments), said


def test_a_read_only_folder(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ro").mkdir()
    shutil.copy(tmp_path / "mlflow.db", tmp_path / "ro" / "old.db")
    with read_only(tmp_path / "ro"), monkeypatch.context() as patch:
        for name in ("new.db", "old.db"):
            said = refused([*words, "--tracking-uri", f"sqlite:///{tmp_path}/ro/{name}"], capsys, monkeypatch)
            assert "no permission to write there (flag --tracking-uri)" in said
        patch.chdir(tmp_path / "ro")  # runs' files go to ./mlruns, whatever the store is
        said = refused([*words, "--tracking-uri", f"sqlite:///{tmp_path}/mlflow.db"], capsys, monkeypatch)
        assert "Read-only file system" in said
        assert "mlruns" in said
        said = refused(["compare", "--strategies", "lora", *words[2:]], capsys, monkeypatch)
        assert "no permission to write there" in said


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_no_permission(words: list[str], tmp_path: Path) -> None:
    hidden, closed = tmp_path / "hidden", tmp_path / "closed"
    hidden.mkdir()
    shutil.copy(tmp_path / "p" / "train.csv", hidden)
    closed.mkdir()
    shutil.copy(tmp_path / "mlflow.db", closed)
    hidden.chmod(0o000)
    (closed / "mlflow.db").chmod(0o444)
    closed.chmod(0o555)
    for place, (more, fragment) in enumerate(
        (
            (["--tracking-uri", f"sqlite:///{closed}/new.db"], "no permission to write there (flag --tracking-uri"),
            (["--tracking-uri", f"sqlite:///{closed}/mlflow.db"], "no permission to write there (flag --tracking-uri"),
            (["--tracking-uri", f"sqlite:///{hidden}/mlflow.db"], f"no permission for {hidden}/mlflow.db"),
            (["--data-dir", str(hidden)], "hidden"),
            (["--model", str(hidden)], "hidden"),
            (["--task", str(hidden / "task.yaml")], "hidden"),
        )
    ):
        log = tmp_path / f"log {place}"
        assert wait(life([*words, *more], log, obey)) == 2, log.read_text()
        (line,) = log.read_text().splitlines()
        assert fragment in line


def obey() -> None:
    """Let root obey permission bits, as everybody else has to (drop CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH)."""
    words = ctypes.c_uint32 * 6
    head, have = (ctypes.c_uint32 * 2)(0x20080522, 0), words()
    libc = ctypes.CDLL(None)
    assert libc.capget(head, have) == 0
    for place in (0, 1):  # effective, permitted
        have[place] &= ~0b110
    assert libc.capset(head, have) == 0
