"""Kill -9 at random moments: the study is bit for bit the undisturbed one, and MLflow agrees with Optuna.

EFFFT_KILLS=20 asks for that many kills instead of the few that CI has time for.
"""

import csv
import os
import random
import shutil
import signal
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
import pytest
from mlflow import MlflowClient

from tests.backbones import save_backbone
from tests.reliability.lives import life, wait

KINDS = {"alone": (10, 6, ""), "workers": (8, 3, "--workers 2")}
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


@dataclass
class Place:
    """Where a study is kept, and the words that make it."""

    folder: Path
    words: list[str]

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.folder}/mlflow.db"

    def start(self) -> int:
        more = ["--storage", f"sqlite:///{self.folder}/optuna.db", "--tracking-uri", self.uri]
        return life([*self.words, *more], self.folder / "log", lambda: os.chdir(self.folder))

    def events(self) -> int:
        """Trials and results that are kept so far."""
        try:
            with closing(sqlite3.connect(f"file:{self.folder}/optuna.db?mode=ro", uri=True, timeout=1)) as connection:
                tables = ("trials", "study_user_attributes")
                return sum(connection.execute(f"select count(*) from {t}").fetchone()[0] for t in tables)
        except sqlite3.Error:
            return 0

    def study(self) -> optuna.Study:
        return optuna.load_study(study_name="killed", storage=f"sqlite:///{self.folder}/optuna.db")

    def found(self) -> dict[str, Any]:
        """All that a study found, without times, memory and the ids of runs."""
        study = self.study()
        trials = [(t.number, t.state, t.params, t.values, t.intermediate_values) for t in study.trials]
        results: dict[str, Any] = {}
        for name, value in study.user_attrs.items():
            kind = name.partition("/")[0]
            if kind == "fresh":
                results[name] = value
            elif kind in ("final", "validation"):
                metrics = value["metrics"]
                results[name] = {key: metrics[key] for key in metrics if not key.startswith("resources/")}
        client = MlflowClient(self.uri)
        champion = client.get_model_version_by_alias("effft-small", "champion")
        run = client.get_run(champion.run_id)
        told = {key: champion.tags[key] for key in ("validation", "seed", "strategy", "in_domain")}
        (parent,) = self.runs("kind = 'study' and attributes.status = 'FINISHED'")
        note = parent.data.tags["mlflow.note.content"].partition("[History")[0]
        versions = len(client.search_model_versions("name = 'effft-small'"))
        return {"trials": trials, "results": results, "champion": told, "of": run.data.tags["role"], "note": note,
                "versions": versions}  # fmt: skip

    def runs(self, words: str) -> list[Any]:
        client = MlflowClient(self.uri)
        return list(client.search_runs([e.experiment_id for e in client.search_experiments()], f"tags.{words}"))


@pytest.fixture(scope="module")
def common(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("common")
    words = ["search", "--task", str(make_task(folder)), "--model", str(save_backbone(folder / "backbone", "gpt2"))]
    words += "--per-label 8 --folds 2 --pruner median --reseeds 2 --seeds 2 --bootstrap 0 --study killed".split()
    return [*words, "--epochs", "2:4", "--threads", "1", "--precision", "fp32"]


def make_store(template: Path, folder: Path, words: list[str]) -> Place:
    folder.mkdir()
    shutil.copy(template, folder / "mlflow.db")
    return Place(folder, words)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.usefixtures("tracking_uri")  # for its clean environment
@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_study_is_the_undisturbed_study(
    kind: str, common: list[str], template_store: Path, tmp_path: Path
) -> None:
    import effft.search.study  # noqa: F401 - loaded before the forks

    trials, kills, more = KINDS[kind]
    kills = int(os.environ.get("EFFFT_KILLS", kills))
    words = [*common, *more.split(), "--trials", str(trials)]
    whole = make_store(template_store, tmp_path / "whole", words)
    assert wait(whole.start()) == 0, (whole.folder / "log").read_text()[-3000:]
    torn, rng = make_store(template_store, tmp_path / "torn", words), random.Random(kills)
    total = whole.events()
    spread = [int(total * (place + rng.random()) / kills) for place in range(kills)]
    for target in spread:  # in trials, in re-evaluations, in finals
        pid, end = torn.start(), time.monotonic() + 120
        while torn.events() < target and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.3))
        found, status = os.waitpid(pid, os.WNOHANG)
        assert not found or target > total - 3, f"{status}: {(torn.folder / 'log').read_text()[-3000:]}"
        if not found:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    assert wait(torn.start()) == 0, (torn.folder / "log").read_text()[-3000:]
    undisturbed = whole.found()
    assert torn.found() == undisturbed
    check_mlflow(torn)


def check_mlflow(place: Place) -> None:
    """Every trial has one run, which says what Optuna says; the finals that count are FINISHED."""
    trials = {t.number: t for t in place.study().trials}
    runs = place.runs("kind = 'trial'")
    assert sorted(int(run.data.tags["optuna.trial"]) for run in runs) == sorted(trials)
    for run in runs:
        trial = trials[int(run.data.tags["optuna.trial"])]
        assert run.info.status == "FINISHED"
        assert run.data.tags["trial.state"] == trial.state.name.lower()
        scores = trial.user_attrs["measured"]["scores"]
        assert run.data.metrics["validation/accuracy"] == pytest.approx(fmean(scores))
    finals = [value["run_id"] for name, value in place.study().user_attrs.items() if name.startswith("final/")]
    assert set(finals) == {run.info.run_id for run in place.runs("kind = 'final' and attributes.status = 'FINISHED'")}
