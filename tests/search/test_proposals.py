"""The law of proposals: a trial depends on the seed, its number and the results before it, and on nothing else."""

import random
from collections.abc import Callable, Hashable
from dataclasses import replace

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from effft.errors import InputError
from effft.runs.session import Session
from effft.search.driver import Driver
from effft.search.jobs import JobResult, TrainingJob
from effft.search.mlflow_log import Logbook
from effft.search.planning import plan_study
from effft.search.settings import Settings, StudyPlan
from effft.search.storage import open_study
from effft.tracking.tracker import MemoryTracker
from tests.search.test_choice import RESOURCES

Trials = list[tuple[int, TrialState, dict[str, object], list[float] | None]]


class KilledError(Exception):
    """The process ends here."""


class Unordered:
    """An executor that gives results in any order and dies after some; a score is a function of the unit alone."""

    def __init__(self, width: int, order: random.Random, lives_for: float) -> None:
        self.workers, self.order, self.lives_for = width, order, lives_for
        self.given: list[tuple[Hashable, TrainingJob]] = []

    def submit(self, key: Hashable, unit: TrainingJob) -> None:
        self.given.append((key, unit))

    def next_result(self) -> tuple[Hashable, JobResult]:
        self.lives_for -= 1
        if self.lives_for < 0:
            raise KilledError
        key, unit = self.given.pop(self.order.randrange(len(self.given)))
        score = random.Random(f"{unit.config.model_dump()} {unit.fold}").random()
        failure = "it failed" if score < 0.05 else ""
        return key, JobResult(score, RESOURCES, failure, stopped=score < 0.15)

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def plan() -> StudyPlan:
    asked = Settings(trials=7, folds=3)
    return plan_study({"strategy": "lora", "per_label": "4", "bootstrap": "0"}, {}, asked, "law", Session())


def study(plan: StudyPlan, url: str, make: Callable[[], Unordered]) -> Trials:
    """Drive to the end, with as many processes as it takes."""
    while True:
        try:
            with open_study(url, plan) as stored:
                Driver(stored, plan, make(), Logbook(MemoryTracker(), plan), lambda *_: None).run()
                return [(t.number, t.state, t.params, t.values) for t in stored.trials]
        except KilledError:
            continue


@given(st.integers(0, 99), st.sampled_from(["tpe", "random", "nsga2", "gp"]), st.integers(1, 3), st.integers(0, 3))
@settings(max_examples=5, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@pytest.mark.slow
def test_kills_and_the_order_of_results_change_nothing(
    plan: StudyPlan, tmp_path_factory: pytest.TempPathFactory, seed: int, sampler: str, width: int, objectives: int
) -> None:
    rng, folder = random.Random(seed), tmp_path_factory.mktemp("law")
    more = {"objectives": ("validation", "peak_memory")} if objectives == 3 else {"pruner": "median"}
    trials = 10 if sampler == "gp" else 12
    asked = replace(plan.settings, sampler=sampler, trials=trials, **more)  # type: ignore[arg-type]
    plan = replace(plan, config=plan.config.model_copy(update={"seed": seed}), settings=asked)
    whole = study(plan, f"sqlite:///{folder}/whole.db", lambda: Unordered(width, random.Random(0), float("inf")))
    torn = study(plan, f"sqlite:///{folder}/torn.db", lambda: Unordered(width, rng, rng.randrange(1, 25)))
    assert torn == whole
    assert [number for number, *_ in whole] == list(range(len(whole)))
    ended = [state for _, state, *_ in whole if state != TrialState.FAIL]
    assert ended.count(TrialState.COMPLETE) == trials or len(ended) == 3 * trials
    few = replace(plan, settings=replace(asked, trials=5))
    parts = f"sqlite:///{folder}/parts.db"
    study(few, parts, lambda: Unordered(width, rng, float("inf")))
    assert study(plan, parts, lambda: Unordered(width, rng, float("inf"))) == whole


def test_a_second_driver_is_told_who_drives(plan: StudyPlan, tmp_path_factory: pytest.TempPathFactory) -> None:
    url = f"sqlite:///{tmp_path_factory.mktemp('lock')}/optuna.db"
    said = r"'law' is driven by process \d+ on .* since \d{4}-"
    with open_study(url, plan), pytest.raises(InputError, match=said), open_study(url, plan):
        pass
    with open_study(url, plan), open_study(url, replace(plan, name="other")):
        pass
