"""Temperature and risk curve: probabilities that one can act on."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from effft.strategies.calibration import Calibration, temperature
from effft.strategies.risk import FAILURE, STARTS, RiskCurve, risk_curve


def drawn(rows: int, labels: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores, and labels drawn from their own probabilities: scores that are calibrated."""
    generator = torch.Generator().manual_seed(seed)
    scores = 2 * torch.randn((rows, labels), generator=generator, dtype=torch.double)
    return scores, torch.multinomial(scores.softmax(dim=-1), 1, generator=generator)[:, 0]


@pytest.mark.parametrize("factor", [0.25, 1.0, 4.0])
def test_the_temperature_undoes_what_was_multiplied(factor: float) -> None:
    scores, labels = drawn(4000, 3, 0)
    assert factor * temperature(factor * scores, labels).scale == pytest.approx(1, abs=0.1)


def test_rows_that_are_all_right_give_a_finite_temperature() -> None:
    scores = 10 * torch.eye(2).repeat(20, 1)
    assert 0.01 < temperature(scores, torch.tensor([0, 1] * 20)).scale < 100


def test_a_temperature_after_a_calibration_is_one_map() -> None:
    scores, _ = drawn(10, 3, 1)
    first = Calibration(1.5, (0.1, -0.2, 0.3))
    torch.testing.assert_close(first.scaled(0.5)(scores), (0.5 * first(scores)).log_softmax(dim=-1))


@given(st.integers(2, 300), st.integers(0, 99), st.sampled_from([0.02, 0.1, 0.3]))
def test_the_binomial_test_rejects_that_the_chosen_answers_are_wrong_more_often(
    rows: int, seed: int, error: float
) -> None:
    scores, labels = drawn(rows, 3, seed)
    threshold = risk_curve(scores[None], labels).threshold(error)
    sure, answers = scores.softmax(dim=-1).max(dim=-1)
    for kept in [sure >= threshold - 1e-12] if threshold is not None else []:
        wrong, answered = int((answers != labels)[kept].sum()), int(kept.sum())
        assert binom.cdf(wrong, answered, error) <= FAILURE / STARTS + 1e-9


@pytest.mark.parametrize("error", [0.1, 0.2])
def test_a_promise_is_broken_for_one_draw_in_ten_at_most(error: float) -> None:
    everything, truth = drawn(50_000, 3, 7)
    sure, answers = everything.softmax(dim=-1).max(dim=-1)
    promised = broken = 0
    for start in range(0, 40_000, 200):
        threshold = risk_curve(everything[None, start : start + 200], truth[start : start + 200]).threshold(error)
        if threshold is not None:
            promised += 1
            broken += bool((answers != truth)[sure >= threshold].float().mean() > error)
    assert promised > 20
    assert broken <= binom.ppf(0.999, 200, FAILURE)


@pytest.mark.parametrize("error", [0.05, 0.1, 0.2])
def test_rows_that_are_all_right_promise_as_soon_as_there_are_enough(error: float) -> None:
    enough = next(n for n in range(1, 500) if (1 - error) ** n <= FAILURE / STARTS)

    def curve(rows: int) -> RiskCurve:
        scores = torch.linspace(1, 2, rows, dtype=torch.double)[:, None] * torch.tensor([[1.0, 0.0]])
        return risk_curve(scores[None], torch.zeros(rows, dtype=torch.long))

    assert curve(enough).threshold(error) == min(curve(enough).confidence)
    few = curve(enough - 1)
    assert few.threshold(error) is None
    needed, smallest = few.rows_needed(error), few.smallest
    assert needed is not None
    assert enough <= needed <= 1.2 * enough + 10
    assert smallest is not None
    assert error < smallest <= error + 0.05


def test_no_number_of_rows_helps_a_model_that_is_always_wrong() -> None:
    scores = torch.tensor([[1.0, 0.0]]).repeat(40, 1)
    curve = risk_curve(scores[None], torch.ones(40, dtype=torch.long))
    assert (curve.threshold(0.1), curve.rows_needed(0.1), curve.smallest) == (None, None, None)
