"""Kill -9 at random moments: nothing is lost, nothing is done twice, MLflow agrees with Optuna."""

import csv
import os
import random
import signal
import sqlite3
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from statistics import fmean

import optuna
import pytest
from mlflow import MlflowClient
from optuna.trial import TrialState

from tests.backbones import save_backbone
from tests.reliability.lives import life

PACK = 4
KINDS = {"alone": (25, 10, "--executor processes"), "packed": (16, 5, f"--executor packed --pack {PACK}")}
"""What is killed -> (trials, kills, words)."""

TASK = """\
name: small
fields: [text]
labels: [no, yes]
metric: accuracy
splits:
  train: {file: train.csv}
  in_domain: {file: train.csv}
"""


def make_task(folder: Path) -> Path:
    rng = random.Random(0)
    words = "the cat dog cats dogs sees see runs run old new".split()
    with (folder / "train.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["text", "label"])
        for row in range(60):
            out.writerow([" ".join(rng.choices(words, k=6)) + f" {row}", ("no", "yes")[row % 2]])
    (folder / "task.yaml").write_text(TASK)
    return folder / "task.yaml"


def asked(path: Path) -> int:
    """Trials in the storage so far."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=1)) as connection:
            return int(connection.execute("select count(*) from trials").fetchone()[0])
    except sqlite3.Error:
        return 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_killed_ten_times_a_study_ends_with_exactly_what_was_asked(
    kind: str, tracking_uri: str, tmp_path: Path
) -> None:
    import effft.search.study  # noqa: F401 - loaded before the forks

    trials, kills_asked, more = KINDS[kind]
    backbone = save_backbone(tmp_path / "backbone", "gpt2")
    place = tmp_path / "optuna.db"
    words = ["search", "--task", str(make_task(tmp_path)), "--model", str(backbone), "--per-label", "8", "--folds", "2"]
    words += f"{more} --trials {trials} --pruner none --reseeds 1 --seeds 1 --bootstrap 0".split()
    words += ["--storage", f"sqlite:///{place}", "--tracking-uri", tracking_uri, "--study", "killed"]
    words += ["--epochs", "2:4", "--threads", "1", "--precision", "fp32", "--sampler", "tpe"]
    rng, kills, log = random.Random(0), 0, tmp_path / "log"
    while kills < kills_asked:
        before, start, pid = asked(place), time.monotonic(), life(words, log)
        if rng.random() < 0.7:  # while it works; else perhaps while it starts
            while asked(place) == before and time.monotonic() - start < 60:
                time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.8))
        ended, status = os.waitpid(pid, os.WNOHANG)
        assert not ended, f"the study ended at {kills} of {kills_asked} kills ({status}): {log.read_text()}"
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        kills += 1
        assert in_flight(place) <= (PACK if kind == "packed" else 1)
    _, status = os.waitpid(life(words, log), 0)
    assert status == 0, log.read_text()[-3000:]
    check_optuna(place, trials)
    check_mlflow(place, tracking_uri)


def in_flight(place: Path) -> int:
    """Trials that the killed process took with it, besides those that an earlier one did."""
    if not place.exists():
        return 0
    try:
        trials = study_of(place).get_trials(deepcopy=False)
    except KeyError:  # killed before there was a study
        return 0
    return sum(t.state == TrialState.RUNNING for t in trials)


def study_of(place: Path) -> optuna.Study:
    return optuna.load_study(study_name="killed", storage=f"sqlite:///{place}")


def check_optuna(place: Path, wanted: int) -> None:
    trials = study_of(place).get_trials(deepcopy=False)
    states = Counter(t.state for t in trials)
    assert states[TrialState.COMPLETE] == wanted
    assert states[TrialState.RUNNING] == 0
    again = [t.user_attrs["requeue_of"] for t in trials if "requeue_of" in t.user_attrs]
    assert len(set(again)) == len(again)
    done = [tuple(sorted(t.params.items())) for t in trials if t.state == TrialState.COMPLETE]
    assert len(set(done)) == wanted


def check_mlflow(place: Path, tracking_uri: str) -> None:
    trials = {t.number: t for t in study_of(place).get_trials(deepcopy=False)}
    client = MlflowClient(tracking_uri=tracking_uri)
    experiment = client.get_experiment_by_name("effft/small")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    children = [r for r in runs if "optuna.trial" in r.data.tags]
    parents = [r for r in runs if r.data.tags.get("kind") == "study" and r.info.status == "FINISHED"]
    assert len(parents) == 1
    numbers = [int(r.data.tags["optuna.trial"]) for r in children if r.info.status == "FINISHED"]
    assert sorted(numbers) == [n for n, t in sorted(trials.items()) if t.state == TrialState.COMPLETE]
    assert {r.info.status for r in runs} <= {"FINISHED", "KILLED"}
    for run in children:
        trial = trials[int(run.data.tags["optuna.trial"])]
        if run.info.status == "FINISHED":
            assert run.data.tags["mlflow.parentRunId"] == parents[0].info.run_id
            assert run.data.metrics["validation/accuracy"] == pytest.approx(trial.values[0])
            assert run.data.metrics["validation/accuracy"] == pytest.approx(
                fmean(trial.user_attrs["measured"]["scores"])
            )
