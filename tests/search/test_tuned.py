"""`compare --tuned true`: a study for every strategy that has a space, one table of the finals."""

from pathlib import Path

import optuna
import pytest

from effft.cli.exit_codes import run_command_line
from effft.config import TrackingTarget
from effft.errors import InputError
from effft.progress import silent
from effft.runs.compare import ResultsFile
from effft.runs.comparison_file import Comparison
from effft.search.tuned import TunedComparison
from effft.tracking.tracker import MemoryTracker
from tests.backbones import save_backbone
from tests.runs import runs_in

WORDS = (
    "compare --tuned true --task agreement --per-label 4 --seeds 1 --trials 2 --evaluation-limit 8 --steps 1 "
    "--bootstrap 0 --precision fp32"
).split()


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_backbone(tmp_path_factory.mktemp("backbone"), "gpt2"))


@pytest.mark.slow
def test_every_strategy_has_the_same_number_of_trials(
    tracking_uri: str, backbone: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["--strategies", "lora,adaptive", "--model", backbone, "--tracking-uri", tracking_uri]
    assert run_command_line([*WORDS, *place]) == 0
    out = capsys.readouterr().out
    assert "lora" in out
    assert "adaptive" in out
    storage = f"sqlite:///{tmp_path}/optuna.db"
    studies = {s.study_name: s.n_trials for s in optuna.get_all_study_summaries(storage)}
    assert sorted(name.split("/")[1] for name in studies) == ["adaptive", "lora"]
    for name in studies:
        study = optuna.load_study(study_name=name, storage=storage)
        assert sum(t.state.is_finished() and t.state.name != "FAIL" for t in study.trials) == 2
    runs = runs_in(tracking_uri, "effft/agreement")
    parents = [r for r in runs if r.data.tags.get("kind") == "comparison"]
    assert [(r.info.status, r.data.tags["tuned"]) for r in parents] == [("FINISHED", "true")]
    finals = [r for r in runs if r.data.tags.get("kind") == "final"]
    assert {r.data.tags["strategy"] for r in finals if r.data.tags["tuned"] == "true"} == {"lora", "adaptive"}
    assert {r.info.status for r in runs} == {"FINISHED"}
    told = (tmp_path / "report-agreement" / "report.md").read_text()
    assert "| lora tuned | 4 | 8 | 1 |" in told  # the finals are no children of the comparison
    assert "| adaptive tuned | 4 | 8 | 1 |" in told
    assert "| lora, 4 per label |" in told.partition("## Searches")[2]


@pytest.mark.slow
def test_another_experiment_has_all_of_it(tracking_uri: str, backbone: str, tmp_path: Path) -> None:
    place = ["--strategies", "lora", "--model", backbone, "--tracking-uri", tracking_uri, "--experiment", "elsewhere"]
    assert run_command_line([*WORDS, *place]) == 0
    assert "| lora tuned | 4 | 8 | 1 |" in (tmp_path / "report-agreement" / "report.md").read_text()


def test_rows_that_differ_in_settings_or_models_have_studies_and_names_of_their_own(backbone: str) -> None:
    listed = {"strategies": ["lora"], "per_label": [4], "settings": {"max_length": [32, 64]}}
    comparison = Comparison.model_validate({"models": ["tiny-lm", backbone], "grids": [listed]})
    job = TunedComparison(comparison, 2, silent, print, workers=2)
    names, rows = {plan.name for _, plan in job.studies}, {row.variant for row, _ in job.studies}
    assert (len(job.studies), len(names), len(rows)) == (4, 4, 4)
    assert f"lora max_length 32 on {backbone}" in rows
    assert {plan.settings.workers for _, plan in job.studies} == {2}
    assert {unit.config.threads for _, plan in job.studies for unit in plan.units({}, 0, 1)} == {1}
    with pytest.raises(InputError, match="pairs"):
        TunedComparison(Comparison.model_validate({"grids": [listed | {"pairs": 2}]}), 2, silent, print)
    with pytest.raises(InputError, match="leave pairs, demo_seeds and order_seeds out"):
        TunedComparison(Comparison.model_validate({"grids": [listed | {"order_seeds": 2}]}), 2, silent, print)
    grids = [listed | {"settings": {"max_length": length}} for length in (32, 32, 64)]
    assert len(TunedComparison(Comparison.model_validate({"grids": grids[:2]}), 2, silent, print).studies) == 1
    with pytest.raises(
        InputError, match="two grids have the study 'agreement/lora/4/tiny-lm/0-0' with different settings"
    ):
        TunedComparison(Comparison.model_validate({"grids": grids}), 2, silent, print)


@pytest.mark.slow
def test_runs_with_nothing_to_tune_are_not_made_again(
    backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small = {"evaluation_limit": 8, "bootstrap": 0, "model": backbone, "calibration": "none", "label_score": "first"}
    grid = {"strategies": ["zero_shot"], "per_label": [4, 8], "seeds": 1, "settings": small}
    given = Comparison.model_validate({"grids": [grid]})
    first, second = (TunedComparison(given, 2, silent, print) for _ in range(2))
    parents = [dict.fromkeys(job.tasks, MemoryTracker()) for job in (first, second)]
    half = first.outcomes(parents[0], TrackingTarget(disabled=True), ResultsFile(first.results_path), silent)
    next(half)
    half.close()  # as Ctrl-C does
    found = list(second.outcomes(parents[1], TrackingTarget(disabled=True), ResultsFile(second.results_path), silent))
    assert (len(found), [len(p.children) for own in parents for p in own.values()]) == (2, [1, 1])
    other = Comparison.model_validate({"grids": [grid | {"per_label": [4]}]})
    assert TunedComparison(other, 2, silent, print).results_path != first.results_path


@pytest.mark.parametrize(
    ("words", "told"),
    [(["--strategies", "lroa"], "Did you mean 'lora'?"), (["--strategies", "lora", "--layers", "2"], "none of the")],
)
def test_bad_input_is_a_sentence(
    words: list[str], told: str, backbone: str, tracking_uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command_line([*WORDS, *words, "--model", backbone, "--tracking-uri", tracking_uri]) == 2
    assert told in capsys.readouterr().err
