"""Minutes as a budget: fewer seeds before fewer roles, a first trial always, and time that later processes count on."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from effft.errors import InputError
from effft.progress import silent
from effft.runs.session import Session
from effft.search.budget import Clock, Prices, affordable
from effft.search.driver import Driver
from effft.search.finals import choose
from effft.search.jobs import JobResult
from effft.search.mlflow_log import Logbook
from effft.search.planning import plan_study
from effft.search.settings import Settings
from effft.search.storage import open_study
from effft.tracking.tracker import MemoryTracker
from tests.search.test_choice import RESOURCES, Told

SECONDS = st.floats(0.01, 1e4)


@example(3182.0, 1.0, 794.0, 106.0, 0.5)
@given(SECONDS, SECONDS, SECONDS, st.floats(0.1, 1e3), st.floats(0.05, 0.95))
def test_finals_keep_to_their_share_or_are_the_least(
    trial: float, again: float, last: float, minutes: float, share: float
) -> None:
    prices = Prices(trial, again, last)
    settings = Settings(minutes=minutes, finals_share=share, reseeds=3, seeds=5)
    try:
        found = affordable(settings, prices)
    except InputError:
        assert trial + (again + last) > 60 * minutes
        return
    assert prices.finals(found) <= share * (60 * minutes) or (found.reseeds, found.seeds) == (1, 1)
    assert trial + prices.finals(found) <= 60 * minutes
    if prices.finals(settings) <= share * (60 * minutes) and trial + prices.finals(settings) <= 60 * minutes:
        assert found == settings


def test_trials_side_by_side_are_not_slower_than_expected(tmp_path: Path) -> None:
    """Of 4 at a time one ends every 10 s, and each takes 40 s: what follows takes its 30 s all the same."""
    values, settings = {"strategy": "lora", "per_label": "4", "rank": "8"}, Settings(folds=2, reseeds=1, seeds=1)
    plan = plan_study(values, {}, settings, "wide", Session())
    with open_study(f"sqlite:///{tmp_path}/optuna.db", plan) as stored:
        clock = Clock(stored, 90.0)
        clock.expect(Prices(10.0, 10.0, 20.0), settings, 4)
        assert clock.fits_trial(40.0)
        assert not clock.fits_trial(80.0), "all is twice as slow: 80 + 60 s"


def test_without_time_there_is_one_trial_and_one_fresh_seed(tracking_uri: str) -> None:
    values = {"strategy": "lora", "per_label": "4", "epochs": "1", "rank": "8"}
    settings = Settings(trials=6, folds=2, reseeds=3)
    plan = plan_study(values, {}, settings, "timed", Session())
    with tempfile.TemporaryDirectory() as folder:
        url, executor = f"sqlite:///{Path(folder)}/optuna.db", Told(lambda unit: JobResult(0.5, RESOURCES))
        with open_study(url, plan) as stored:
            clock = Clock(stored, 0.0)
            Driver(stored, plan, executor, Logbook(MemoryTracker(), plan), silent, clock).run()
            assert len(stored.complete) == 1
            choose(stored, plan, executor, silent, clock)
            assert sum(name.startswith("fresh/") for name in stored.results) == 2, "one seed on two folds"
            spent = clock.spent
        with open_study(url, plan) as stored:
            assert Clock(stored, 0.0).earlier == pytest.approx(spent, abs=1.0)
            assert Clock(stored, 0.0).earlier > 0
