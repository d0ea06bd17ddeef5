"""A clock that goes back, the locale C, another folder, spaces and letters of other scripts: it works."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.place import make_place
from tests.reliability.lives import life, wait
from tests.runs import runs_in

ROOT = Path(__file__).parent.parent.parent


def turn_back() -> None:
    """Every look at the clock, after the first hundred, is two hours before the last."""
    real, looks = time.time, [0]

    def earlier() -> float:
        looks[0] += 1
        return real() - 7200 * max(0, looks[0] - 100)

    time.time = earlier


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_clock_that_goes_back(tracking_uri: str, tmp_path: Path) -> None:
    place, log = make_place(tmp_path, "gpt2"), tmp_path / "log"
    words = ["--task", str(place / "task.yaml"), "--model", str(place / "gpt2"), "--per-label", "8", "--threads", "1"]
    words += ["--bootstrap", "0", "--tracking-uri", tracking_uri, "--epochs", "2"]
    assert wait(life(["run", "lora", *words, "--log-model", "true"], log, turn_back)) == 0, log.read_text()
    search = ["search", *words, *"--sampler random --trials 3 --folds 2 --seeds 1 --reseeds 1".split()]
    assert wait(life([*search, "--storage", f"sqlite:///{tmp_path}/optuna.db"], log, turn_back)) == 0, log.read_text()
    runs = runs_in(tracking_uri)
    assert {run.info.status for run in runs} == {"FINISHED"}
    trained = [run for run in runs if run.data.tags["kind"] != "study"]
    assert all(run.data.metrics["resources/train_seconds"] >= 0 for run in trained)
    assert all("validation/mcc" in run.data.metrics for run in trained)


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["a b 'c' é ü 中文 %20 #1"])
def test_odd_names_in_the_locale_c(tmp_path: Path, folder: str) -> None:
    home = tmp_path / folder
    home.mkdir()
    place = make_place(home, "gpt2")
    for name in ("task.yaml", "train.csv", "test.csv", "far.csv"):
        text = (place / name).read_text(encoding="utf-8")
        text = text.replace("with_dog", "enthält").replace("without", "ohne").replace("cat", "chât")
        (place / name).write_text(text, encoding="utf-8")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "MLFLOW_TRACKING"))}
    environment |= {"LC_ALL": "C", "PYTHONPATH": str(ROOT)}
    words = ["compare", "--strategies", "lora,zero_shot", "--seeds", "1", "--task", "task.yaml", "--model", "gpt2"]
    words += ["--per-label", "8", "--threads", "1", "--bootstrap", "10", "--log-model", "true", "--epochs", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "effft", *words], cwd=home, env=environment, capture_output=True, timeout=200
    )
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    assert b"report could not" not in done.stderr
    runs = runs_in(f"sqlite:///{home}/mlflow.db".replace("%", "%25"))
    assert [run.info.status for run in runs] == ["FINISHED"] * 3
    (report,) = home.glob("report-*/report.html")
    assert "lora" in report.read_text(encoding="utf-8")
