"""What a study counts, which trial it chooses, and when a training ends early."""

import tempfile
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial
from place import make_place

from effft.config import RunConfig
from effft.errors import InputError
from effft.progress import silent
from effft.runs.plan import prepare
from effft.runs.session import Session
from effft.search.budget import Clock, Prices
from effft.search.driver import MOST_PRUNED, Driver
from effft.search.finals import Final, choose, finals
from effft.search.jobs import JobResult, TrainingJob, measure
from effft.search.mlflow_log import Logbook
from effft.search.planning import plan_study
from effft.search.samplers import WARM, epoch_thresholds, sampler_name
from effft.search.settings import Settings, StudyPlan
from effft.search.storage import StoredStudy, open_study
from effft.search.verdict import verdict
from effft.strategies.search_space import Choice
from effft.tracking.tracker import MemoryTracker, Tracker

RESOURCES = dict.fromkeys(("peak_memory_mb", "train_seconds", "trainable_parameters"), 1.0)


class Told:
    """An executor whose answers are a function of the unit."""

    workers = 1

    def __init__(self, answer: Callable[[TrainingJob], JobResult]) -> None:
        self.answer = answer
        self.ended: list[tuple[Hashable, JobResult]] = []

    def submit(self, key: Hashable, unit: TrainingJob) -> None:
        self.ended.append((key, self.answer(unit)))

    def next_result(self) -> tuple[Hashable, JobResult]:
        return self.ended.pop(0)

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def plan() -> StudyPlan:
    settings = Settings(trials=6, folds=2, reseeds=1, seeds=2, pruner="epochs")
    return plan_study({"strategy": "lora", "per_label": "4", "bootstrap": "0"}, {}, settings, "choice", Session())


@contextmanager
def driven(plan: StudyPlan, executor: Told) -> Iterator[StoredStudy]:
    with tempfile.TemporaryDirectory() as folder, open_study(f"sqlite:///{folder}/optuna.db", plan) as stored:
        Driver(stored, plan, executor, Logbook(MemoryTracker(), plan), silent).run()
        yield stored


def is_default(plan: StudyPlan, config: RunConfig) -> bool:
    return (config.learning_rate, config.lora_modules) == (plan.defaults["learning_rate"], "attention")


def test_pruned_trials_do_not_count(plan: StudyPlan) -> None:
    asked = 0

    def answer(unit: TrainingJob) -> JobResult:
        nonlocal asked
        asked += 1
        return JobResult(0.5, RESOURCES, stopped=asked % 5 == 0)

    with driven(plan, Told(answer)) as study:
        assert len(study.complete) == 6
        assert len(study.done) > 6


def test_a_study_that_prunes_everything_ends(plan: StudyPlan) -> None:
    with driven(plan, Told(lambda unit: JobResult(0.5, RESOURCES, stopped=True))) as study:
        assert {t.state for t in study.trials} == {TrialState.PRUNED}
        assert len(study.trials) == MOST_PRUNED * 6


def test_the_default_takes_part_and_wins_where_nothing_is_better(plan: StudyPlan) -> None:
    """In the trials it scores worst, on fresh seeds best."""

    def answer(unit: TrainingJob) -> JobResult:
        fresh = unit.config.seed >= 1000
        return JobResult(float(is_default(plan, unit.config) == fresh), RESOURCES)

    executor = Told(answer)
    with driven(plan, executor) as study:
        assert study.complete[0].user_attrs.get("guess") != 0
        winner, value = choose(study, plan, executor, silent)
    assert (winner.user_attrs.get("guess"), value) == (0, 1.0)


def test_a_better_trial_beats_the_default(plan: StudyPlan) -> None:
    executor = Told(lambda unit: JobResult(float(not is_default(plan, unit.config)), RESOURCES))
    with driven(plan, executor) as study:
        winner, value = choose(study, plan, executor, silent)
    assert winner.user_attrs.get("guess") != 0
    assert value == 1.0


def test_what_fails_on_fresh_seeds_is_not_judged_by_the_others(plan: StudyPlan) -> None:
    def answer(unit: TrainingJob) -> JobResult:
        if is_default(plan, unit.config):
            return JobResult(0.5, RESOURCES)
        lost = unit.config.seed >= 1000 and unit.fold is not None and unit.fold[0] == 0
        return JobResult(1.0, RESOURCES, "the loss is nan" if lost else "")

    executor = Told(answer)
    with driven(plan, executor) as study:
        winner, value = choose(study, plan, executor, silent)
    assert (winner.user_attrs.get("guess"), value) == (0, 0.5)


@pytest.mark.parametrize(("strategy", "seeds"), [("icl", 1), ("probe", 5)])
def test_final_runs_that_could_only_repeat_another_are_not_made(strategy: str, seeds: int) -> None:
    """Five equal differences have an interval without a width, which a verdict would take for sure."""
    values = {"strategy": strategy, "per_label": "4", "bootstrap": "0"}
    assert plan_study(values, {}, Settings(trials=1, folds=2, seeds=5), "", Session()).settings.seeds == seeds


def test_the_winner_is_judged_on_seeds_that_did_not_choose_it() -> None:
    """On the validation draw the same seed would be the same training, and its luck would count twice."""
    settings = Settings(trials=1, folds=0, reseeds=2, seeds=2)
    values = {"strategy": "probe", "per_label": "4", "bootstrap": "0", "evaluation_limit": "8"}
    session, seeds = Session(), set[int]()
    plan = plan_study(values, {}, settings, "apart", session)
    executor = Told(lambda unit: seeds.add(unit.config.seed) or JobResult(0.5, RESOURCES))
    with driven(plan, executor) as study:
        winner, _ = choose(study, plan, executor, silent)
        found = finals(study, plan, winner, session, lambda *_: MemoryTracker(), silent)
    assert len(seeds) == 3, "of the trial, and fresh ones"
    assert not seeds & {final.seed for final in found}


def test_a_later_process_knows_how_long_a_fresh_seed_takes(plan: StudyPlan) -> None:
    executor, prices = Told(lambda unit: JobResult(0.5, RESOURCES)), Prices(1.0, 100.0, 100.0)
    with driven(plan, executor) as study:
        choose(study, plan, executor, silent)
        known = {name for name in study.results if name.startswith("fresh/")}
        more = replace(plan, settings=replace(plan.settings, reseeds=2))
        for seconds, makes in ((50.0, False), (1000.0, True)):
            clock = Clock(study, seconds)
            clock.expect(prices, more.settings, 1)
            choose(study, more, executor, silent, clock)
            assert ({name for name in study.results if name.startswith("fresh/")} > known) == makes


@pytest.mark.slow
def test_the_runs_of_a_default_that_wins_are_made_once() -> None:
    settings = Settings(trials=3, folds=0, reseeds=1, seeds=2, pruner="none")
    values = {"strategy": "probe", "head_solver": "gradient", "per_label": "4"}
    values |= {"bootstrap": "0", "evaluation_limit": "8"}
    session = Session()
    plan = plan_study(values, {}, settings, "once", session)
    made: list[str] = []

    def open_run(experiment: str, name: str, tags: object) -> Tracker:
        made.append(name)
        return MemoryTracker(name=name, run_id=f"run {len(made)}")

    executor = Told(
        lambda unit: JobResult(float(unit.config.learning_rate == plan.defaults["learning_rate"]), RESOURCES)
    )
    with driven(plan, executor) as study:
        winner, fresh = choose(study, plan, executor, silent)
        assert winner.number == 0
        found = finals(study, plan, winner, session, open_run, silent)
        assert finals(study, plan, winner, session, open_run, silent) == found
    assert len(made) == 2
    assert [(f.role, f.run_id) for f in found[:4]] == [
        ("winner", "run 1"), ("winner", "run 2"), ("default", "run 1"), ("default", "run 2"),
    ]  # fmt: skip
    judged = verdict(found, plan.metric, winner, fresh, 0)
    assert (judged.recommended, judged.trial) == ("default", 0)
    assert "nothing better than the default" in judged.sentences[0]


def test_tpe_takes_over_from_the_gaussian_process() -> None:
    assert [sampler_name("auto", number, 1) for number in (0, 39, 40)] == ["gp", "gp", "tpe"]
    assert sampler_name("auto", 0, 8) == "tpe"
    assert sampler_name("random", 50, 9) == "random"


@given(st.lists(st.lists(st.floats(0, 1), max_size=4), max_size=9))
def test_bars_are_medians_of_enough_trials(curves: list[list[float]]) -> None:
    trials = [create_trial(value=0.0, user_attrs={"measured": {"curves": [curve]}}) for curve in curves]
    bars = epoch_thresholds(trials, 0)
    assert epoch_thresholds(trials, 1) == ()
    assert len(bars) == sum(sum(len(c) > epoch for c in curves) >= WARM for epoch in range(4))
    for epoch, bar in enumerate(bars):
        reached = [c[epoch] for c in curves if len(c) > epoch]
        assert sum(v < bar for v in reached) <= len(reached) / 2
        assert sum(v > bar for v in reached) <= len(reached) / 2


@pytest.mark.slow
def test_a_training_below_its_bar_ends_there() -> None:
    config = RunConfig(strategy="probe", head_solver="gradient", per_label=8, epochs=4, bootstrap=0, task="agreement")
    session = Session()
    whole = measure(TrainingJob(config, (0, 2, 0)), session)
    watched = measure(TrainingJob(config, (0, 2, 0), ()), session)
    assert (len(whole.curve), len(watched.curve), watched.stopped) == (0, 4, False)
    assert watched.value == whole.value == watched.curve[-1]  # looking changes nothing
    ended = measure(TrainingJob(config, (0, 2, 0), (-1.0, 2.0)), session)
    assert (ended.curve, ended.stopped) == (watched.curve[:2], True)
    assert ended.value == ended.curve[-1]


@pytest.mark.slow
def test_the_epochs_pruner_in_a_whole_study(tracking_uri: str, tmp_path: Path) -> None:
    from effft.cli.exit_codes import run_command_line

    words = "search --task overlap --strategy probe --trials 10 --per-label 8 --folds 2 --reseeds 1 --seeds 1"
    words += " --head-solver gradient --evaluation-limit 20 --bootstrap 0 --pruner epochs --sampler random --epochs 4"
    assert run_command_line([*words.split(), "--tracking-uri", tracking_uri]) == 0
    (name,) = optuna.get_all_study_names(f"sqlite:///{tmp_path}/optuna.db")
    trials = optuna.load_study(study_name=name, storage=f"sqlite:///{tmp_path}/optuna.db").trials
    states = [t.state for t in trials]
    assert states.count(TrialState.COMPLETE) == 10
    stopped = [t for t in trials if t.state == TrialState.PRUNED]
    assert stopped
    assert all(len(t.user_attrs["measured"]["curves"][-1]) <= 4 for t in stopped)


def test_rows_without_a_validation_draw_are_judged_out_of_fold() -> None:
    settings = Settings(trials=1, folds=2, seeds=1)
    rows = plan_study(
        {"strategy": "probe", "head_solver": "gradient", "rows": "20", "epochs": "1"}, {}, settings, "rows", Session()
    )
    assert (rows.config.cross_validation, rows.config.per_label) == ("4x1", None)
    none = {"strategy": "lora", "rows": "20", "cross_validation": "none"}
    with pytest.raises(InputError, match=r"cross_validation=none: no validation draw .* leave it out"):
        plan_study(none, {}, settings, "rows", Session())
    found = [
        Final(role, 1000, 0, {"cross_validated/mcc": value})
        for role, value in (("winner", 0.5), ("default", 0.25), ("median", 0.25))
    ]
    winner = create_trial(params={}, distributions={}, value=0.5)
    judged = verdict(found, "mcc", winner, 0.5, None)
    assert (judged.recommended, judged.final_mean) == ("winner", 0.5)
    assert "final means on cross_validated, by mcc: winner 0.5000" in judged.sentences[1]


def test_what_nobody_gave_is_not_called_idle() -> None:
    session = Session()
    plan = plan_study({"strategy": "probe", "per_label": "4"}, {}, Settings(folds=2), "idle", session)
    tried = plan.config_of({"pooling": "last"}, seed=1000)
    assert not [note for note in prepare(tried, session).notes if "without meaning" in note]
    given = plan_study({"strategy": "probe", "per_label": "4", "epochs": "3"}, {}, Settings(folds=2), "idle", session)
    assert any(note.startswith("epochs: without meaning") for note in prepare(given.config_of({}), session).notes)


def test_a_range_of_one_value_fixes_it() -> None:
    asked = {"epochs": "5:5", "rank": "2:2", "alpha_ratio": "4:4", "lora_modules": "all|", "warmup": "0.25:0.25"}
    plan = plan_study({"strategy": "lora", "per_label": "4"}, asked, Settings(folds=2), "one", Session())
    assert not plan.space.keys() & asked.keys()
    (config, *_) = (unit.config for unit in plan.units({}, 0, 1))
    found = (config.epochs, config.rank, config.alpha, config.lora_modules, config.warmup)
    assert found == (5, 2, 8, "all", 0.25)


def test_steps_leave_no_epochs_to_search() -> None:
    values = {"strategy": "lora", "per_label": "4", "steps": "3"}
    assert "epochs" not in plan_study(values, {}, Settings(folds=2), "steps", Session()).space
    with pytest.raises(InputError, match="epochs=5:40: steps=3 replaces the epochs"):
        plan_study(values, {"epochs": "5:40"}, Settings(folds=2), "steps", Session())


def test_a_search_chooses_among_the_label_words_and_cuts_that_matter(tmp_path: Path) -> None:
    task = make_place(tmp_path, "bert") / "task.yaml"
    other = task.read_text() + "other_label_words: [[bad, good], [no, are]]\n"
    task.write_text(other)
    values = {"strategy": "zero_shot", "task": str(task), "model": str(tmp_path / "bert"), "per_label": "4"}
    plan = plan_study(values, {}, Settings(folds=2), "words", Session())
    assert plan.space["label_words"] == Choice(("No,Yes", "bad,good", "no,are"))
    assert plan.guesses[0]["label_words"] == "No,Yes"
    assert "cut" not in plan.space
    plan = plan_study({**values, "max_length": "6"}, {"label_words": "bad,good"}, Settings(folds=2), "cut", Session())
    assert "label_words" not in plan.space
    assert plan.space["cut"] == Choice(("end", "start", "middle"))
    task.write_text(other.replace("no, are", "no, unheard"))
    with pytest.raises(InputError, match="label word ' unheard' is unknown"):
        plan_study(values, {}, Settings(folds=2), "words", Session())
    task.write_text(other.replace("no, are", "no"))
    with pytest.raises(InputError, match="each entry needs 2 different words"):
        plan_study(values, {}, Settings(folds=2), "words", Session())
