"""Rows as tensors. Step `n` of seed `s` is the same text on every machine: it depends on nothing else."""

import random
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from effft.tiny_lm.corpus import SOURCES, Row
from effft.tiny_lm.recipe import Recipe
from effft.tiny_lm.vocabulary import LABEL_WORDS, identifiers

IDS = identifiers()
ANSWERS = frozenset(LABEL_WORDS)
MICRO_BATCHES = 3
"""Rows are sorted by length and cut into this many batches, so that little is padding."""


class Packed(NamedTuple):
    """Rows of similar length.

    ids: (rows, length), right-padded. weights: (rows, length), weight of predicting each id; 0 for padding.
    answers: (rows, length), whether the id is an answer that counts. sources: one name a row.
    """

    ids: Tensor
    weights: Tensor
    answers: Tensor
    sources: tuple[str, ...]


def step_rows(recipe: Recipe, seed: int, step: int) -> dict[str, list[tuple[str, Row]]]:
    """The rows of one step: {'short': [(source, row), ...], 'episodes': [...]}."""
    rng = random.Random(f"pretrain {seed} {step}")
    stage, size = recipe.stage_at(step), recipe.batch
    return {
        "short": [_row(rng, stage.short) for _ in range(size.short)],
        "episodes": [_row(rng, stage.episodes) for _ in range(size.episodes)],
    }


def _row(rng: random.Random, shares: Mapping[str, float]) -> tuple[str, Row]:
    source = rng.choices(list(shares), list(shares.values()))[0]
    return source, SOURCES[source](rng)


def pack(rows: list[tuple[str, Row]], positions: int) -> list[Packed]:
    """Rows as at most MICRO_BATCHES batches of similar length; what is longer than `positions` is cut."""
    ordered = sorted(rows, key=lambda named: len(named[1].words))
    size = -(-len(ordered) // MICRO_BATCHES)
    return [_tensors(ordered[start : start + size], positions) for start in range(0, len(ordered), size)]


def _tensors(rows: list[tuple[str, Row]], positions: int) -> Packed:
    length = min(positions, max(len(row.words) for _, row in rows))
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    weights = torch.zeros(len(rows), length)
    answers = torch.zeros(len(rows), length, dtype=torch.bool)
    for number, (_, row) in enumerate(rows):
        words = row.words[:length]
        ids[number, : len(words)] = torch.tensor([IDS[word] for word in words])
        weights[number, : len(words)] = torch.tensor(row.weights[:length])
        answers[number, : len(words)] = torch.tensor(
            [word in ANSWERS and weight > 0 for word, weight in zip(words, row.weights[:length], strict=True)]
        )
    return Packed(ids, weights, answers, tuple(source for source, _ in rows))
