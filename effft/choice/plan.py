"""A choice before it measures: everything that can be checked is checked here, and every model is loaded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from effft.choice.candidates import STAND_IN, Candidate, Limits, candidates
from effft.choice.ledger import Arm
from effft.choice.posterior import Unit
from effft.config import PART_FIELDS, Amount, make_config
from effft.errors import InputError
from effft.evaluation.cross_validation import folds_of
from effft.runs.plan import check_saved, prepare, prepare_validation, with_amount
from effft.runs.session import Session
from effft.search.settings import FOLDS, HELD_OUT_SEED_OFFSET, Settings, StudyPlan
from effft.search.spaces import Space
from effft.strategies.parts import ClassifierHead
from effft.strategies.search_space import Choice, Range
from effft.strategies.strategy import compose
from effft.strategies.trainable_parts import Everything
from effft.tasks.loading import content_digest

SEEDS = 3, 5  # Seeds at most that the race goes over, and fresh ones.
SAVING = 5.0  # Seconds that saving, logging and registering take beside the final training.
SOUP = 3
"""Trainings on all rows whose weights the final model is the mean of.

With 64 rows that gains where every weight trains, and loses with LoRA, whose factors are averaged apart
(docs/results.md#soups-ensembles-the-way-from-the-start).
"""


@dataclass(frozen=True)
class ChoicePlan:
    """A choice that passed every check. rows: labelled ones; queries: texts that the final run will be evaluated on.

    unlabelled: the sets of them that have no labels; seeds: that the race goes over, and fresh ones, at most. average:
    whether the model is to be the mean of the finalists.
    """

    study: StudyPlan
    candidates: Sequence[Candidate]
    limits: Limits
    rows: int
    queries: int
    unlabelled: tuple[str, ...]
    seeds: tuple[int, int] = SEEDS
    average: bool = False

    @property
    def folds(self) -> int:
        """Parts that the rows are cut into."""
        return self.study.settings.folds

    @property
    def race_units(self) -> list[Unit]:
        """What is measured in the race, in this order."""
        return self._units(self.study.config.seed, self.seeds[0])

    @property
    def fresh_units(self) -> list[Unit]:
        """What finalists are measured on beside these."""
        return self._units(self.study.config.seed + HELD_OUT_SEED_OFFSET, self.seeds[1])

    def _units(self, first: int, seeds: int) -> list[Unit]:
        return [(first + seed, fold) for seed in range(seeds) for fold in range(self.folds)]

    def soup(self, arm: Arm, held: float) -> int:
        """Trainings whose weights the final model is to be the mean of: 1, or `SOUP` where that is worth it and fits.

        It is for a classifier with which every weight trains, on more than one batch: on one all trainings are alike.

        Args:
            arm: The chosen one; its measured memory is for one training, beside which each copy of the weights stands.
            held: Bytes that the process holds beside a training.
        """
        config, strategy = arm.candidate.config, compose(arm.candidate.config.strategy)
        worth = isinstance(strategy.trainable, Everything) and isinstance(strategy.head, ClassifierHead)
        asked = config.soup is not None or config.interpolation is not None
        copies = 4 * (1 + SOUP) * arm.resource("trainable_parameters")
        fits = 1e6 * arm.resource("peak_memory_mb") + copies + held <= self.limits.memory
        return SOUP if worth and fits and not asked and self.rows > config.batch_size else 1

    def final_seconds(self, arm: Arm, estimated: bool, soup: int = 1) -> float:
        """What the final run of an arm will take.

        estimated: with an out-of-fold estimate; soup: trainings that are averaged, in every fold of the estimate too.
        """
        trainings = soup * (1 + self.folds * estimated)
        return SAVING + 1.2 * (trainings * arm.cost + self.queries * arm.latency / 1000)

    def final_way(self, arm: Arm, held: float, spent: float) -> tuple[bool, int]:
        """Whether its final run has an out-of-fold estimate, and the trainings of its soup, after `spent` seconds."""
        soup = self.soup(arm, held)
        ways = ((False, soup),) if self.average else ((True, soup), (False, soup), (True, 1))
        return next((way for way in ways if spent + self.final_seconds(arm, *way) <= self.limits.seconds), (False, 1))

    def reserve(self, arms: Sequence[Arm], held: float, known: bool = True) -> float:
        """Seconds to keep for the final runs.

        For soup and estimate within a third of the minutes, or for either; for all arms where they are to be averaged.

        Args:
            arms: Of which one, or the mean, will be used.
            held: As for `soup`.
            known: Whether every fold was measured, before which there is time for a single training alone.
        """
        each = list[float]()
        for arm in arms:
            soup = self.soup(arm, held) if known else 1
            both, *either = (self.final_seconds(arm, *way) for way in ((True, soup), (True, 1), (False, soup)))
            kept = both if both <= self.limits.seconds / 3 else max(either)
            each.append(kept if known and not self.average else self.final_seconds(arm, False, soup))
        return sum(each) + self.mean_seconds(arms) if self.average else max(each, default=0.0)

    def mean_seconds(self, arms: Sequence[Arm]) -> float:
        """What saving and evaluating the mean of these will take."""
        return SAVING * len(arms) + 1.2 * self.queries * sum(arm.latency for arm in arms) / 1000


def plan_choice(
    values: Mapping[str, Any], models: Sequence[str], limits: Limits, name: str, session: Session, average: bool = False
) -> ChoicePlan:
    """Everything that can be checked before something trains; every model is loaded.

    Args:
        values: RunConfig fields, as given.
        models: Names of the models.
        limits: What there is.
        name: Of the study in the storage; made of task, amount, models and seeds where it is ''.
        session: Keeps models and data.
        average: As in a `ChoicePlan`.

    Raises:
        InputError: what is wrong, in a sentence.
    """
    found = candidates(values, models, session)
    own = {key: value for key, value in values.items() if key not in PART_FIELDS}
    for model in models:
        config = make_config({**own, "strategy": STAND_IN, "model": model})
        check_saved(config)
        config = with_amount(config, session.task(config))
        if config.per_label == 1:
            raise InputError("per_label=1: a choice needs at least 2 examples per label (flag --per-label).")
        folds = min(FOLDS, config.per_label or FOLDS)
        first = prepare_validation(config, session, (0, folds, config.seed))
    if average and first.task.multi_label:
        raise InputError("average: where a row can have several labels nothing is averaged; leave --average out.")
    examples = first.draw.train + first.evaluated["validation"].examples
    folds_of(f"{folds}x1", first.task, examples)
    evaluated = prepare(config, session).evaluated
    unlabelled = tuple(name for name, split in evaluated.items() if not split.labelled)
    short = "+".join(model.rstrip("/").rpartition("/")[2] for model in models)
    place = f"{first.task.name}/choose/{Amount.of(vars(config)).name}/{short}/{config.seed}-{config.data_seed}"
    digests = [session.model_digest(config.model_copy(update={"model": model})) for model in models]
    content = {"data.train": content_digest(first.task, config.data_dir, ["train"]), "weights": " ".join(digests)}
    content["ranking"] = "smoothed by rows"  # a study that ranked otherwise has not kept what this one compares
    space: Space = {
        "strategy": Choice(tuple(one.name for one in found)), "tuned": Choice(("no", "yes")),
        "seed": Range(0, 2**32, whole=True), "fold": Range(0, folds - 1, whole=True),
    }  # fmt: skip
    parts = {key: str(value) for key, value in values.items() if key in PART_FIELDS}  # which `config` may not have
    study = StudyPlan(
        name or place, config, space, Settings(folds=folds), first.resolved.metric, {}, first.task.name, config, (), (),
        content, parts,
    )  # fmt: skip
    queries = sum(map(len, evaluated.values()))
    return ChoicePlan(study, found, limits, len(examples), queries, unlabelled, average=average)
