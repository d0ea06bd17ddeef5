import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from effft.tracking.provenance import code_tags, is_dead, process_tags


def test_this_process_lives() -> None:
    assert not is_dead(process_tags())


def test_a_process_that_ended_unseen_is_dead() -> None:
    child = subprocess.Popen(["sleep", "0"])
    tags = {**process_tags(), "effft.pid": str(child.pid)}
    child.wait()
    assert is_dead(tags)


def test_a_reused_process_id_is_dead() -> None:
    tags = process_tags()
    assert is_dead({**tags, "effft.pid_start": str(float(tags["effft.pid_start"]) - 60)})


@pytest.mark.parametrize(
    "other",
    [
        {"effft.host": "elsewhere"}, {"effft.pid_space": "pid:[1]"}, {"effft.pid": "x"}, {"effft.pid_start": "x"},
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_not_dead(other: dict[str, str]) -> None:
    assert not is_dead({**process_tags(), "effft.pid_start": "1.0", **other})


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="Linux only")
def test_setting_the_clock_kills_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tags = process_tags()
    booted = int(psutil.boot_time())
    stat = Path("/proc/stat").read_text().replace(f"btime {booted}", f"btime {booted - 3600}")
    (tmp_path / "stat").write_text(stat)
    (tmp_path / tags["effft.pid"]).symlink_to(f"/proc/{tags['effft.pid']}")
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path), raising=False)
    assert int(psutil.boot_time()) == booted - 3600
    assert not is_dead(tags)


def test_passwords_stay_out_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["effft", "--tracking-uri", "postgresql://me:hunter2@host/db"])
    assert code_tags()["command"] == "effft --tracking-uri postgresql://***@host/db"
