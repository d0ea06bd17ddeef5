"""The simulated study: laws that must hold whatever the costs."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.scale_sim import FILE, Costs, Server, read, saturation, simulate

SECONDS = st.floats(0.001, 10, allow_nan=False)
COSTS = st.builds(
    Costs,
    driver=SECONDS,
    writes=st.integers(0, 6),
    write=st.floats(0, 1),
    give=st.just(0.0),
    folds=st.integers(1, 3),
    units=st.lists(SECONDS, min_size=1, max_size=3).map(tuple),
)


@given(COSTS, st.integers(1, 12), st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_nothing_is_busier_than_always(costs: Costs, each: int, drivers: int) -> None:
    load = simulate(costs, each * drivers, drivers)
    assert all(0 <= share <= 1 + 1e-9 for share in (load.working, load.driving, load.database))
    serial = costs.driver + costs.writes * costs.write
    assert load.trials_per_second <= drivers / serial * (1 + 1e-9)
    if costs.writes and costs.write:
        assert load.trials_per_second <= 1 / (costs.writes * costs.write) * (1 + 1e-9)
    assert load.database == pytest.approx(load.trials_per_second * costs.writes * costs.write)


@given(COSTS, st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_equal_units_take_what_arithmetic_says(costs: Costs, workers: int) -> None:
    unit = costs.units[0]
    load = simulate(Costs(**{**costs.__dict__, "units": (unit,)}), workers)
    together = workers * (costs.driver + costs.writes * costs.write) + costs.folds * unit
    assert load.trials_per_second == pytest.approx(workers / together)
    assert load.working == pytest.approx(costs.folds * unit / together)


def test_drivers_wait_for_one_another_at_the_database() -> None:
    costs = Costs(driver=0.0, writes=1, write=1.0, give=0.0, folds=1, units=(0.5,))
    alone, crowd = simulate(costs, 1, 1), simulate(costs, 10, 10)
    assert alone.trials_per_second == pytest.approx(1 / 1.5)
    assert crowd.trials_per_second == pytest.approx(1.0, rel=0.1), "one write a second, however many ask"
    assert simulate(costs, 10, 10, connections=10).trials_per_second == pytest.approx(10 / 1.5)
    assert Server(2).load(1.0) == 0


def test_a_driver_saturates_where_it_takes_half_the_time() -> None:
    costs = Costs(driver=0.04, writes=0, write=0.0, give=0.0, folds=1, units=(4.0,))
    assert saturation(costs) == pytest.approx(101, abs=8)


def test_what_was_measured_lies_on_the_curve() -> None:
    found = read(FILE)
    assert [point.workers for point in found.points] == [1, 2]
    for point in found.points:
        assert point.trials_per_second == pytest.approx(simulate(found.costs, point.workers).trials_per_second, rel=0.2)
