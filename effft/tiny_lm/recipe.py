"""The recipe: curriculum, mixture, model and optimizer of a pre-training, read from one file."""

import hashlib
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from effft.errors import nearest
from effft.tasks.source import StrictModel
from effft.tasks.yaml_file import read_record
from effft.tiny_lm.corpus import SOURCES

DEFAULT = Path(__file__).parent / "recipe.yaml"
Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class Shape(StrictModel):
    """A Llama: sizes, and the standard deviation its weights start with."""

    width: Positive
    blocks: Positive
    heads: Positive
    feed_forward: Positive
    positions: Positive
    initial_std: float = Field(gt=0)


class Optimizer(StrictModel):
    """Muon (matrices) and AdamW (others): linear warm-up, constant, then linear decay.

    decay_from: share of all steps after which the rates fall; final: share of the peak they end at. bf16: products in
    bfloat16, weights and sums in fp32.
    """

    matrix_rate: float = Field(gt=0)
    other_rate: float = Field(gt=0)
    betas: tuple[Share, Share]
    weight_decay: float = Field(ge=0)
    clip_norm: float = Field(gt=0)
    warmup: int = Field(ge=0)
    decay_from: Share
    final: Share
    bf16: bool = False


class Batch(StrictModel):
    """Rows of one step: short ones and episodes, and the weight of the episodes' loss beside the short rows'."""

    short: Positive
    episodes: Positive
    episode_weight: float = Field(ge=0)


class Stage(StrictModel):
    """A stretch of steps with one mixture: source -> share, for both kinds of row."""

    name: str
    steps: Positive
    short: dict[str, Share]
    episodes: dict[str, Share]

    @model_validator(mode="after")
    def _check(self) -> Self:
        for kind in ("short", "episodes"):
            shares = getattr(self, kind)
            unknown = [source for source in shares if source not in SOURCES]
            if unknown:
                raise ValueError(f"stage {self.name!r}: no source {unknown[0]!r}.{nearest(unknown[0], SOURCES)}")
            if abs(sum(shares.values()) - 1) > 1e-6:
                raise ValueError(
                    f"stage {self.name!r}: the shares of {kind} must add up to 1, not {sum(shares.values()):.3f}"
                )
        return self


class Recipe(StrictModel):
    """Everything that decides the weights, the seed apart."""

    version: int = Field(ge=1, le=1)
    model: Shape
    optimizer: Optimizer
    batch: Batch
    stages: tuple[Stage, ...] = Field(min_length=1)

    @property
    def steps(self) -> int:
        """Optimizer updates in all."""
        return sum(stage.steps for stage in self.stages)

    @property
    def digest(self) -> str:
        """16 hex digits of SHA-256 over every value."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    def stage_at(self, step: int) -> Stage:
        """The stage of a step (from 0)."""
        for stage in self.stages:
            if step < stage.steps:
                return stage
            step -= stage.steps
        return self.stages[-1]

    def rate_factor(self, step: int) -> float:
        """Share of the peak learning rates at a step (from 0)."""
        own = self.optimizer
        if step < own.warmup:
            return (step + 1) / own.warmup
        start = own.decay_from * self.steps
        done = max(0.0, (step - start) / max(1.0, self.steps - start))
        return 1 - done * (1 - own.final)


def read_recipe(path: Path = DEFAULT) -> Recipe:
    """The recipe in a YAML file."""
    return read_record(path, Recipe, "recipe")
