"""Temperature and risk curve: probabilities that one can act on."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from effft.strategies.calibration import Calibration, risk_curve, temperature


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


@given(st.integers(2, 60), st.integers(1, 3), st.integers(0, 99), st.sampled_from([0.02, 0.1, 0.3]))
def test_answers_above_the_threshold_keep_what_is_promised(rows: int, repeats: int, seed: int, error: float) -> None:
    scores, labels = drawn(rows * repeats, 3, seed)
    scores = scores.reshape(repeats, rows, 3)
    labels = labels[:rows]
    threshold = risk_curve(scores, labels).threshold(error)
    sure, answers = scores.softmax(dim=-1).max(dim=-1)
    for kept in [sure >= threshold] if threshold is not None else []:
        wrong = float(((answers != labels) & kept).sum()) / repeats
        assert (wrong + 0.5) / (float(kept.sum()) / repeats + 1) <= error + 1e-6
        assert float((1 - sure)[kept].mean()) <= error + 1e-6
