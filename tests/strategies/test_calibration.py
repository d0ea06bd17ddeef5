"""Calibration is a map of label scores with the properties that its methods promise."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from effft.data.examples import Example
from effft.strategies.calibration import Calibration, affine, calibrate, without_prior

FINITE = st.floats(-30, 30)
ROWS = st.integers(2, 4).flatmap(
    lambda labels: st.lists(st.lists(FINITE, min_size=labels, max_size=labels), min_size=1, max_size=9)
)
SHOTS = tuple(Example((f"word{i} is a text",), i % 2, i) for i in range(8))


@given(ROWS)
def test_the_prior_is_divided_out(rows: list[list[float]]) -> None:
    scores = torch.tensor(rows)
    prior = scores.double().softmax(dim=1).mean(dim=0)
    expected = (scores.double().softmax(dim=1) / prior).log()
    expected = expected - expected.logsumexp(dim=1, keepdim=True)
    assert torch.allclose(without_prior(scores)(scores.double()), expected, atol=1e-6)
    assert torch.allclose(without_prior(scores[:1])(scores[:1]).exp(), torch.tensor(1 / len(rows[0])), atol=1e-6)


@settings(max_examples=6, deadline=None)
@given(ROWS.filter(lambda rows: len(rows) > 3), st.integers(0, 999))
def test_the_affine_map_is_the_best_there_is(rows: list[list[float]], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.tensor(rows, dtype=torch.double)
    labels = torch.randint(len(rows[0]), (len(rows),), generator=generator)
    found = affine(scores, labels)

    def cost(scale: float, bias: Tensor) -> float:
        loss = F.cross_entropy(scale * scores.log_softmax(dim=1) + bias, labels, reduction="sum")
        return float(loss + ((scale - 1) ** 2 + bias.square().sum()) / 200)

    best = cost(found.scale, torch.tensor(found.bias, dtype=torch.double))
    for size in (1.0, 0.1, 0.01):
        step = size * torch.randn(1 + len(found.bias), generator=generator, dtype=torch.double)
        assert best <= cost(found.scale + float(step[0]), torch.tensor(found.bias) + step[1:]) + 1e-6


def test_a_model_that_answers_the_wrong_way_round_is_turned() -> None:
    scores = torch.randn((16, 2), generator=torch.Generator().manual_seed(0))
    labels = 1 - scores.argmax(dim=1)
    found = affine(scores, labels)
    assert found.scale < 0
    assert torch.equal(found(scores).argmax(dim=1), labels)


def test_each_method_asks_for_the_scores_of_its_own_texts() -> None:
    asked: list[tuple[list[str], bool]] = []

    def score(examples: "list[Example]", leave_out: bool) -> Tensor:
        asked.append(([text for example in examples for text in example.texts], leave_out))
        return torch.arange(2.0 * len(examples)).reshape(-1, 2)

    assert calibrate("none", SHOTS, 0, score) is None is calibrate("batch", SHOTS, 0, score)
    assert not asked
    assert isinstance(calibrate("contextual", SHOTS, 0, score), Calibration)
    calibrate("domain", SHOTS, 0, score)
    calibrate("domain", SHOTS, 1, score)
    calibrate("fitted", SHOTS, 0, score)
    (free, _), (words, _), (others, _), (shots, left_out) = asked
    assert free == ["N/A", "", "[MASK]"]
    assert {word for text in words for word in text.split()} <= {word for s in SHOTS for word in s.texts[0].split()}
    assert [len(text.split()) for text in words] == [4] * 20
    assert words != others
    assert (shots, left_out) == ([s.texts[0] for s in SHOTS], True)


@pytest.mark.parametrize("scale", [1.0, -2.0])
def test_scores_stay_log_probabilities(scale: float) -> None:
    scores = Calibration(scale, (0.5, -0.5, 3.0))(torch.randn(4, 3))
    assert torch.allclose(scores.exp().sum(dim=1), torch.ones(4))
