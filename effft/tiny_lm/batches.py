"""Rows as tensors. Step `n` of seed `s` is the same text on every machine: it depends on nothing else."""

import random
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from effft.tiny_lm.corpus import SOURCES, TextRow
from effft.tiny_lm.recipe import Recipe
from effft.tiny_lm.vocabulary import LABEL_WORDS, identifiers

IDS = identifiers()
MICRO_BATCHES = 3  # Rows are sorted by length and cut into this many batches, so that little is padding.
SourceRow = tuple[str, TextRow]


class TextBatch(NamedTuple):
    """Rows of similar length.

    ids: (rows, length), right-padded with 0. weights: (rows, length), weight of predicting each id; 0 for padding.
    answers: (rows, length), whether the id is an answer that counts. sources: one name per row.
    """

    ids: Tensor
    weights: Tensor
    answers: Tensor
    sources: tuple[str, ...]


def step_rows(recipe: Recipe, seed: int, step: int) -> dict[str, list[SourceRow]]:
    """The rows of one step with their sources: {'short': [...], 'episodes': [...]}."""
    rng = random.Random(f"pretrain {seed} {step}")
    stage, size = recipe.stage_at(step), recipe.batch
    return {
        "short": [_draw(rng, stage.short) for _ in range(size.short)],
        "episodes": [_draw(rng, stage.episodes) for _ in range(size.episodes)],
    }


def _draw(rng: random.Random, shares: Mapping[str, float]) -> SourceRow:
    source = rng.choices(list(shares), list(shares.values()))[0]
    return source, SOURCES[source](rng)


def to_batches(rows: list[SourceRow], positions: int) -> list[TextBatch]:
    """Rows as at most MICRO_BATCHES batches of similar length; what is longer than `positions` is cut."""
    ordered = sorted(rows, key=lambda named: len(named[1].words))
    size = -(-len(ordered) // MICRO_BATCHES)
    return [_tensors(ordered[start : start + size], positions) for start in range(0, len(ordered), size)]


def _tensors(rows: list[SourceRow], positions: int) -> TextBatch:
    words = [torch.tensor([IDS[word] for word in row.words[:positions]]) for _, row in rows]
    ids = pad_sequence(words, batch_first=True)
    weights = pad_sequence([torch.tensor(row.weights[:positions]) for _, row in rows], batch_first=True)
    answers = torch.isin(ids, torch.tensor([IDS[word] for word in LABEL_WORDS])) & (weights > 0)
    return TextBatch(ids, weights, answers, tuple(source for source, _ in rows))
