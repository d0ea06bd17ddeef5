"""From how many labels on one strategy beats another."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from effft.config import make_config
from effft.reports.groups import RunGroup
from effft.reports.label_break_even import first_above, label_break_even
from effft.reports.results import outcomes_table
from effft.runs.compare import Outcome
from effft.runs.experiment import Result


def groups_of(scores: dict[str, dict[int, Sequence[float]]]) -> list[RunGroup]:
    """strategy -> rows -> a score for each seed."""
    outcomes = []
    for strategy, curve in scores.items():
        for rows, own in curve.items():
            for seed, score in enumerate(own):
                config = make_config({"strategy": strategy, "seed": seed, "rows": str(rows)})
                metrics = {"in_domain/accuracy": score, "in_domain/calibration_error": score + seed}
                outcomes.append(Outcome(config, Result(config, f"{strategy} {seed}", metrics, "accuracy", (), ())))
    return [row.group for row in outcomes_table(outcomes).rows]


def test_who_overtakes_whom_and_from_where() -> None:
    probe = {8: [0.6, 0.62, 0.61], 16: [0.7, 0.72, 0.71], 32: [0.74, 0.76, 0.75], 64: [0.8, 0.8, 0.8]}
    lora = {8: [0.5, 0.5, 0.5], 16: [0.9, 0.9, 0.4], 32: [0.95, 0.9, 0.6], 64: [0.95, 0.96, 0.9]}
    found = label_break_even(groups_of({"probe": probe, "lora": lora}), "tiny")
    assert found is not None
    assert [list(row) for row in found.rows] == [["lora", "probe", "16 rows", "64 rows", "64 rows"]]


CURVES = st.lists(st.lists(st.floats(0, 1), min_size=2, max_size=2), min_size=3, max_size=3)


@settings(max_examples=10, deadline=None)
@given(CURVES, CURVES)
def test_at_most_one_of_two_overtakes_and_surely_not_before_by_the_mean(
    one: list[list[float]], other: list[list[float]]
) -> None:
    amounts = (8, 16, 32)
    curves = {"probe": dict(zip(amounts, one, strict=True)), "lora": dict(zip(amounts, other, strict=True))}
    found = label_break_even(groups_of(curves), "tiny")
    rows = found.rows if found else []
    assert len(rows) <= 1
    for _, _, mean, surely, _ in rows:
        assert int(mean.split()[0]) > 8, "with fewest examples it is not above"
        assert surely == "-" or int(surely.split()[0]) >= int(mean.split()[0])


@given(st.lists(st.booleans(), max_size=6))
def test_the_first_pair_above_is_one_from_which_on_all_are(above: list[bool]) -> None:
    groups = groups_of({"probe": {rows: [0.5] for rows in range(8, 8 + len(above))}}) if above else []
    pairs = [(group, group) for group in sorted(groups, key=lambda group: group.amount)]
    told = {id(group): value for (group, _), value in zip(pairs, above, strict=True)}
    found = first_above(pairs, lambda one, _: told[id(one)])
    place = next(n for n in range(len(above) + 1) if all(above[n:]))
    assert found == (pairs[place] if place < len(above) else None)
