"""What must not be averaged with the rest, and what lies elsewhere: difficulty, studies, runs of `mlflow run`."""

import csv
import io

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from runs import log

from effft.errors import InputError
from effft.reports.report import Report, build
from effft.tracking.reading import RunReader


def means(made: Report, split: str = "in_domain") -> dict[tuple[str, str], float]:
    rows = csv.DictReader(io.StringIO(made.files["results.csv"]))
    return {(r["variant"], r["per_label"]): float(r["mean"]) for r in rows if r["split"] == split}


def difficulty(strength: float, asked: bool = True) -> dict[str, object]:
    own: dict[str, object] = {"resolved.overlap_strength": strength, "resolved.lexicon_size": 20}
    return own | ({"overlap_strength": strength} if asked else {})


@pytest.mark.slow
def test_difficulty_settings_make_a_curve_and_no_mean(client: MlflowClient, home: str) -> None:
    for strategy in ("vanilla", "pbft", "lora"):
        for seed in (0, 1):
            shared = {"client": client, "home": home, "strategy": strategy, "seed": seed}
            log(**shared, settings=difficulty(1.0, asked=False), score=0.9 + seed / 100, task_digest="a")
            log(**shared, settings=difficulty(0.5), score=0.7 + seed / 100, task_digest="b")
            log(**shared, settings=difficulty(0), score=0.6 + seed / 100, task_digest="c")
    log(client, home, "probe", 0, settings=difficulty(1.0, asked=False), score=0.905, task_digest="a")
    made = build(RunReader(client), "dogs")
    assert means(made) == {(s, "8"): pytest.approx(0.905) for s in ("vanilla", "pbft", "lora", "probe")}
    assert made.runs == 7
    text = made.files["report.md"]
    assert "| probe | in domain |" not in text, "a single point is no curve"
    assert "12 runs were made at another difficulty of the task (overlap strength 0, 0.5)" in text
    assert "the others are about overlap strength 1." in text
    assert "| strategy | split | 0 | 0.5 | 1 |" in text
    row = next(line for line in text.splitlines() if line.startswith("| lora | in domain | 0.605"))
    assert "0.705" in row
    assert "0.905" in row
    assert "<svg" in made.files["difficulty-m-overlap-strength-8.svg"]
    assert "In domain and OOD accuracy against overlap strength, 8 examples per label" in made.files["report.html"]
    kept = list(csv.DictReader(io.StringIO(made.files["runs.csv"])))
    assert len(kept) == 19
    assert {r["difficulty"] for r in kept} == {f"overlap_strength={s}, lexicon_size=20" for s in ("1.0", "0.5", "0")}


def test_one_run_of_another_difficulty_is_said_and_left_out(client: MlflowClient, home: str) -> None:
    log(client, home, "lora", 0, settings=difficulty(1.0, asked=False))
    log(client, home, "lora", 0, settings=difficulty(0.5) | {"resolved.lexicon_size": 8})
    made = build(RunReader(client), "dogs")
    assert made.runs == 1
    assert "1 run left out, at another difficulty of the task" in made.warnings[0]
    assert "(overlap strength 0.5; lexicon size 8)" in made.warnings[0]


def test_runs_of_one_other_difficulty_are_the_report(client: MlflowClient, home: str) -> None:
    for seed in (0, 1):
        log(client, home, "lora", seed, settings=difficulty(0.5))
    assert build(RunReader(client), "dogs").runs == 2


def study(client: MlflowClient, place: str, name: str, over: bool = True) -> str:
    tags = {"kind": "study", "task": "dogs", "study": name, "strategy": "lora"}
    parent = str(client.create_run(place, run_name="search lora", tags=tags).info.run_id)
    client.log_batch(parent, params=[Param("per_label", "8"), Param("model", "m")])
    states = ("complete", "complete", "pruned", "fail", "complete")
    for number, state in enumerate(states):
        own = {"kind": "trial", "study": name, "optuna.trial": str(number), "trial.state": state}
        run = client.create_run(place, run_name=f"trial {number}", tags={**own, "mlflow.parentRunId": parent})
        found = [Metric("validation/accuracy", 0.5 + number / 10, 0, 4)] if state != "fail" else []
        params = [Param("learning_rate", str(0.001 * (number + 1))), Param("rank", "8")]
        client.log_batch(run.info.run_id, found, params)
        client.set_terminated(run.info.run_id, "FAILED" if state == "fail" else "FINISHED")
    if over:
        numbers = {"winner": 4, "validation/accuracy": 0.77, "importance/learning_rate": 0.8, "importance/rank": 0.2}
        client.log_batch(parent, [Metric(key, value, 0, 0) for key, value in numbers.items()])
        client.set_tag(parent, "mlflow.note.content", "The search paid: <b>really</b>.")
        client.set_terminated(parent)
    return parent


def test_a_search_is_told_from_mlflow_alone(client: MlflowClient, home: str) -> None:
    place = str(client.create_experiment("effft/dogs/search"))
    study(client, place, "dogs/lora/8/m/0-0")
    for seed in (0, 1):
        log(client, home, "lora", seed, score=0.6 + seed / 100)
        log(client, home, "lora", seed, rank="64", score=0.8 + seed / 100, tuned="true", study="dogs/lora/8/m/0-0")
    made = build(RunReader(client), "dogs")
    assert means(made) == {("lora", "8"): pytest.approx(0.605), ("lora tuned", "8"): pytest.approx(0.805)}
    text, page = made.files["report.md"], made.files["report.html"]
    row = next(line for line in text.splitlines() if line.startswith("| lora, 8 per label | m |"))
    assert "| 3 complete, 1 pruned, 1 failed | - | 0.900 | 0.770 | trial 4: learning rate 0.005, rank 8 |" in row
    assert "| learning rate | 0.80 |" in text
    assert "The search paid: &lt;b&gt;really&lt;/b&gt;." in text
    assert "History of the searches" in page
    assert "What mattered: the share" in page
    trials = list(csv.DictReader(io.StringIO(made.files["trials.csv"])))
    assert {(r["trial"], r["state"]) for r in trials} >= {("2", "pruned"), ("3", "fail")}


def test_a_search_without_an_end_or_a_final_run_is_told(client: MlflowClient, home: str) -> None:
    study(client, home, "one", over=False)
    made = build(RunReader(client), "dogs")
    assert "3 complete, 1 pruned, 1 failed" in made.files["report.md"]
    assert "What mattered" not in made.files["report.html"]


@pytest.mark.slow
def test_a_tuned_comparison_is_reported_with_its_own_studies(client: MlflowClient, home: str) -> None:
    place = str(client.create_experiment("effft/dogs/search"))
    study(client, place, "mine")
    other = study(client, place, "other")
    tags = {"kind": "comparison", "task": "dogs", "studies": '["mine"]', "effft.runs.experiment": "effft/dogs"}
    parent = client.create_run("0", run_name="compare tuned", tags=tags).info.run_id
    log(client, home, "lora", 0, tuned="true", study="mine", kind="final")
    log(client, home, "lora", 1, tuned="true", study="other", kind="final")
    log(client, "0", "vanilla", 0, **{"mlflow.parentRunId": parent, "effft.runs.experiment": "effft/dogs"})
    made = build(RunReader(client), "dogs", parent=parent)
    assert set(means(made)) == {("lora tuned", "8"), ("vanilla", "8")}
    assert made.runs == 2
    assert "mine" in made.files["trials.csv"]
    assert "other" not in made.files["trials.csv"]
    assert build(RunReader(client), "dogs", parent=other).runs == 1
    with pytest.raises(InputError, match="there is no such run"):
        build(RunReader(client), "dogs", parent="0" * 32)


def test_runs_that_mlflow_run_put_into_default_are_found(client: MlflowClient) -> None:
    log(client, "0", "lora", 0, **{"effft.runs.experiment": "effft/dogs"})
    log(client, "0", "lora", 1, **{"effft.runs.experiment": "effft/cats"})
    assert build(RunReader(client), "dogs").runs == 1
