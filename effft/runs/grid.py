"""A grid of a comparison: every strategy with every task, number of examples and seed, as runs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from effft.config import PART_FIELDS, Amount, RunConfig, TaskSettings, make_config
from effft.errors import InputError, nearest
from effft.strategies.parts import TRANSDUCTIVE
from effft.strategies.strategy import NAMED, Strategy, compose
from effft.tasks.from_data import task_of
from effft.tasks.task import load_task
from effft.value_types import Count, Positive, Rows

ControlName = Literal["bag_of_words", "random_weights", "swapped_label_words"]
CONTROLS: dict[ControlName, str] = {
    "bag_of_words": "vanilla",
    "random_weights": "vanilla",
    "swapped_label_words": "icl",
}
"""Control -> the strategy whose examples and settings it takes; see `effft.runs.controls`."""


SEEDS = ("seed", "data_seed", "demo_seed", "order_seed")
"""Fields in which the runs of a row differ."""


@dataclass(frozen=True)
class ComparedRun:
    """One run of a comparison. variant: name of its row, with the settings in which rows differ. control: may be ''."""

    config: RunConfig
    variant: str
    control: str = ""


@dataclass(frozen=True)
class RunRow:
    """The runs of one row: they differ in their seeds alone. values: the other fields of their RunConfig."""

    strategy: Strategy
    variant: str
    values: Mapping[str, Any]
    control: str = ""

    @property
    def amount(self) -> Amount:
        """Number of training examples."""
        return Amount.of(self.values)

    @property
    def shows(self) -> bool:
        """Whether its prompts, or its teacher's, have demonstrations."""
        shots = self.values.get(self.strategy.shots_name) or self.strategy.shots
        return str(shots) != "0"

    def repeats(self, later_seed: bool, later_draw: bool, later_demos: bool, later_order: bool) -> bool:
        """Whether a run could only repeat another: seeds move nothing where nothing trains or no example is used."""
        if (later_demos and not self.shows) or (later_order and not self.strategy.takes_steps):
            return True
        if self.control == "bag_of_words":
            return later_seed
        fits = self.values.get("calibration") in ("domain", "fitted")
        return not self.strategy.trains and (later_seed or (later_draw and not self.shows and not fits))


class Grid(BaseModel):
    """Every strategy with every number of examples and every pair of seeds, on the same few-shot examples.

    Args:
        tasks: Names or paths of tasks.
        strategies: Names, or parts joined by '+'; `all` stands for the named ones.
        per_label: Training examples per label, 32 where neither they nor rows are given and the task has a test file.
        rows: Training rows as frequent as they are ('all' or numbers), instead of `per_label`.
        models: The models, instead of `settings: {model: ...}`.
        pairs: Number of seeds that have a few-shot draw each, instead of all `seeds` with all `data_seeds`.
        seeds: Number of seeds, counted from `settings: {seed: ...}`.
        data_seeds: Number of few-shot draws, counted from `settings: {data_seed: ...}`.
        demo_seeds: Number of draws of demonstrations from the examples, counted from `settings: {demo_seed: ...}`;
            with one, what the examples' draw gives.
        order_seeds: Number of orders of the examples in training, counted from `settings: {order_seed: ...}`; with
            one, what the seed gives.
        controls: Rows that know less than a pre-trained model; majority and chance are always shown.
        settings: Fields of a run. A list makes a row for each value. A parameter of a part goes to the strategies
            that have it; one that none has is an error.
        preferred: As settings, but left out where no strategy has the parameter, or the task not the pattern.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tasks: tuple[str, ...] = Field(default=("agreement",), min_length=1)
    strategies: tuple[str, ...] = Field(default=tuple(NAMED), min_length=1)
    per_label: tuple[Positive, ...] = ()
    rows: tuple[Rows, ...] = ()
    models: tuple[str, ...] = ()
    pairs: Count = 0
    seeds: Positive = 3
    data_seeds: Positive = 1
    demo_seeds: Positive = 1
    order_seeds: Positive = 1
    controls: tuple[ControlName, ...] = ()
    settings: dict[str, Any] = {}
    preferred: dict[str, Any] = {}

    @field_validator("strategies", mode="before")
    @classmethod
    def _all(cls, value: Any) -> Any:
        return tuple(NAMED) if value == "all" else value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.per_label and self.rows:
            raise ValueError("per_label and rows are both given; keep one")
        known = RunConfig.model_fields.keys() - {"task", "strategy", "per_label", "rows"}
        for name in (*self.settings, *self.preferred):
            if name not in known:
                what = "tasks, strategies, per_label and rows are keys of the grid itself"
                raise ValueError(f"unknown setting {name!r}; {what}.{nearest(name, known)}")
        return self

    def table_rows(self) -> Iterator[list[RunRow]]:
        """The rows that take turns over the seeds: those of one task, listed setting and number of examples.

        Raises:
            InputError: No such strategy; a parameter that none of the strategies has.
        """
        composed = [compose(name) for name in self.strategies]
        for name, value in self.settings.items():
            if name in PART_FIELDS and value not in (None, "") and not holders(name, composed):
                names = ", ".join(strategy.name for strategy in composed)
                raise InputError(f"none of the strategies compared ({names}) has the parameter {name!r}; leave it out.")
        preferred = {k: v for k, v in self.preferred.items() if k not in PART_FIELDS or holders(k, composed)}
        listed = {name: value for name, value in self.settings.items() if isinstance(value, list)}
        models: list[dict[str, Any]] = [{"model": model} for model in self.models] or [{}]
        counts = [*({"per_label": n} for n in self.per_label), *({"rows": n} for n in self.rows)] or [{}]
        for task, count, model, *values in product(self.tasks, counts, models, *listed.values()):
            chosen = dict(zip(listed, values, strict=True))
            suffix = "".join(f" {name} {value}" for name, value in chosen.items())
            settings = preferred | self.settings | model | chosen | {"task": task}
            settings |= count or _default_amount(settings)
            if "pattern" in preferred.keys() - self.settings.keys():
                patterns = {} if self.settings.get("data") else load_task(task, allow_outside=True).patterns
                settings = {k: v for k, v in settings.items() if k != "pattern" or v in patterns}
            own = [(s, _own(s, settings, composed)) for s in composed]
            marks = [TRANSDUCTIVE if values.get("calibration") == "batch" else "" for _, values in own]
            rows = [RunRow(s, s.name + suffix + mark, held) for (s, held), mark in zip(own, marks, strict=True)]
            for name in self.controls:
                strategy = compose(CONTROLS[name])
                values_held = _own(strategy, settings, [*composed, strategy])
                rows.append(RunRow(strategy, name.replace("_", " ") + suffix, values_held, name))
            yield rows

    def runs(self) -> Iterator[ComparedRun]:
        """Every run; of those that could only repeat another, one."""
        first = make_config({name: self.settings.get(name) for name in ("seed", "data_seed")})
        first_demo, first_order = (
            int(str(self.settings.get(f"{what}_seed") or 0)) if getattr(self, f"{what}_seeds") > 1 else 0
            for what in ("demo", "order")
        )
        for rows in self.table_rows():
            draws, seeds_of_a_draw = (self.pairs, 1) if self.pairs else (self.data_seeds, self.seeds)
            numbers = (draws, self.demo_seeds, self.order_seeds, seeds_of_a_draw)
            for (data_seed, demo_seed, order_seed, seed), row in product(product(*map(range, numbers)), rows):
                if not row.repeats(seed > 0, data_seed > 0, demo_seed > 0, order_seed > 0):
                    own_seed = data_seed if self.pairs else seed
                    seeds = {"seed": first.seed + own_seed, "data_seed": first.data_seed + data_seed}
                    if self.demo_seeds > 1 and row.shows:
                        seeds["demo_seed"] = first_demo + demo_seed
                    if self.order_seeds > 1 and row.strategy.takes_steps:
                        seeds["order_seed"] = first_order + order_seed
                    yield ComparedRun(make_config({**row.values, **seeds}), row.variant, row.control)


def _default_amount(settings: Mapping[str, Any]) -> dict[str, int | str]:
    """The number of examples that the task takes where none is given."""
    given = {name: settings[name] for name in TaskSettings.model_fields if name in settings}
    config = make_config({name: value for name, value in given.items() if not isinstance(value, list)})
    return task_of(config.model_copy(update={"allow_outside": True})).default_amount


def _own(strategy: Strategy, settings: Mapping[str, Any], strategies: Sequence[Strategy]) -> dict[str, Any]:
    """The settings of one strategy: without the parameters that only others have."""
    own = {k: v for k, v in settings.items() if k not in PART_FIELDS or strategy in holders(k, strategies)}
    return own | {"strategy": strategy.name}


def holders(name: str, strategies: Sequence[Strategy]) -> list[Strategy]:
    """The strategies a parameter goes to: those that have it.

    What is about demonstrations goes to those that show some anyway (icl), so that zero_shot beside it stays
    zero-shot; `shots` goes to all with a pattern where none does. A type of peft goes to `peft`, not to `ia3`.
    """
    having = [strategy for strategy in strategies if name in strategy.parameters]
    showing = [strategy for strategy in having if strategy.parameters.get("shots")]
    if name in ("demonstrations", "demo_order", "demo_seed"):
        return [strategy for strategy in having if strategy.shots]
    if name in ("peft_type", "peft_config"):
        return [strategy for strategy in having if not strategy.parameters["peft_type"]]
    return showing if name == "shots" and showing else having
