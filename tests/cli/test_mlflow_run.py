"""The real thing: `mlflow run . -e lora` as a user types it, in a copy of the project."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from backbones import save_backbone
from place import make_place

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The project's files in a folder of their own, with a tiny backbone beside them."""
    folder = tmp_path / "project"
    skip = shutil.ignore_patterns("__pycache__")
    for name in ("effft", "reports"):
        shutil.copytree(ROOT / name, folder / name, ignore=skip)
    for name in ("MLproject", "conda.yaml"):
        shutil.copy(ROOT / name, folder / name)
    save_backbone(folder / "tiny", "llama", positions=512)
    return folder


def environment() -> dict[str, str]:
    """This interpreter first on PATH; no network, no setting of the caller's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
    quiet = {"HF_HUB_OFFLINE": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet"}
    return kept | quiet | {"PATH": path}


def mlflow_run(project: Path, *parameters: str, entry: str = "lora") -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "mlflow", "run", ".", "-e", entry, "--env-manager", "local"]
    given = ("model=tiny", "epochs=1", "evaluation_limit=20", "threads=1", "bootstrap=0", "per_label=4", *parameters)
    for parameter in given if entry == "lora" else parameters:
        command += ["-P", parameter]
    return subprocess.run(
        command, cwd=project, env=environment(), capture_output=True, text=True, timeout=240, check=False
    )


def rows(project: Path, query: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(project / "mlflow.db") as store:
        return store.execute(query).fetchall()


@pytest.mark.slow
def test_mlflow_run_makes_one_finished_run(project: Path) -> None:
    done = mlflow_run(project, "rank=4")  # declared, as per_label is; epochs and the rest are passed through
    assert done.returncode == 0, done.stderr
    assert "effft · lora" in done.stdout
    assert rows(project, "select name, status from runs") == [("lora r4 · 4/label · seed 0·0", "FINISHED")]
    keys = {key for (key,) in rows(project, "select key from latest_metrics")}
    assert {"in_domain/mcc", "ood/far/mcc", "train/loss", "resources/peak_memory_mb"} <= keys
    known = dict(rows(project, "select key, value from params"))
    assert (known["rank"], known["epochs"]) == ("4", "1")
    assert not [key for key in known if key.startswith("resolved.") and key != "resolved.per_label"]


@pytest.mark.slow
def test_the_report_finds_what_mlflow_run_made(project: Path) -> None:
    assert mlflow_run(project).returncode == 0
    done = mlflow_run(project, "task=agreement", entry="report")  # its runs lie in the experiment Default
    assert done.returncode == 0, done.stderr
    assert "report of 1 runs: report-agreement/report.html" in done.stdout
    assert (project / "report-agreement" / "report.html").is_file()


@pytest.mark.slow
def test_the_published_settings_end_to_end(project: Path) -> None:
    make_place(project, "opt")
    task = project / "task.yaml"
    task.write_text(task.read_text().replace("{minimal:", '{published: "{text} dog ?", minimal:'))
    given = ("preset=published", "task=task.yaml", "model=opt", "per_label=2", "seeds=1", "data_seeds=1", "threads=1")
    done = mlflow_run(project, *given, "evaluation_limit=20", "bootstrap=0", entry="compare")
    assert done.returncode == 0, done.stderr
    wanted = dict.fromkeys(("vanilla", "pattern+classifier", "adaptive", "lora", "context_distillation"), "FINISHED")
    query = "select t.value, r.status from runs r join tags t on r.run_uuid = t.run_uuid where t.key = 'strategy'"
    assert dict(rows(project, query)) == wanted
    values: dict[object, set[object]] = {}
    for key, value in rows(project, "select key, value from params"):
        values.setdefault(key, set()).add(value)
    assert {k: values[k] for k in ("learning_rate", "epochs", "batch_size", "max_length", "pattern")} == {
        "learning_rate": {"1e-05"}, "epochs": {"40"}, "batch_size": {"32"}, "max_length": {"128"},
        "pattern": {"published"},
    }  # fmt: skip
    assert (values["rank"], values["layers"]) == ({"8"}, {"2"})
    assert "pattern+classifier" in (project / "report-dogs" / "report.md").read_text()


@pytest.mark.slow
def test_bad_input_leaves_a_failed_run(project: Path) -> None:
    done = mlflow_run(project, "rank=0")
    assert done.returncode == 1
    assert "effft: rank=0: must be at least 1 (flag --rank).\n" in done.stderr
    assert [status for (status,) in rows(project, "select status from runs")] == ["FAILED"]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_run_is_killed(project: Path, number: signal.Signals, code: int) -> None:
    command = [sys.executable, "-m", "effft", "run", "lora", "--model", "tiny", "--epochs", "100000", "--threads", "1"]
    process = subprocess.Popen(command, cwd=project, env=environment(), stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    lines = iter(process.stderr.readline, "")
    assert next(line for line in lines if line.startswith("effft: train "))
    time.sleep(0.5)
    os.kill(process.pid, number)
    rest = process.stderr.read()
    assert process.wait(timeout=60) == code
    assert rest.strip().splitlines()[-1].startswith("effft: stopped by ")
    assert [status for (status,) in rows(project, "select status from runs")] == ["KILLED"]
