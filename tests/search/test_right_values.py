"""Studies say what they did: each kind of the issue on right values, on inputs of that kind."""

import csv
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from effft.cli.exit_codes import run_command_line
from effft.config import RunConfig, TrackingTarget
from effft.runs.experiment import run
from effft.runs.session import Session
from effft.search.planning import plan_study
from effft.search.settings import Settings
from effft.search.study import run_study
from effft.tracking.tracker import MemoryTracker
from tests.backbones import save_backbone

SMALL = "--per-label 8 --folds 2 --epochs 2 --seeds 1 --reseeds 1 --trials 2 --bootstrap 0 --precision fp32".split()
TASK = "fields: [text]\nlabels: [bad, good]\ntrain: train.csv\nin_domain: test.csv\n"


def make_task(folder: Path, word: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("train", "test"):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            rows = [(f"the {word if number % 2 else 'cat'} runs {name} {number}", number % 2) for number in range(60)]
            csv.writer(file).writerows([("text", "label"), *((text, ("bad", "good")[label]) for text, label in rows)])
    (folder / "task.yaml").write_text(TASK)
    return folder / "task.yaml"


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_backbone(tmp_path_factory.mktemp("backbone"), "gpt2")


@pytest.fixture
def search(tracking_uri: str, backbone: Path) -> Callable[..., int]:
    def go(*words: str) -> int:
        base = "search --strategy probe --head-solver gradient".split()
        return run_command_line([*base, "--tracking-uri", tracking_uri, "--model", str(backbone), *SMALL, *words])

    return go


@pytest.mark.slow
def test_kind_2_changed_data_and_weights_are_refused(
    search: Callable[..., int], backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task, model = make_task(tmp_path / "edited", "dog"), tmp_path / "model"
    shutil.copytree(backbone, model)
    words = ["--task", str(task), "--model", str(model), "--no-tracking"]
    assert search(*words) == 0
    capsys.readouterr()
    renamed = tmp_path / "elsewhere"
    shutil.move(model, renamed)
    assert search(*words, "--model", str(renamed), "--study", "task/probe/8/model/0-0") == 0  # the path is no content
    make_task(tmp_path / "edited", "sees")
    assert search(*words, "--model", str(renamed), "--study", "task/probe/8/model/0-0") == 2
    error = capsys.readouterr().err
    assert "the files of task 'task' have changed (in_domain, train)" in error
    assert "--study NAME" in error
    make_task(tmp_path / "edited", "dog")
    shutil.copytree(save_backbone(tmp_path / "other", "llama"), model)
    assert search(*words) == 2
    error = capsys.readouterr().err
    assert "other weights" in error
    assert "--study NAME" in error


@pytest.mark.slow
def test_kind_2_another_task_of_the_same_name_is_not_given_the_first_ones_result(
    search: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, word in (("shop", "dog"), ("mail", "sees")):
        make_task(tmp_path / name, word)
    words = ["--task", "task.yaml", "--storage", f"sqlite:///{tmp_path}/one.db", "--no-tracking"]
    monkeypatch.chdir(tmp_path / "shop")
    assert search(*words) == 0
    monkeypatch.chdir(tmp_path / "mail")
    assert search(*words) == 2
    assert "was made with other data" in capsys.readouterr().err
    assert search(*words, "--study", "mail") == 0


@pytest.mark.slow
def test_kind_4_a_range_without_the_default_says_so_and_measures_the_true_default(
    backbone: Path, tmp_path: Path
) -> None:
    values = {"strategy": "probe", "task": str(make_task(tmp_path / "edited", "dog")), "model": str(backbone)}
    values |= {"head_solver": "gradient", "per_label": "8", "bootstrap": "0", "precision": "fp32"}
    session, lines = Session(), list[str]()
    settings = Settings(trials=2, folds=2, reseeds=1, seeds=2)
    plan = plan_study(values, {"learning_rate": "1e-6|1e-5", "epochs": "2"}, settings, "narrow", session)
    place = f"sqlite:///{tmp_path}/o.db", TrackingTarget(disabled=True)
    outcome = run_study(plan, *place, session, lambda *_: None, lines.append)
    (said,) = [line for line in lines if "exclude the default" in line]
    assert re.search(r"\(learning_rate=[\d.]+, epochs=\d+\)", said)
    (default,) = [final for final in outcome.finals if (final.role, final.seed) == ("default", 1001)]
    alone = run(RunConfig(**values, seed=1001), MemoryTracker(), session)
    assert default.metrics["in_domain/accuracy"] == alone.metrics["in_domain/accuracy"]
    assert default.metrics["validation/accuracy"] == alone.metrics["validation/accuracy"]
    assert "Keep the default" in outcome.sentences[0]


def test_kind_4_duplicate_guesses_are_tried_once() -> None:
    values = {"strategy": "lora", "per_label": "4"}
    plan = plan_study(values, {"learning_rate": "1e-6:1e-5:log"}, Settings(folds=2), "s", Session())
    assert len(plan.guesses) == len({str(guess) for guess in plan.guesses}) == 2  # three of the default's rate are too
    assert len(plan_study(values, {}, Settings(folds=2), "s", Session()).guesses) == 3


@pytest.mark.slow
def test_kind_10_progress_never_passes_its_total(backbone: Path, tmp_path: Path) -> None:
    values = {"strategy": "probe", "task": str(make_task(tmp_path / "task", "dog")), "model": str(backbone)}
    settings, lines, steps = Settings(trials=3, folds=2, reseeds=2, seeds=2), list[str](), list[tuple[str, int, int]]()
    session = Session()
    plan = plan_study(
        {**values, "head_solver": "gradient", "per_label": "8", "bootstrap": "0"}, {}, settings, "progress", session
    )
    place = f"sqlite:///{tmp_path}/o.db", TrackingTarget(disabled=True)
    for _ in range(2):
        run_study(plan, *place, session, lambda *step: steps.append(step), lines.append)
    assert all(done < total for _, done, total in steps if total)
    assert "at most 24 trainings: 6 of trials, 12 of re-evaluations, 6 of final runs; under a minute." in lines[0]
    assert lines.index(next(line for line in lines if line.startswith("trial "))) > 0


@pytest.mark.slow
def test_kind_10_one_number_in_terminal_registry_mlflow_and_report(
    search: Callable[..., int], tracking_uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search("--task", str(make_task(tmp_path / "numbers", "dog")), "--seeds", "3") == 0
    out = " ".join(capsys.readouterr().out.split())
    client = MlflowClient(tracking_uri)
    version = client.get_model_version_by_alias("effft-task", "champion")
    role = client.get_run(version.run_id).data.tags["role"]
    lead = "Keep the default" if role == "default" or "nothing better" in out else "Use trial"
    assert out.partition(": ")[2].startswith(lead)
    number = f"{float(version.tags['validation']):.4f}"
    means = out.partition("final means on validation, by accuracy: ")[2]
    assert f"{'default' if lead == 'Keep the default' else 'winner'} {number}" in means
    (parent,) = [
        run
        for experiment in client.search_experiments()
        for run in client.search_runs([experiment.experiment_id], "tags.kind = 'study'")
    ]
    assert f"{parent.data.metrics['validation/accuracy']:.4f}" == number
    words = ["report", "--task", str(tmp_path / "numbers" / "task.yaml"), "--tracking-uri", tracking_uri]
    assert run_command_line([*words, "--out", "page"]) == 0
    section = (tmp_path / "page" / "report.md").read_text().partition("## Searches")[2]
    assert f"{float(number):.3f}" in section.partition("final mean")[2].partition("\n\n")[0]
