"""A loss that is no number any more: the run is FAILED and says where; in a study it is a failed trial."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from mlflow import MlflowClient
from optuna.trial import TrialState

from effft.cli.exit_codes import run_command_line
from effft.runs import fit
from tests.place import make_place

HIGH = 1.0
"""A learning rate from which the loss becomes NaN at the second step; no rate that is allowed does it by itself."""


def words_of(place: Path, uri: str) -> list[str]:
    words = ["--task", str(place / "task.yaml"), "--model", str(place / "gpt2"), "--per-label", "8", "--threads", "1"]
    return [*words, "--bootstrap", "0", "--tracking-uri", uri, "--epochs", "3", "--batch-size", "8"]


@pytest.fixture
def diverging(monkeypatch: pytest.MonkeyPatch) -> None:
    train = fit.train

    def training(learner: Any, items: Any, config: Any, rate: float, order: Any) -> Iterator[Any]:
        loss, steps = learner.loss, train(learner, items, config, rate, order)
        yield next(steps)
        if rate > HIGH:
            learner.loss = lambda *words: loss(*words) * float("nan")
        yield from steps

    monkeypatch.setattr(fit, "train", training)


@pytest.mark.usefixtures("diverging")
def test_a_run_that_diverges(tracking_uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "vanilla", *words_of(make_place(tmp_path, "gpt2"), tracking_uri), "--schedule", "constant"]
    assert run_command_line([*words, "--learning-rate", "5", "--warmup", "0"]) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("effft: the loss is nan at step 2 (learning rate 5); lower --learning-rate")
    client = MlflowClient(tracking_uri)
    found = client.get_experiment_by_name("effft/dogs")
    assert found is not None
    (run,) = client.search_runs([found.experiment_id])
    assert run.info.status == "FAILED"
    assert "train/loss" in run.data.metrics  # of the step before


@pytest.mark.slow
@pytest.mark.usefixtures("diverging")
def test_a_trial_that_diverges(tracking_uri: str, tmp_path: Path) -> None:
    words = ["search", "--strategy", "vanilla", *words_of(make_place(tmp_path, "gpt2"), tracking_uri), "--seeds", "1"]
    words += ["--learning-rate", "1e-3:9:log", "--warmup", "0", "--weight-decay", "0", "--sampler", "random"]
    words += ["--folds", "2", "--reseeds", "1", "--pruner", "none"]
    words += ["--storage", f"sqlite:///{tmp_path}/optuna.db", "--study", "s", "--trials", "6"]
    assert run_command_line(words) == 0
    trials = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/optuna.db").trials
    states = {trial.number: trial.state for trial in trials}
    high = {trial.number for trial in trials if trial.params["learning_rate"] > HIGH}
    print(f"{len(high)} of {len(trials)} trials failed")
    assert high
    assert {number for number, state in states.items() if state == TrialState.FAIL} == high
    assert all("the loss is nan at step 2" in trials[number].user_attrs["failure"] for number in high)
    assert list(states.values()).count(TrialState.COMPLETE) == 6
    client = MlflowClient(tracking_uri)
    found = client.get_experiment_by_name("effft/dogs")
    assert found is not None
    ends = [run.info.status for run in client.search_runs([found.experiment_id], "tags.kind = 'trial'")]
    assert ends.count("FAILED") == len(high)
