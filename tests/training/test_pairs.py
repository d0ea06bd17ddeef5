"""Pairs of training texts: both kinds are as many, and every pair occurs."""

import random
from collections import Counter
from pathlib import Path

import pytest
import torch
from backbones import save_backbone
from helpers import EXAMPLES, learner_on
from hypothesis import given
from hypothesis import strategies as st

from effft.strategies.batch import Item
from effft.strategies.prompting import EncodedPrompt
from effft.strategies.strategy import compose
from effft.training.pairs import Pairs, pair_count
from effft.training.solved_head import solve_head


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(0, 9))
def test_every_pair_occurs_and_both_kinds_are_as_many(labels: list[int], seed: int) -> None:
    items = [Item(EncodedPrompt((row,), None, 0, cut=False), label) for row, label in enumerate(labels)]
    pairs = list(Pairs(items, random.Random(seed)))
    assert len(pairs) == pair_count(labels)
    found = Counter((min(p, q), max(p, q)) for p, q in ((x.prompt.ids[0], x.partner.prompt.ids[0]) for x in pairs))
    assert len(found) == len(labels) * (len(labels) + 1) // 2
    assert all(p.label == (labels[p.prompt.ids[0]] == labels[p.partner.prompt.ids[0]]) for p in pairs)
    kinds = Counter(pair.label for pair in pairs)
    assert kinds[0] in (0, kinds[1])
    for kind in (True, False):  # none is repeated twice before another is repeated once
        own = [n for (p, q), n in found.items() if (labels[p] == labels[q]) == kind]
        assert not own or max(own) - min(own) <= 1


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_the_loss_is_the_squared_error_of_the_cosine_however_a_step_is_cut(tmp_path: Path, kind: str) -> None:
    from effft.strategies.batch import count

    learner = learner_on(save_backbone(tmp_path, kind), compose("setfit"), dtype=torch.float64)
    texts = learner.items(EXAMPLES)
    pairs = list(Pairs(texts, random.Random(0)))[:9]
    with torch.no_grad():
        whole = learner.loss(learner.collate(pairs))
        cut = sum(learner.loss(learner.collate(part), count(pairs)) for part in (pairs[:4], pairs[4:]))
    states = dict(zip([item.prompt for item in texts], learner.pooled_states(texts), strict=True))
    cosines = [torch.cosine_similarity(states[p.prompt], states[p.partner.prompt], dim=0) for p in pairs]
    errors = torch.stack([(cosine - pair.label) ** 2 for cosine, pair in zip(cosines, pairs, strict=True)])
    torch.testing.assert_close(whole, errors.mean(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(cut, whole, rtol=1e-9, atol=1e-9)


def test_the_head_reads_directions_alone_as_the_loss_does(tmp_path: Path) -> None:
    learner = learner_on(save_backbone(tmp_path, "bert"), compose("setfit"), dtype=torch.float64)
    assert learner.head is not None
    items = learner.items(EXAMPLES)
    solve_head(learner, items, seed=0)
    states, lengths = learner.pooled_states(items).double(), torch.linspace(0.1, 10, len(items)).unsqueeze(1)
    head = learner.head.double()
    torch.testing.assert_close(head(states * lengths), head(states), rtol=1e-9, atol=1e-9)
    with torch.no_grad():
        torch.testing.assert_close(learner.scores(learner.collate(items)), head(states), rtol=1e-9, atol=1e-9)
