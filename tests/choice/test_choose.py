"""`effft choose`: the race, the answer, whole choices on a tiny backbone, and what is refused."""

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import optuna
import pytest
from helpers import small_task
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient

from effft.choice.answer import Judged, chosen, judge, sentences
from effft.choice.average import average_of
from effft.choice.candidates import Candidate, Limits, candidates, limits_of
from effft.choice.choice import run_choice
from effft.choice.decision import Decision, decide, fitting
from effft.choice.ledger import LATE, Arm, Ledger
from effft.choice.outlook import halved
from effft.choice.plan import ChoicePlan, plan_choice
from effft.choice.posterior import Answers, Pooled, Unit, posterior
from effft.choice.race import FINALISTS, race
from effft.cli.exit_codes import run_command_line
from effft.config import RunConfig, TrackingTarget, make_config
from effft.data.examples import Example
from effft.errors import InputError
from effft.evaluation.cross_validation import evaluate_out_of_fold
from effft.evaluation.outcomes import outcomes_of
from effft.progress import ProgressCallback, silent
from effft.runs.plan import prepare_validation
from effft.runs.session import Session
from effft.search.jobs import TrainingJob, measure
from effft.search.settings import Settings, StudyPlan
from effft.search.storage import StoredStudy, open_study
from effft.serving.load import SavedModel
from effft.serving.manifest import read_manifest
from effft.tasks.task import Task
from effft.tracking.models import fetch
from tests.backbones import save_backbone
from tests.reliability.lives import life, wait

UNITS = [(seed, fold) for seed in range(3) for fold in range(4)]


def test_parameters_go_to_the_candidates_that_have_them() -> None:
    given = {"shots": 4, "demo_seed": 3, "rank": 2, "pooling": "mean"}
    found = candidates(given, ["tiny-lm"], Session())
    taken = {key: {one.name for one in found if getattr(one.config, key) is not None} for key in given}
    assert (taken["shots"], taken["demo_seed"], taken["rank"]) == ({"icl"}, {"icl"}, {"lora"})
    assert {"vanilla", "setfit", "probe"} <= taken["pooling"]
    with pytest.raises(InputError, match="has the parameter 'peft_type'"):
        candidates({"peft_type": "ia3"}, ["tiny-lm"], Session())


class Told:
    """Measurements out of a table: arm -> (score of each unit, seconds)."""

    def __init__(self, known: dict[str, tuple[list[float], float]]) -> None:
        self.known, self.spent = known, 0.0
        self.progress: ProgressCallback = silent

    def measure(self, arm: Arm, unit: Unit, limit: float) -> None:
        scores, seconds = self.known[arm.candidate.name]
        score = scores[UNITS.index(unit)]
        arm.add(unit, score, {"seconds": seconds, "resources": {}, "answers": {"share": [score]}})
        self.spent += seconds

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        return make()


def arms_of(known: dict[str, tuple[list[float], float]], ledger: Told) -> list[Arm]:
    arms = [Arm(Candidate(name, RunConfig()), seconds) for name, (_, seconds) in known.items()]
    for arm in arms:
        ledger.measure(arm, UNITS[0], 1e9)
    return arms


def value(answers: Mapping[Unit, Answers]) -> float:
    return fmean(own["share"][0] for own in answers.values())


SCORES = st.lists(st.floats(0, 1), min_size=len(UNITS), max_size=len(UNITS))


@given(st.lists(st.tuples(SCORES, st.floats(0.1, 10)), min_size=1, max_size=9), st.floats(0, 500))
@pytest.mark.slow
def test_a_race_keeps_pairs_whole_and_its_time(rows: list[tuple[list[float], float]], more: float) -> None:
    known = {f"arm {place}": row for place, row in enumerate(rows)}
    ledger = Told(known)
    arms = arms_of(known, ledger)
    deadline = ledger.spent + more
    left = race(ledger, arms, UNITS, deadline, deadline, value, lambda line: None)
    assert 1 <= len(left) <= max(FINALISTS, 1)
    assert len({tuple(arm.scores) for arm in left}) == 1, "those that are left were measured on the same units"
    assert ledger.spent <= deadline + 1e-6
    assert [arm.mean for arm in left] == sorted((arm.mean for arm in left), reverse=True)


@given(st.integers(1, 8), st.floats(10, 500))
def test_what_is_better_everywhere_wins(others: int, seconds: float) -> None:
    rng = np.random.default_rng(others)
    known = {f"arm {n}": ([float(v) for v in rng.uniform(0, 0.6, len(UNITS))], 1.0) for n in range(others)}
    known |= {"best": ([0.7] * len(UNITS), 5.0)}
    ledger = Told(known)
    left = race(ledger, arms_of(known, ledger), UNITS, ledger.spent + seconds, 1e9, value, lambda line: None)
    assert left[0].candidate.name == "best"


@pytest.fixture(scope="module")
def task() -> Task:
    return Session().task(RunConfig(task="overlap"))


def measured(right: "np.ndarray", task: Task) -> list[Arm]:
    """Arms that are right, or not, on the rows of the first four units, (arms, rows)."""
    arms = []
    for place, own in enumerate(right):
        arm = Arm(Candidate(f"arm {place}", RunConfig()), place + 1.0)
        for fold, unit in enumerate(UNITS[:4]):
            rows = range(fold, len(own), 4)
            labels, answers = [row % 2 for row in rows], [row % 2 if own[row] else 1 - row % 2 for row in rows]
            named = {"label": [task.labels[n] for n in labels], "answer": [task.labels[n] for n in answers]}
            score = float(np.mean([own[r] for r in rows]))
            arm.add(unit, score, {"seconds": place + 1.0, "resources": {}, "answers": {"row": list(rows), **named}})
        arms.append(arm)
    return arms


def judged_of(right: "np.ndarray", task: Task) -> list[Judged]:
    return judge(measured(right, task), UNITS[:4], 4, task, "accuracy")


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 4), st.integers(8, 40), st.integers(0, 99))
@pytest.mark.slow
def test_the_probabilities_are_of_one_best(task: Task, arms: int, rows: int, seed: int) -> None:
    judged = judged_of(np.random.default_rng(seed).random((arms, rows)) < 0.7, task)
    assert sum(one.best for one in judged) == pytest.approx(1)
    assert all(one.regret >= 0 and one.low < one.high for one in judged)
    assert all(one.low <= one.mean <= one.high for one in judged)
    assert judged[0].within_noise
    assert judged[0].mean == max(one.mean for one in judged)


def test_equal_folds_have_the_interval_of_their_rows(task: Task) -> None:
    """That of the out-of-fold estimate of a run, which is of the same law."""
    right = np.tile(np.arange(64) // 4 % 4 > 0, (1, 1))
    (one,) = judged_of(right, task)
    assert set(one.arm.scores.values()) == {0.75}
    slices = tuple((name, "one") for dimensions in task.train.slices for name in dimensions)
    examples = [Example(("", ""), row % 2, row, slices) for row in range(64)]
    scores = np.eye(2)[np.where(right[0], np.arange(64) % 2, 1 - np.arange(64) % 2)][None]
    known = evaluate_out_of_fold(task, examples, scores, 2000).metrics
    assert one.low == pytest.approx(known["cross_validated/accuracy_low"], abs=0.015)
    assert one.high == pytest.approx(known["cross_validated/accuracy_high"], abs=0.015)


@pytest.mark.slow
def test_equal_arms_share_and_a_gap_is_sure(task: Task) -> None:
    """Of arms whose true scores are equal each is the best equally often, and seldom surely."""
    rng = np.random.default_rng(0)
    shares = np.array([
        [one.best for one in sorted(judged_of(rng.random((3, 64)) < 0.8, task), key=lambda one: one.arm.cost)]
        for _ in range(40)
    ])  # fmt: skip
    assert shares.mean(axis=0) == pytest.approx(np.full(3, 1 / 3), abs=0.12)
    assert (shares > 0.95).mean() < 0.06
    same = judged_of(np.tile(rng.random(64) < 0.8, (2, 1)), task)
    assert same[0].best == pytest.approx(0.5, abs=0.05)
    far = judged_of(rng.random((2, 64)) < [[0.5], [0.98]], task)
    assert (far[0].arm.candidate.name, far[1].within_noise) == ("arm 1", False)
    assert far[0].best > 0.99


def test_what_is_right_wherever_another_is_may_still_be_worse(task: Task) -> None:
    right = np.tile(np.arange(64) % 5 > 0, (2, 1))
    right[0, 0] = True
    best, second = judged_of(right, task)
    assert best.arm.candidate.name == "arm 0"
    assert 0.05 < second.best < 0.4


@pytest.mark.parametrize(("folds", "units"), [(2, 2), (2, 4), (3, 2), (3, 3), (4, 1)])
def test_few_folds_tell_right_from_wrong(folds: int, units: int, task: Task) -> None:
    best, last = judge(measured(np.arange(2)[:, None] == np.ones(24), task), UNITS[:units], folds, task, "accuracy")
    assert (best.arm.candidate.name, last.within_noise) == ("arm 1", False)
    assert best.best > 0.95
    assert last.regret > 0.5


@pytest.mark.parametrize(("limits", "tuned"), [(Limits(1e6), True), (Limits(1e6, memory=1e9), False)])
def test_what_was_tuned_keeps_the_limits_too(limits: Limits, tuned: bool, task: Task) -> None:
    class Known(Told):
        def measure(self, arm: Arm, unit: Unit, limit: float) -> None:
            rows = range(unit[1], 64, 4)
            right = [arm.candidate.tuned or row % 8 > 1 for row in rows]
            labels, answers = (
                [row % 2 for row in rows],
                [int(row % 2 == own) for row, own in zip(rows, right, strict=True)],
            )
            named = {"label": [task.labels[n] for n in labels], "answer": [task.labels[n] for n in answers]}
            resources = {"peak_memory_mb": 2000.0 if arm.candidate.tuned else 500.0}
            found = {"seconds": 1.0, "resources": resources, "answers": {"row": list(rows), **named}}
            arm.add(unit, sum(right) / len(right), found)
            self.spent += 1.0

    config = RunConfig(task="overlap")
    study = StudyPlan("s", config, {}, Settings(folds=4), "accuracy", {}, "overlap", config, (), (), {})
    plan, one = ChoicePlan(study, (), limits, 64, 0, ()), Candidate("probe", config)
    made = decide(
        Known({}), plan, [Arm(one, 1.0)], {}, lambda arm, end: [Arm(replace(one, tuned=True), 1.0)], task, print
    )
    assert made.best.arm.candidate.tuned == tuned
    assert any("2,000 MB" in arm.failure for arm in made.arms) != tuned


@pytest.mark.slow
@pytest.mark.parametrize("average", [False, True])
def test_what_diverges_on_all_rows_makes_way_for_the_next(average: bool, backbone: str, tmp_path: Path) -> None:
    """Weights grow 17-fold with every step: those of a fold's seven steps can be evaluated, all rows take ten."""
    for name, counts in (("train", {"yes": 21, "no": 7}), ("test", {"yes": 4, "no": 4})):
        write_rows(tmp_path / f"{name}.csv", counts)
    given = {"data": str(tmp_path / "train.csv"), "test": str(tmp_path / "test.csv"), "label_words": "are,no"}
    given |= {"rows": "all", "epochs": "1", "precision": "fp32"}
    session, grown = Session(), {"learning_rate": 1.0, "weight_decay": 18.0, "warmup": 0.0, "schedule": "constant"}
    plan = plan_choice(given, [backbone], limits_of("10"), "", session)
    known = {one.name: one for one in plan.candidates}
    config = known["vanilla"].config.model_copy(update={**grown, "batch_size": 3, "head_start": "none"})
    plan = replace(plan, average=average, candidates=(known["zero_shot"], replace(known["vanilla"], config=config)))
    storage, nowhere = f"sqlite:///{tmp_path}/o.db", TrackingTarget(disabled=True)
    answer = run_choice(plan, storage, nowhere, session, time.monotonic(), silent, print)
    assert [one.arm.candidate.name for one in answer.judged] == ["vanilla", "zero_shot"]
    assert answer.candidate.name == "zero_shot"
    assert answer.sentences[0].startswith("Use zero_shot")
    assert answer.sentences[1].startswith("vanilla is left out, as its training on all rows diverged: the loss is nan")
    assert sum("diverged" in said for said in answer.sentences) == 1
    assert answer.average == {"zero_shot": 1.0}


@pytest.mark.slow
@pytest.mark.parametrize(("more", "soup", "told"), [({}, "3", True), ({"soup": 2}, "2", False)])
def test_the_final_model_is_a_soup_of_three(
    more: dict[str, Any], soup: str, told: bool, backbone: str, tracking_uri: str, tmp_path: Path
) -> None:
    given = {"data": str(write_rows(tmp_path / "rows.csv", {"yes": 21, "no": 7})), "label_words": "no,are", **more}
    session = Session()
    plan = plan_choice(given | {"epochs": "1", "precision": "fp32"}, [backbone], limits_of("10"), "", session)
    known = tuple(one for one in plan.candidates if one.name == "vanilla")
    target, plan = TrackingTarget(tracking_uri), replace(plan, candidates=known, seeds=(1, 0))
    answers = [
        run_choice(plan, f"sqlite:///{tmp_path}/o.db", target, session, time.monotonic(), silent, print)
        for _ in range(2)
    ]
    assert answers[0].sentences == answers[1].sentences, "nothing is left to do"
    run = MlflowClient(tracking_uri=tracking_uri).get_run(answers[0].run_id)
    assert run.data.params["soup"] == soup
    assert any("mean of the weights of 3 trainings" in said for said in answers[0].sentences) == told
    assert "cross_validated/macro_f1" in run.data.metrics


@pytest.mark.slow
def test_the_finalists_are_averaged(backbone: str, tracking_uri: str, tmp_path: Path) -> None:
    for name, count in (("train", 15), ("test", 9)):
        write_rows(tmp_path / f"{name}.csv", {"yes": count, "no": count})
    given = {"data": str(tmp_path / "train.csv"), "test": str(tmp_path / "test.csv"), "label_words": "no,are"}
    given |= {"rows": "all", "epochs": "3", "precision": "fp32"}
    session, target = Session(), TrackingTarget(tracking_uri)
    plan = plan_choice(given, [backbone], limits_of("10"), "", session, average=True)
    known = tuple(one for one in plan.candidates if one.name in ("probe", "vanilla", "lora", "majority"))
    plan = replace(plan, candidates=known, seeds=(1, 1))
    first, again = (
        run_choice(plan, f"sqlite:///{tmp_path}/o.db", target, session, time.monotonic(), silent, print)
        for _ in range(2)
    )
    assert (again.sentences, again.average) == (first.sentences, first.average), "nothing is left to do"
    assert sum(first.average.values()) == pytest.approx(1)
    assert len(first.average) > 1
    assert any(said.endswith("ms a query: it is the model.") for said in first.sentences)
    client = MlflowClient(tracking_uri=tracking_uri)
    run = client.get_run(first.run_id)
    assert run.data.tags["kind"] == "average"
    name = f"effft-{run.data.tags['task']}"
    version = client.get_model_version_by_alias(name, "champion")
    assert (version.run_id, version.tags["strategy"]) == (first.run_id, "average")
    folder = fetch(f"models:/{name}@champion", client)
    record, model = read_manifest(folder), SavedModel.load(folder)
    assert record.risk is not None
    for one in record.members:
        assert read_manifest(folder / one.folder).calibration is None, "what is averaged out of fold is not calibrated"
    assert [one.weight for one in record.members] == pytest.approx(list(first.average.values()))
    with (tmp_path / "test.csv").open() as file:
        rows = list(csv.DictReader(file))
    answers = [str(one["label_name"]) for one in model.answers([[row["text"]] for row in rows])]
    right = fmean(answer == row["label"] for answer, row in zip(answers, rows, strict=True))
    assert right == pytest.approx(run.data.metrics["in_domain/accuracy"])
    more = run_choice(
        replace(plan, seeds=(1, 2)), f"sqlite:///{tmp_path}/o.db", target, session, time.monotonic(), silent, print
    )
    weights = [one.weight for one in read_manifest(fetch(f"runs:/{more.run_id}/model", client)).members]
    assert weights == pytest.approx(list(more.average.values()))
    assert more.average != first.average, "more folds tell more"
    singles = run_choice(
        replace(plan, average=False), f"sqlite:///{tmp_path}/o.db", target, session, time.monotonic(), silent, print
    )
    assert list(singles.average.values()) == [1.0]
    assert client.get_run(singles.run_id).data.params["cross_validation"] == "4x1"
    assert any(said.endswith("--average trains them all, and makes it the model.") for said in singles.sentences)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 4), st.integers(0, 99))
def test_a_mean_has_what_fits(task: Task, arms: int, seed: int) -> None:
    """The heaviest first, as many as the latency allows; equal arms have equal weights, and their mean is they."""
    judged = judged_of(np.tile(np.random.default_rng(seed).random(32) < 0.7, (arms, 1)), task)
    for one in judged:
        one.arm.resources[:] = [{"queries_per_second": 100.0}] * 4  # 10 ms a query
        for unit, own in one.arm.answers.items():
            one.arm.answers[unit] = {
                **own,
                "scores": [[0.0, -9.0] if a == task.labels[0] else [-9.0, 0.0] for a in own["answer"]],
            }
    config = RunConfig(task="overlap")
    study = StudyPlan("s", config, {}, Settings(folds=4), "accuracy", {}, "overlap", config, (), (), {})
    for most in range(1, arms + 1):
        plan = ChoicePlan(study, (), Limits(600, latency=10.0 * most), 32, 0, ())
        average, said = average_of(Told({}), plan, judged, judged[0])
        assert len(average.members) == most
        assert bool(said) == (most < arms)
        assert sum(average.weights) == pytest.approx(1)
        assert average.judged(task, "accuracy")[0] == pytest.approx(judged[0].mean)
        whole = average.out_of_fold(range(32))
        assert whole.shape == (1, 32, 2)
        assert np.allclose(np.exp(whole).sum(axis=-1), 1)
    assert (
        len(average_of(Told({}), replace(plan, limits=Limits(600)), measured_of_old(judged), judged[0])[0].members) == 1
    )


def measured_of_old(judged: list[Judged]) -> list[Judged]:
    """As a study has them that was begun before scores were kept."""
    for one in judged:
        for unit, own in one.arm.answers.items():
            one.arm.answers[unit] = {name: own[name] for name in own if name != "scores"}
    return judged


@pytest.mark.parametrize(
    ("strategy", "more", "rows", "memory", "soup"),
    [
        ("vanilla", {}, 17, 4.4e9, 3),
        ("vanilla", {}, 17, 4.3e9, 1),  # 100 million weights four times, beside 1.8 GB and 1 GB
        ("vanilla", {}, 16, 1e99, 1),
        ("vanilla", {"batch_size": 8}, 16, 1e99, 3),
        ("vanilla", {"soup": 1}, 17, 1e99, 1),
        ("vanilla", {"interpolation": "0.5"}, 17, 1e99, 1),
        ("lora", {}, 17, 1e99, 1),
        ("pbft", {}, 17, 1e99, 1),
        ("probe", {}, 17, 1e99, 1),
        ("setfit", {}, 17, 1e99, 1),
    ],
)
def test_a_soup_is_for_what_it_is_worth_and_fits(
    strategy: str, more: dict[str, Any], rows: int, memory: float, soup: int
) -> None:
    config = make_config({"task": "overlap", "strategy": strategy, **more})
    study = StudyPlan("s", config, {}, Settings(folds=4), "accuracy", {}, "overlap", config, (), (), {})
    plan, arm = ChoicePlan(study, (), Limits(600, memory), rows, 0, ()), Arm(Candidate(strategy, config), 10.0)
    arm.add(
        (0, 0),
        0.5,
        {"seconds": 10.0, "answers": {}, "resources": {"peak_memory_mb": 1800.0, "trainable_parameters": 1e8}},
    )
    assert plan.soup(arm, 1e9) == soup
    assert plan.reserve([arm], 1e9) == pytest.approx(5 + 12 * 15 if soup > 1 else 5 + 12 * 5)
    hurried = replace(plan, limits=Limits(500, memory))
    assert hurried.reserve([arm], 1e9) == pytest.approx(5 + 12 * 5), "more than a third of the minutes"


def test_half_of_the_rows_is_drawn_as_all_of_them(backbone: str, tmp_path: Path) -> None:
    """Also where the task alone says how many: as many of each label, of which the pool has many of one."""
    for name, count in (("train", 80), ("test", 4)):
        write_rows(tmp_path / f"{name}.csv", {"yes": 4 * count, "no": count})
    given = {"data": str(tmp_path / "train.csv"), "test": str(tmp_path / "test.csv"), "label_words": "no,are"}
    session = Session()
    for amount in ({}, {"per_label": 8}, {"rows": "40"}):
        plan = plan_choice(given | amount, [backbone], limits_of("1"), "", session)
        whole = next(one.config for one in plan.candidates if one.name == "probe")
        configs = (whole, halved(plan, whole))
        drawn = [prepare_validation(config, session, (0, 4, 0)).draw.train for config in configs]
        all_, half = (Counter(example.label for example in own) for own in drawn)
        assert {label: half[label] / all_[label] for label in all_} == pytest.approx({0: 0.5, 1: 0.5}, abs=0.1)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(*[st.tuples(*[st.integers(0, 1)] * 2)] * 2), min_size=4, max_size=20))
def test_rows_with_several_labels_are_pooled(rows: list[tuple[tuple[int, int], tuple[int, int]]]) -> None:
    task = small_task(multi_label=True, patterns={})
    assert all(task.read(task.written(label)) == label for label, _ in rows)
    columns = {"label": [task.written(label) for label, _ in rows], "answer": [task.written(a) for _, a in rows]}
    measured = {unit: {"row": [*range(len(rows))], **columns} for unit in UNITS[:2]}
    known = outcomes_of(task, *(np.array(own) for own in zip(*rows, strict=True))).values["micro_f1"]
    assert Pooled(measured, task, "micro_f1").score == pytest.approx(known)


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "mcc", "worst_slice_accuracy"])
def test_a_finalist_is_judged_by_the_metric_of_its_folds(metric: str, task: Task, backbone: str) -> None:
    config = RunConfig(task="overlap", strategy="probe", per_label=64, model=backbone, metric=metric, bootstrap=0)
    found = measure(TrainingJob(config, (0, 2, 0)), Session())
    pooled = Pooled({UNITS[0]: found.answers}, task, metric)
    assert pooled.score == pytest.approx(found.value), pooled.score
    draws = posterior([pooled])
    assert np.isfinite(draws).all()
    assert draws[1].mean() <= draws[0].mean()


def test_finalists_are_ranked_by_the_smoothed_metric_and_shown_with_the_plain_one(task: Task) -> None:
    """One row more is right by little, where the other one is right, or nearly so, by much."""
    first, second = measured(np.arange(64) >= np.array([[20], [21]]), task)
    for unit in UNITS[:4]:
        labels = first.answers[unit]["label"]
        rivals = [next(other for other in task.labels if other != label) for label in labels]
        for arm, shares in ((first, (0.4, 0.6)), (second, (0.45, 0.95))):
            right = [label == own for label, own in zip(labels, arm.answers[unit]["answer"], strict=True)]
            more = {"rival": rivals, "share": [shares[one] for one in right]}
            arm.answers[unit] = {**arm.answers[unit], **more}
            each = Pooled({unit: arm.answers[unit]}, task, "accuracy", smooth=True)
            assert each.score == pytest.approx(np.mean(more["share"]))
    judged = judge([first, second], UNITS[:4], 4, task, "accuracy")
    assert [one.arm for one in judged] == [second, first]
    assert [one.mean for one in judged] == [43 / 64, 44 / 64]
    assert judged[0].best > 0.9
    said = list(sentences(judged, judged[0], [], 64, "accuracy", 4))
    assert said[0].startswith("Use arm 1: accuracy 0.672")
    assert said[1].startswith("arm 0 has a higher accuracy (0.688), and arm 1 answers more surely")
    fallback = list(sentences(judged, judged[1], [], 64, "accuracy", 4))  # the first one diverged on all rows
    assert not any("more surely" in line for line in fallback)


class Slow(Told):
    """Arms that answer alike, all at their seconds; from some second on the machine stands still."""

    def __init__(self, task: Task, seconds: dict[str, float], stops: float = float("inf")) -> None:
        super().__init__({})
        self.task, self.seconds, self.stops, self.units = task, seconds, stops, list[tuple[str, Unit]]()
        self.late = 0

    def measure(self, arm: Arm, unit: Unit, limit: float) -> None:
        took = self.seconds[arm.candidate.name]
        if self.spent + took > self.stops:
            self.spent = max(limit, self.spent)
        if self.spent + took > limit:
            arm.add(unit, None, {"seconds": 0.0, "resources": {}, "answers": {}}, LATE)
            self.spent, self.late = max(limit, self.spent), self.late + 1
            return
        rows = list(range(unit[1], 32, 4))
        labels = [self.task.labels[row % 2] for row in rows]
        answers = [label if row % 8 else self.task.labels[0] for row, label in zip(rows, labels, strict=True)]
        found = {"answers": {"row": rows, "label": labels, "answer": answers}, "resources": {}, "seconds": took}
        arm.add(unit, float(np.mean([a == b for a, b in zip(labels, answers, strict=True)])), found)
        self.spent += took
        self.units.append((arm.candidate.name, unit))


def slow_choice(task: Task, costs: list[float], minutes: float, stops: float) -> tuple[Slow, ChoicePlan, Decision]:
    config = RunConfig(task="overlap", rows="16")
    study = StudyPlan("s", config, {}, Settings(folds=4), "accuracy", {}, "overlap", config, (), (), {})
    plan = ChoicePlan(study, (), Limits(60 * minutes), 16, 0, ())
    names = {f"arm {place}": cost for place, cost in enumerate(sorted(costs))}
    ledger, arms = Slow(task, names, stops), [Arm(Candidate(name, config), cost) for name, cost in names.items()]
    return ledger, plan, decide(ledger, plan, arms, {}, lambda arm, end: [], task, lambda line: None)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.5, 70), min_size=1, max_size=9), st.floats(2, 30))
def test_the_final_training_has_its_time(task: Task, costs: list[float], minutes: float) -> None:
    costs = sorted(cost for cost in costs if 3 * cost < 60 * minutes) or [1.0]
    ledger, plan, made = slow_choice(task, costs, minutes, float("inf"))
    last = plan.final_seconds(made.best.arm, False)
    assert ledger.spent + last <= 60 * minutes
    for place, cost in enumerate(costs):
        first, trained = sum(costs[: place + 1]), plan.final_seconds(Arm(made.best.arm.candidate, cost), False)
        taken = (f"arm {place}", plan.race_units[0]) in ledger.units
        assert taken or first + trained > 60 * minutes, "what has time for a fold and the final training takes part"
    seen = Counter(unit for name, unit in ledger.units if name == made.best.arm.candidate.name)
    assert set(seen.values()) == {1}
    folds = [unit for name, unit in ledger.units if name == made.best.arm.candidate.name]
    assert {fold for _, fold in folds[:4]} == set(range(min(4, len(folds)))), "each row once before one comes again"


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.5, 20), min_size=1, max_size=6), st.floats(0, 600))
def test_a_machine_that_stands_still_loses_nothing_that_was_measured(
    task: Task, costs: list[float], stops: float
) -> None:
    ledger, _, made = slow_choice(task, costs, 10, stops + len(costs) * max(costs))
    assert ledger.late <= 1, "nothing is begun that can only be cut off"
    assert made.units >= 1
    assert len(made.judged) >= min(FINALISTS, len(costs))
    assert not any(arm.failure for arm in made.arms)


def test_what_was_tuned_and_is_cut_off_takes_no_fold_from_the_others(task: Task) -> None:
    class Cut(Slow):
        def measure(self, arm: Arm, unit: Unit, limit: float) -> None:
            if arm.candidate.tuned and len(arm.scores) == 3:
                arm.add(unit, None, {"seconds": 0.0, "resources": {}, "answers": {}}, LATE)
            else:
                super().measure(arm, unit, limit)

    config = RunConfig(task="overlap", rows="64")
    study = StudyPlan("s", config, {}, Settings(folds=4), "accuracy", {}, "overlap", config, (), (), {})
    plan, one = ChoicePlan(study, (), Limits(600), 64, 0, ()), Candidate("arm 0", config)
    ledger, tuned = Cut(task, {"arm 0": 5.0}), Arm(replace(one, tuned=True), 5.0, seconds=[5.0])
    made = decide(ledger, plan, [Arm(one, 5.0)], {}, lambda arm, end: [tuned], task, lambda line: None)
    assert [judged.arm.candidate.label for judged in made.judged] == ["arm 0"]
    assert len(tuned.scores) == 3
    assert made.units == len(made.best.arm.scores)


def test_few_rows_take_the_cheapest_that_costs_little(task: Task) -> None:
    right = np.arange(60) >= np.array([[30], [10], [9]])
    judged = judged_of(right, task)
    assert chosen(judged, 64, 0.0).arm.candidate.name == "arm 2"
    assert chosen(judged, 16, 0.0).arm.candidate.name == "arm 1", "a row less, and cheaper"
    equal = judged_of(np.tile(right[2], (3, 1)), task)
    assert chosen(equal, 16, 0.0).arm.candidate.name == "arm 0", "the cheapest of equal ones"
    assert chosen(equal, 16, 0.99).arm.candidate.name == "arm 0", "where nothing is above always the same answer"


# ---- whole choices ------------------------------------------------------------------------------------------------


def write_rows(path: Path, counts: dict[str, int]) -> Path:
    rng = random.Random(0)
    words = {"yes": "the cat dog runs good old".split(), "no": "cats dogs see old bad a".split()}
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["text", "label"])
        for label, count in counts.items():
            for row in range(count):
                out.writerow([" ".join(rng.choices([*words[label], "new", "run"], k=6)) + f" {row}", label])
    return path


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_backbone(tmp_path_factory.mktemp("backbone"), "gpt2", positions=512))


def command(data: Path | None, backbone: str, *more: str) -> list[str]:
    rows = ["--data", str(data)] if data else []
    return ["choose", *rows, "--model", backbone, "--epochs", "1", "--precision", "fp32", *more]


def trials_in(folder: Path) -> list[tuple[dict[str, Any], Any]]:
    storage = f"sqlite:///{folder}/optuna.db"
    (name,) = [n for n in optuna.get_all_study_names(storage) if n.split("/")[-1].count("-")]
    return [(t.params, t.values) for t in optuna.load_study(study_name=name, storage=storage).trials]


def answers(place: Path) -> list[dict[str, Any]]:
    """What the processes of a place printed."""
    parts = (place / "log").read_text().split('{\n  "use"')[1:]
    return [json.JSONDecoder().raw_decode('{"use"' + part)[0] for part in parts]


@pytest.mark.slow
@pytest.mark.usefixtures("tracking_uri")  # for its clean environment
def test_a_killed_choice_gives_the_undisturbed_answer(template_store: Path, backbone: str, tmp_path: Path) -> None:
    """With time for everything: what ends a stage is then how much there is to do, not the clock."""
    import effft.choice.choice  # noqa: F401 - loaded before the forks

    (tmp_path / "elsewhere.csv").write_text("text\n" + "".join(f"the cat sees old dogs {n}\n" for n in range(9)))
    kills, rng = int(os.environ.get("EFFFT_KILLS", "3")), random.Random(3)
    words = command(write_rows(tmp_path / "rows.csv", {"yes": 12, "no": 12}), backbone, "--minutes", "60", "--json")
    words += ["--ood", str(tmp_path / "elsewhere.csv"), "--average"]
    places = [tmp_path / "whole", tmp_path / "torn"]
    for place in places:
        place.mkdir()
        shutil.copy(template_store, place / "mlflow.db")

    def start(place: Path) -> int:
        return life([*words, "--tracking-uri", f"sqlite:///{place}/mlflow.db"], place / "log", lambda: os.chdir(place))

    began = time.monotonic()
    assert wait(start(places[0]), 900) == 0, (places[0] / "log").read_text()[-3000:]
    took = time.monotonic() - began
    struck = 0
    for _ in range(kills):
        pid = start(places[1])
        time.sleep((0.03 + rng.uniform(0, 1 / kills)) * took)
        os.kill(pid, signal.SIGKILL)
        struck += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert struck > kills / 2, "most were at work"
    assert wait(start(places[1]), 900) == 0, (places[1] / "log").read_text()[-3000:]
    assert wait(start(places[1])) == 0, "once more, with nothing left to do"
    whole, torn = ({json.dumps(values): score for values, score in trials_in(place)} for place in places)
    assert {"majority", "bag of words", "zero_shot", "icl", "probe", "lora", "pbft"} <= {
        json.loads(key)["strategy"] for key in whole
    }
    common = whole.keys() & torn.keys()
    assert {key: torn[key] for key in common} == {key: whole[key] for key in common}
    first, *_ = answers(places[0])
    *_, last, again = answers(places[1])
    near = {one["candidate"] for one in first["finalists"] if one["within_noise"]}
    assert last["use"] in near, "of those within noise the cheapest, which two processes may time differently"
    assert again == last
    assert sum(last["average"].values()) == pytest.approx(1)
    for word in ("mostly noise", "32 more labels", "texts of ood/elsewhere"):
        assert any(word in sentence for sentence in last["sentences"]), word
    client = MlflowClient(tracking_uri=f"sqlite:///{places[1]}/mlflow.db")
    run = client.get_run(last["run_id"])
    parent = client.get_run(run.data.tags["mlflow.parentRunId"])
    assert (parent.data.tags["kind"], parent.info.status, run.info.status) == ("choice", "FINISHED", "FINISHED")
    assert {"answer.md", "answer.html", "disagreement.csv"} <= {
        file.path for file in client.list_artifacts(parent.info.run_id)
    }
    version = client.get_model_version_by_alias("effft-rows", "champion")
    assert (version.run_id, version.tags["chosen_on"]) == (last["run_id"], "cross_validated")


@pytest.mark.slow
@pytest.mark.usefixtures("tracking_uri")
@pytest.mark.parametrize("average", ["false", "true"])
def test_the_minutes_are_kept_beside_others_at_work(
    average: str, template_store: Path, backbone: str, tmp_path: Path
) -> None:
    import effft.choice.choice  # noqa: F401 - loaded before the forks

    shutil.copy(template_store, tmp_path / "mlflow.db")
    words = command(write_rows(tmp_path / "rows.csv", {"yes": 20, "no": 20}), backbone, "--minutes", "0.4", "--json")
    words += ["--tracking-uri", f"sqlite:///{tmp_path}/mlflow.db", "--average", average]
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        began = time.monotonic()
        code = wait(life(words, tmp_path / "log", lambda: os.chdir(tmp_path)))
        took = time.monotonic() - began
        busy.kill()
    assert took <= 1.1 * 24
    assert code == 0 or "no time was left" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--minutes", "0"], "minutes=0: must be a number above 0"),
        (["--minutes", "soon"], "minutes=soon"),
        (["--memory", "8 apples"], "memory=8 apples: must be a number above 0 with a unit (KB, MB, GB, TB)"),
        (["--latency", "50"], "(flag --latency)"),
        pytest.param(["--memory", "1MB"], "nothing fits", marks=pytest.mark.slow),
        pytest.param(["--latency", "0.000001ms"], "nothing fits", marks=pytest.mark.slow),
        (["--models", "no/such/model"], "no/such/model"),
        (["--rows", "3"], "--rows"),
        (["--ensemble", "2"], "ensemble=2: several models are not saved as one"),
        (["--quantize", "nf4"], "quantize=nf4: a saved model needs the backbone in full precision"),
        (["--per-label", "1"], "per_label=1: a choice needs at least 2"),
    ],
)
def test_bad_input_is_a_sentence_before_training(
    words: list[str], told: str, backbone: str, tracking_uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_rows(tmp_path / "rows.csv", {"yes": 12, "no": 12})
    assert run_command_line([*command(data, backbone, *words), "--tracking-uri", tracking_uri]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "optuna.db").exists() or trials_in(tmp_path) == []


@pytest.mark.usefixtures("tracking_uri")
@pytest.mark.slow
def test_without_data_the_task_is_named(backbone: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line([*command(None, backbone), "--latency", "0.000001ms"]) == 2
    assert (
        "neither --data nor --task is given, so this is about the built-in task 'agreement'" in capsys.readouterr().err
    )


def test_a_choice_goes_on_with_the_same_parameters_alone(backbone: str, tmp_path: Path) -> None:
    given = {"data": str(write_rows(tmp_path / "rows.csv", {"yes": 12, "no": 12})), "label_words": "no,are"}
    plan = plan_choice(given, [backbone], limits_of("1"), "", Session())
    other = plan_choice(given | {"label_words": "are,no", "rank": 4}, [backbone], limits_of("1"), "", Session())
    with open_study(f"sqlite:///{tmp_path}/optuna.db", plan.study):
        pass
    with pytest.raises(InputError, match="label_words"), open_study(f"sqlite:///{tmp_path}/optuna.db", other.study):
        pass


def test_models_of_one_last_name_are_candidates_of_their_own(backbone: str, tmp_path: Path) -> None:
    models = [str(shutil.copytree(backbone, tmp_path / name / "final")) for name in "ab"]
    given = {"data": str(write_rows(tmp_path / "rows.csv", {"yes": 12, "no": 12})), "label_words": "no,are"}
    found = plan_choice(given, models, limits_of("1"), "", Session()).candidates
    assert len({one.label for one in found}) == len(found)
    assert {one.label for one in found if one.config.strategy == "lora"} == {f"lora on {model}" for model in models}


def test_a_parameter_goes_to_those_that_compare_gives_it(backbone: str, tmp_path: Path) -> None:
    given = {"data": str(write_rows(tmp_path / "rows.csv", {"yes": 12, "no": 12})), "label_words": "no,are"}
    found = plan_choice({**given, "shots": 2}, [backbone], limits_of("1"), "", Session()).candidates
    assert {one.config.strategy for one in found if one.config.shots} == {"icl"}
    with pytest.raises(InputError, match="none of the strategies that can be chosen has the parameter 'temperature'"):
        plan_choice({**given, "temperature": 2}, [backbone], limits_of("1"), "", Session())


@pytest.mark.slow
def test_more_minutes_have_time_for_what_had_none(backbone: str, tmp_path: Path) -> None:
    given = {"data": str(write_rows(tmp_path / "rows.csv", {"yes": 12, "no": 12})), "label_words": "no,are"}
    given |= {"epochs": "1", "precision": "fp32"}
    session, said, unit = Session(), list[str](), (0, 0)
    short, ample = (plan_choice(given, [backbone], limits_of(m), "", session) for m in ("0.0001", "600"))
    arm, again = (Arm(one, 1.0) for one in [one for one in ample.candidates if one.name == "lora"] * 2)

    def ledger_of(stored: StoredStudy) -> Ledger:
        return Ledger(stored, ample.study, session, time.monotonic(), silent)

    with open_study(f"sqlite:///{tmp_path}/optuna.db", ample.study) as stored:
        ledger = ledger_of(stored)
        with suppress(InputError):  # where the first ones do not fit either
            fitting(ledger, short, said.append)
        assert any("no time was left to estimate it" in line for line in said)
        ledger.measure(arm, unit, 0.0)
        assert (arm.failure, arm.scores) == ("it did not end within the minutes", {})
    with open_study(f"sqlite:///{tmp_path}/optuna.db", ample.study) as stored:
        ledger = ledger_of(stored)
        assert not any("no time" in reason for reason in fitting(ledger, ample, said.append)[1].values())
        spent = ledger.spent
        ledger.measure(again, unit, 1e9)
        assert again.scores.keys() == {unit}
        assert ledger.spent > spent
        kept = stored.trials[-1]
        ledger_of(stored).measure(again, unit, 2e9)
        assert stored.trials[-1] is kept, "what was measured is not measured again"


@pytest.mark.parametrize(
    ("counts", "rows"), [({"yes": 12}, "all"), ({"yes": 12, "no": 1}, "all"), ({"yes": 30, "no": 10}, "5")]
)
def test_labels_that_cannot_be_measured_are_refused(
    counts: dict[str, int],
    rows: str,
    backbone: str,
    tracking_uri: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = write_rows(tmp_path / "rows.csv", counts)
    assert run_command_line([*command(data, backbone, "--rows", rows), "--tracking-uri", tracking_uri]) == 2
    said = capsys.readouterr().err
    assert "label" in said
    assert "--test" not in said, "a choice cuts folds all the same"
    assert "--cross-validation" not in said, "it has no such flag"
    assert not (tmp_path / "optuna.db").exists()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the system does not tell a process's peak")
def test_the_memory_is_kept_by_the_whole_process(backbone: str, tmp_path: Path) -> None:
    code = "import sys; from effft.cli.exit_codes import run_command_line as run; code = run(sys.argv[1:])"
    code += "; print(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0]); sys.exit(code)"
    rows = write_rows(tmp_path / "rows.csv", {"yes": 20, "no": 20})
    words = command(rows, backbone, "--minutes", "0.6", "--memory", "1100MB", "--no-tracking")
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0 or "no time was left" in done.stderr
    assert int(done.stdout.split()[-1]) * 1024 <= 1100e6
