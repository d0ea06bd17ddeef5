"""Comparisons on tiny backbones, with a real store: tables, failures, interruptions, worker processes, controls."""

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from place import make_place

from effft.cli.exit_codes import run_command_line
from effft.config import TrackingTarget, make_config
from effft.progress import silent
from effft.runs import experiment
from effft.runs.compare import Outcome, PlannedComparison, ResultsFile
from effft.runs.controls import control_config
from effft.runs.grid import Grid
from effft.runs.session import Session
from effft.tracking.tracker import MemoryTracker, Tracker
from tests.backbones import save_backbone

SMALL = {"per_label": (4,), "seeds": 1}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_place(tmp_path_factory.mktemp("dogs"), "llama")
    save_backbone(folder / "broken", "llama", std=2e18)  # attention overflows
    return folder


def words(place: Path, strategies: str, *more: str, model: str = "llama") -> list[str]:
    small = ["--per-label", "4", "--seeds", "1", "--epochs", "1", "--bootstrap", "0"]
    return ["compare", "--task", str(place / "task.yaml"), "--model", str(place / model), "--strategies", strategies,
            *small, *more]  # fmt: skip


def settings(place: Path) -> dict[str, object]:
    return {"model": str(place / "llama"), "epochs": 1, "bootstrap": 0}


def planned(place: Path, *strategies: str, workers: int = 1, **fields: object) -> PlannedComparison:
    given = {"tasks": [str(place / "task.yaml")], "strategies": strategies, "settings": settings(place)}
    return PlannedComparison(list(Grid(**{**given, **SMALL, **fields}).runs()), workers, Session())


def outcomes(job: PlannedComparison, parent: Tracker, file: ResultsFile) -> dict[int, Outcome]:
    target = TrackingTarget(disabled=True)
    return dict(job.outcomes(dict.fromkeys(job.tasks, parent), target, file, silent))


def tracked_runs(uri: str) -> dict[str, list[Run]]:
    client = MlflowClient(uri)
    home = client.get_experiment_by_name("effft/dogs")
    found: dict[str, list[Run]] = {}
    for run in client.search_runs([home.experiment_id]) if home else []:
        found.setdefault(run.data.tags["kind"], []).append(run)
    return found


def numbers(found: dict[int, Outcome]) -> list[dict[str, float]]:
    clock = ("seconds", "per_second", "memory_mb", "matmul_share", "flops")
    results = [outcome.result for _, outcome in sorted(found.items())]
    return [{k: v for k, v in r.metrics.items() if not k.endswith(clock)} for r in results if r is not None]


@pytest.mark.slow
def test_the_command_prints_and_keeps_the_table(
    place: Path, tracking_uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command_line([*words(place, "lora,vanilla", "--out", "kept"), "--tracking-uri", tracking_uri]) == 0
    printed = capsys.readouterr()
    assert "majority" in printed.out
    assert "2 runs, 2 of them trainings" in printed.err
    runs = tracked_runs(tracking_uri)
    (parent,) = runs["comparison"]
    assert (parent.info.status, parent.data.tags["strategies"]) == ("FINISHED", "lora,vanilla")
    assert {run.data.tags["mlflow.parentRunId"] for run in runs["run"]} == {parent.info.run_id}
    assert len({run.data.tags["task_digest"] + run.data.tags["model_digest"] for run in runs["run"]}) == 1
    assert "lora/4/in_domain/mcc" in parent.data.metrics
    assert (tmp_path / "kept" / "dogs" / "report.md").is_file()
    assert "2 runs, made by" in (tmp_path / "kept" / "README.md").read_text()
    assert list(tmp_path.glob("effft-compare-*")) == []


@pytest.mark.slow
def test_failures_are_listed_and_do_not_stop_the_others(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [*words(place, "vanilla,zero_shot", "--json", model="broken"), "--no-tracking"]
    assert run_command_line(command) == 1
    table = json.loads(capsys.readouterr().out)["dogs"]
    assert {row["strategy"] for row in table["rows"]} == {"vanilla", "zero_shot"}
    assert any("RunError: the states" in sentence for sentence in table["warnings"])


def test_everything_is_checked_before_anything_runs(
    place: Path, tracking_uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command_line([*words(place, "vanilla,lora", "--rank", "999"), "--tracking-uri", tracking_uri]) == 2
    assert "lora at 4 per label: " in capsys.readouterr().err
    assert tracked_runs(tracking_uri) == {}


@pytest.mark.slow
def test_an_interrupted_comparison_goes_on(place: Path, tmp_path: Path) -> None:
    job, parent = planned(place, "lora", "probe", "vanilla"), MemoryTracker()
    file = ResultsFile(tmp_path / "results.jsonl")
    half = job.outcomes(dict.fromkeys(job.tasks, parent), TrackingTarget(disabled=True), file, silent)
    first = [next(half), next(half)]
    half.close()  # as Ctrl-C does
    with (tmp_path / "results.jsonl").open("a") as torn:
        torn.write('{"kind": "results", "key": "half of a li')
    again, second_parent = planned(place, "lora", "probe", "vanilla"), MemoryTracker()
    found = outcomes(again, second_parent, ResultsFile(tmp_path / "results.jsonl"))
    assert [child.name.split()[0] for child in second_parent.children] == ["vanilla"]
    assert numbers(found)[:2] == numbers(dict(first))
    whole = outcomes(planned(place, "lora", "probe", "vanilla"), MemoryTracker(), ResultsFile(None))
    assert numbers(found) == numbers(whole)


@pytest.mark.slow
def test_the_same_command_continues_under_the_same_run(place: Path, tracking_uri: str) -> None:
    command = [*words(place, "lora,vanilla"), "--tracking-uri", tracking_uri]
    assert run_command_line(command) == 0
    (parent,) = tracked_runs(tracking_uri)["comparison"]
    job = planned(place, "lora", "vanilla")
    file = ResultsFile(job.results_path)
    file.add("parents", str(place / "task.yaml"), parent.info.run_id)
    next(job.outcomes(dict.fromkeys(job.tasks, MemoryTracker()), TrackingTarget(disabled=True), file, silent))
    assert run_command_line(command) == 0
    runs = tracked_runs(tracking_uri)
    assert [(run.info.run_id, run.info.status) for run in runs["comparison"]] == [(parent.info.run_id, "FINISHED")]
    assert sorted(run.data.tags["strategy"] for run in runs["run"]) == ["lora", "vanilla", "vanilla"]
    assert not job.results_path.exists()


def test_other_content_is_not_continued(place: Path, tmp_path: Path) -> None:
    keys = planned(place, "lora").keys
    other = make_place(tmp_path / "other" if (tmp_path / "other").mkdir() is None else tmp_path, "llama")
    assert planned(other, "lora").keys == keys  # the place does not count
    rows = (other / "train.csv").read_text().replace("dog", "cat", 1)
    (other / "train.csv").write_text(rows)
    assert planned(other, "lora").keys != keys
    assert planned(place, "lora", per_label=(5,)).keys != keys
    save_backbone(other / "llama", "llama", std=0.5)
    assert planned(place, "lora", settings={**settings(place), "model": str(other / "llama")}).keys != keys


@pytest.mark.slow
def test_worker_processes_give_the_same_numbers(place: Path, tracking_uri: str) -> None:
    here = outcomes(planned(place, "lora", "icl"), MemoryTracker(), ResultsFile(None))
    there = outcomes(planned(place, "lora", "icl", workers=2), MemoryTracker(), ResultsFile(None))
    assert numbers(here) == numbers(there)
    command = [*words(place, "lora,icl", "--workers", "2"), "--tracking-uri", tracking_uri]
    assert run_command_line(command) == 0
    runs = tracked_runs(tracking_uri)
    (parent,) = runs["comparison"]
    assert [run.data.tags["mlflow.parentRunId"] for run in runs["run"]] == [parent.info.run_id] * 2
    assert {run.info.status for run in runs["run"]} == {"FINISHED"}


@pytest.mark.slow
def test_controls_know_less(place: Path) -> None:
    parent = MemoryTracker()
    controls = ("bag_of_words", "random_weights", "swapped_label_words")
    found = outcomes(planned(place, "icl", per_label=(20,), controls=controls), parent, ResultsFile(None))
    assert [outcome.failure for outcome in found.values()] == [""] * 4
    icl, bag, random, swapped = (numbers({0: outcome})[0] for _, outcome in sorted(found.items()))
    assert bag["in_domain/accuracy"] > 0.9, "counting words finds the dog"
    assert random["in_domain/mcc"] != icl["in_domain/mcc"]
    assert swapped["in_domain/accuracy"] != icl["in_domain/accuracy"]
    values = {"strategy": "zero_shot", "task": str(place / "task.yaml"), "model": str(place / "llama"), "per_label": 4}
    config = make_config(values)
    session, told = Session(), []
    for each in (config, control_config(config, "swapped_label_words", session)):
        told.append(experiment.run(each, MemoryTracker(), session).metrics)
    assert sum(each["in_domain/accuracy"] for each in told) == pytest.approx(1), "every answer is the other one"
    assert sum(each["in_domain/mcc"] for each in told) == pytest.approx(0)
    tags = [child.tag_values for child in parent.children]
    assert [tag.get("control") for tag in tags] == [None, *controls]
    assert {tag["backbone"] for tag in tags} == {str(place / "llama")}


@pytest.mark.slow
def test_controls_are_rows_of_the_report(place: Path, tracking_uri: str, tmp_path: Path) -> None:
    grid = {"tasks": [str(place / "task.yaml")], "strategies": ["icl"], "per_label": [4], "seeds": 1}
    grid |= {"controls": ["bag_of_words", "swapped_label_words"], "settings": settings(place)}
    (tmp_path / "small.yaml").write_text(json.dumps({"grids": [grid]}))
    command = ["compare", "--preset", "small.yaml", "--out", "kept", "--tracking-uri", tracking_uri]
    assert run_command_line(command) == 0
    report = (tmp_path / "kept" / "dogs" / "report.md").read_text()
    rows = [line.split("|")[1].strip() for line in report.splitlines() if line.startswith("|")]
    assert {"icl", "bag of words", "swapped label words", "majority", "chance"} <= set(rows)


def test_the_control_swaps_the_label_words() -> None:
    config = make_config({"strategy": "icl", "task": "agreement"})
    words = [word.strip() for word in Session().task(config).ordered_label_words]
    assert control_config(config, "swapped_label_words", Session()).label_words == ",".join(words[::-1])
    given = config.model_copy(update={"label_words": "good,bad"})
    assert control_config(given, "swapped_label_words", Session()).label_words == "bad,good"


def test_controls_start_from_the_same_random_weights(place: Path) -> None:
    from effft.models.files import weights_digest

    config = make_config({"model": str(place / "llama")})
    other = control_config(config, "random_weights", Session())
    assert weights_digest(other.model) != weights_digest(config.model)
    assert control_config(config, "random_weights", Session()) == other


def test_the_minutes_of_a_round_that_was_killed_count(place: Path, tmp_path: Path) -> None:
    runs, path = planned(place, "probe", "zero_shot", seeds=2).runs, tmp_path / "results.jsonl"
    job = PlannedComparison(runs, 1, Session(), minutes=60)
    parents, target = dict.fromkeys(job.tasks, MemoryTracker()), TrackingTarget(disabled=True)
    ended = job.outcomes(parents, target, ResultsFile(path), silent)
    next(ended)
    next(ended)  # in the first round, of which the process sees no end
    spent = ResultsFile(path).spent.get("0", 0.0)
    assert spent > 0
    again = PlannedComparison(runs, 1, Session(), minutes=spent / 60)
    assert {run.config.seed for run in runs} == {0, 1}
    found = outcomes(again, MemoryTracker(), ResultsFile(path))
    assert {outcome.config.seed for outcome in found.values()} == {0}, "the time for another round is over"


@pytest.mark.slow
def test_rounds_that_were_left_out_are_made_with_more_minutes(place: Path, tracking_uri: str, tmp_path: Path) -> None:
    command = [*words(place, "probe,zero_shot", "--data-seeds", "2"), "--tracking-uri", tracking_uri]
    for minutes, made in (("1e-6", 2), ("1e-6", 2), ("60", 3)):
        assert run_command_line([*command, "--minutes", minutes]) == 0
        runs = tracked_runs(tracking_uri)
        assert (len(runs["comparison"]), len(runs["run"])) == (1, made)
        assert bool(list(tmp_path.glob("effft-compare-*"))) == (made == 2)


@pytest.mark.slow
def test_minutes_leave_whole_rounds_of_seeds(place: Path, tmp_path: Path) -> None:
    runs = planned(place, "probe", "zero_shot", "lora", seeds=2, data_seeds=2).runs
    file = ResultsFile(tmp_path / "results.jsonl")
    job = PlannedComparison(runs, 1, Session(), minutes=1e-6)
    assert "about 1 of 4 rounds of seeds" in job.announcement()
    first = outcomes(job, MemoryTracker(), file)
    assert [(o.row, o.config.seed, o.config.data_seed) for o in first.values()] == [
        ("probe", 0, 0), ("zero_shot", 0, 0), ("lora", 0, 0),
    ]  # fmt: skip
    later = ResultsFile(tmp_path / "results.jsonl")
    assert later.spent["0"] > 0
    ample = outcomes(PlannedComparison(runs, 1, Session(), minutes=60), MemoryTracker(), later)
    assert len(ample) == len(runs)
    assert numbers({p: ample[p] for p in first}) == numbers(first)
