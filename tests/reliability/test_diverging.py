"""A loss that is no number any more: the run is FAILED and says where; in a study it is a failed trial."""

import re
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from effft.cli.exit_codes import run_command_line
from tests.place import make_place
from tests.runs import runs_in

DIVERGING = "--weight-decay 1000 --warmup 0 --schedule constant".split()
"""From a learning rate of about 1 on the decay multiplies every weight by -1,000 at each step."""


def words_of(place: Path, uri: str) -> list[str]:
    words = ["--task", str(place / "task.yaml"), "--model", str(place / "gpt2"), "--per-label", "8", "--threads", "1"]
    return [*words, "--bootstrap", "0", "--tracking-uri", uri, "--epochs", "3", "--batch-size", "8"]


def test_a_run_that_diverges(tracking_uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "vanilla", *words_of(make_place(tmp_path, "gpt2"), tracking_uri), *DIVERGING]
    assert run_command_line([*words, "--learning-rate", "9"]) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.match(r"effft: the loss is nan at step \d+ \(learning rate 9\); lower --learning-rate", line)
    (run,) = runs_in(tracking_uri)
    assert run.info.status == "FAILED"
    assert "train/loss" in run.data.metrics  # of the step before


@pytest.mark.slow
def test_a_trial_that_diverges(tracking_uri: str, tmp_path: Path) -> None:
    words = ["search", "--strategy", "vanilla", *words_of(make_place(tmp_path, "gpt2"), tracking_uri), "--seeds", "1"]
    words += ["--learning-rate", "1e-3:9:log", *DIVERGING, "--sampler", "random"]
    words += ["--folds", "2", "--reseeds", "1", "--pruner", "none"]
    words += ["--storage", f"sqlite:///{tmp_path}/optuna.db", "--study", "s", "--trials", "6"]
    assert run_command_line(words) == 0
    trials = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/optuna.db").trials
    failed = [trial for trial in trials if trial.state == TrialState.FAIL]
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    assert (len(complete), len(complete) + len(failed)) == (6, len(trials))
    assert all(re.search("the loss is nan|are not finite", trial.user_attrs["failure"]) for trial in failed)
    rates = [[trial.params["learning_rate"] for trial in some] for some in (complete, failed)]
    assert max(rates[0]) < min(rates[1])
    ends = [run.info.status for run in runs_in(tracking_uri, words="tags.kind = 'trial'")]
    assert ends.count("FAILED") == len(failed)
