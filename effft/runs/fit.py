"""A learner is given its training items and adapted, once or as often as asked for; also once for every fold."""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from effft.config import RunConfig
from effft.data.draw import Draw, fold_numbers, hold_out
from effft.data.examples import UNLABELLED, Example, Label
from effft.distributed.process_group import process_group
from effft.evaluation.evaluate import worst_slice
from effft.evaluation.metric_keys import CROSS_VALIDATED
from effft.evaluation.outcomes import outcomes_of
from effft.evaluation.selection import BestEpoch
from effft.progress import ProgressCallback, silent
from effft.runs.learners import build_learner, calibration_of, shared_backbone
from effft.runs.plan import VALIDATION_FOLDS, Plan, on_part
from effft.strategies.batch import Item
from effft.strategies.learner import Learner
from effft.strategies.parts import Contrastive
from effft.strategies.prompting import PromptEncoder
from effft.strategies.scoring import FrozenFeatures, predict, score_examples
from effft.strategies.weights import Weights, between, mean, set_weights, weights_of
from effft.tracking.tracker import MemoryTracker, Tracker
from effft.training.loop import Step, private_randomness, train
from effft.training.pairs import Pairs
from effft.training.solved_head import solve_head
from effft.training.teacher import teach

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of the way from the start to the trained weights, among which folds choose."""

SEEDS_OF_A_SOUP = 10**6
"""Between the seeds of two trainings of a soup, so that no other run has them."""

StopCallback = Callable[[int, float], bool]
"""Called with (epoch from 1, primary metric on validation) after every epoch; return True to stop training."""


def training_items(plan: Plan, learner: Learner, teacher: PromptEncoder | None) -> list[Item]:
    """What the run trains on: the training examples that are not demonstrations in every prompt."""
    if teacher is not None:
        return teach(learner, teacher, plan.draw.train, plan.unlabelled, teacher.shown)
    items = learner.items(learner.encoder.learned(plan.draw.train))
    return items + (_answered(plan.expert, learner, plan.unlabelled) if plan.expert else [])


def _answered(expert: Plan, learner: Learner, texts: Sequence[Example]) -> list[Item]:
    """Unlabelled texts for the learner, with the scores of a model that is trained here, as the expert's plan says."""
    reader, teacher = build_learner(expert, shared_backbone(expert))
    adapt(expert, reader, training_items(expert, reader, teacher), MemoryTracker(), silent, None)
    scores = score_examples(reader, texts).tolist()
    items = learner.items(texts, labelled=False)
    return [item._replace(teacher=tuple(row)) for item, row in zip(items, scores, strict=True)]


def balanced_weights(labels: Sequence[Label], count: int) -> Tensor:
    """Weights of the labels, (labels,): all / (labels * those of the label), as in scikit-learn.

    Where rows can have several, of no and yes for each label, (labels, 2): all / (2 * those of that answer).
    """
    known = torch.tensor([label for label in labels if label != UNLABELLED])
    frequencies = F.one_hot(known, count).sum(dim=0)
    return frequencies.sum(dim=-1, keepdim=True).double() / (count * frequencies.clamp(min=1))


def without_a_part(learner: Learner, items: Sequence[Item], count: int) -> list[list[Item]]:
    """What each member of an ensemble of `count` learns: the rows without one part, which has its share of each label.

    One member learns all.
    """
    asked = math.prod(learner.task.score_shape) // math.prod(learner.score_shape)  # questions about a row
    rows = [items[place : place + asked] for place in range(0, len(items), asked)]
    by_label = sorted(range(len(rows)), key=lambda row: [item.label for item in rows[row]])
    parts = {row: place % count for place, row in enumerate(by_label)}
    return [
        [item for row, own in enumerate(rows) if parts[row] != part or count == 1 for item in own]
        for part in range(count)
    ]


def adapt(
    plan: Plan,
    learner: Learner,
    items: Sequence[Item],
    tracker: Tracker,
    progress: ProgressCallback,
    should_stop: StopCallback | None,
    features: FrozenFeatures | None = None,
) -> Callable[[float], None]:
    """Train, once or as often as a soup or an ensemble asks for; measure the loss as it is where nothing trains.

    The tracker gets the course of the first training.

    Returns:
        What moves the learner to a share of the way from its start.
    """
    config, strategy = plan.config, plan.strategy
    if not strategy.trains:
        scores, labels = predict(learner, items), torch.tensor([item.label for item in items])
        loss = F.cross_entropy(scores.flatten(0, -2), labels.flatten()).item()
        tracker.metrics({"train/loss": loss, "train/learning_rate": 0.0, "train/gradient_norm": 0.0}, 0)
        return lambda share: None
    parts = without_a_part(learner, items, config.ensemble or 1)
    items = [one for item in items for one in item.of_patterns]
    if config.class_weights == "balanced":
        learner.class_weights = balanced_weights([item.label for item in items], learner.score_shape[-1])
    features = features or partial(plan.session.feature_cache.frozen_features, learner)
    if plan.starts_at_probe:
        solve_head(learner, features([item for item in items if item.label != UNLABELLED]), config.seed)
    if not plan.averages:
        _train(plan, learner, items, tracker, progress, should_stop, features)
        return lambda share: None
    share = _share(plan, tracker, progress)
    start, members = weights_of(learner), list[Weights]()
    for part in parts:
        chosen = [one for item in part for one in item.of_patterns]
        trained: list[Weights] = []
        for number in range(config.soup or 1):
            own = replace(plan, config=_of_a_soup(config, number))
            first = not trained and not members
            set_weights(learner, start)
            where = (tracker, progress, should_stop) if first else (MemoryTracker(), progress, None)
            _train(own, learner, chosen, *where, features)
            trained.append(weights_of(learner))
        go_to = partial(_go_to, plan, learner, features, chosen, start, mean(trained))
        go_to(share)
        members.append(weights_of(learner))
    learner.members = members if len(parts) > 1 else ()
    return go_to


def _go_to(
    plan: Plan,
    learner: Learner,
    features: FrozenFeatures,
    items: Sequence[Item],
    start: Weights,
    end: Weights,
    share: float,
) -> None:
    """Move to a share of the way from `start` to `end`; a solved head is solved there."""
    set_weights(learner, between(start, end, share))
    if plan.strategy.solves_head:
        solve_head(learner, features(items), plan.config.seed, features(_judges(plan, learner)))


def _of_a_soup(config: RunConfig, number: int) -> RunConfig:
    """Settings of one training of a soup: the first has the seeds of the run."""
    seeds = {name: getattr(config, name) for name in ("seed", "order_seed")}
    later = {name: seed + SEEDS_OF_A_SOUP * number for name, seed in seeds.items() if seed is not None}
    return config.model_copy(update=later)


def _share(plan: Plan, tracker: Tracker, progress: ProgressCallback) -> float:
    """How far a run goes from its start: as asked, or what is best out of fold; of equal shares the smallest."""
    config, rows, metric = plan.config, plan.draw.train, plan.resolved.metric
    if config.interpolation != "folds":
        return 1.0 if config.interpolation is None else float(config.interpolation)
    whole = config.model_copy(update={"interpolation": 1.0, "ensemble": None})
    plan, labels = replace(plan, config=whole), torch.tensor([e.label for e in rows]).numpy()
    numbers = fold_numbers(rows, len(plan.task.labels), VALIDATION_FOLDS, config.seed)
    scores = torch.zeros((len(SHARES), len(rows), *plan.task.score_shape))
    for fold in sorted({*numbers}):
        progress("interpolation", fold, VALIDATION_FOLDS)
        part = hold_out(rows, numbers, fold)
        fitted = on_part(plan, Draw(part.train, plan.draw.validation), config.seed)
        places = [place for place, number in enumerate(numbers) if number == fold]
        scores[:, places] = _held_out_scores(fitted, part.validation, rows, SHARES)
    answers = scores.argmax(dim=-1).numpy()
    worst = [worst_slice(plan.task, rows, one, plan.task.train.slices) for one in answers]
    found = [outcomes_of(plan.task, labels, one).values | own for one, own in zip(answers, worst, strict=True)]
    values = [each[metric] for each in found]
    tracker.table("interpolation", {"share": list(SHARES), f"{CROSS_VALIDATED}/{metric}": values})
    return SHARES[values.index(max(values))]


def _judges(plan: Plan, learner: Learner) -> list[Item]:
    """The validation examples, where they choose what is kept."""
    return learner.items(plan.draw.validation) if plan.config.selection == "validation" else []


def _train(
    plan: Plan,
    learner: Learner,
    items: Sequence[Item],
    tracker: Tracker,
    progress: ProgressCallback,
    should_stop: StopCallback | None,
    features: FrozenFeatures,
) -> None:
    """One training."""
    config, selects = plan.config, plan.config.selection == "validation"
    validation = learner.items(plan.draw.validation) if selects or should_stop is not None else []
    worst = partial(worst_slice, plan.task, plan.draw.validation, slices=plan.task.train.slices)
    best = BestEpoch(learner, validation, plan.resolved.metric, config.patience, features, worst)
    with private_randomness(config.seed + (process_group().rank << 32)):  # every process has dropout masks of its own
        for step in _updates(plan, learner, items, validation if selects else [], features):
            plan.session.tokens_read += step.tokens
            values = {"loss": step.loss, "learning_rate": step.learning_rate, "gradient_norm": step.gradient_norm}
            tracker.metrics({f"train/{name}": value for name, value in values.items()}, step.index)
            progress("train", step.index, step.total)
            if step.ends_epoch and (epoch_metrics := best.evaluate_epoch(step.epoch)):
                tracker.metrics({f"train/validation_{key}": value for key, value in epoch_metrics.items()}, step.index)
                if should_stop is not None and should_stop(step.epoch, epoch_metrics[best.metric]):
                    break
            if selects and best.exhausted:
                break
    if selects:
        best.restore()


def _updates(
    plan: Plan, learner: Learner, items: Sequence[Item], validation: Sequence[Item], features: FrozenFeatures
) -> Iterator[Step]:
    """The updates that adapt a learner: steps of the optimizer, a head solved at once, or both.

    validation: where examples choose what is kept, they choose the penalty of a solved head.
    """
    config, strategy, items = plan.config, plan.strategy, features(items)
    if not strategy.takes_steps:
        loss = solve_head(learner, items, config.seed, features(validation))
        yield Step(1, 1, 1, loss, 0.0, 0.0, sum(item.length for item in items), ends_epoch=True, budget=0)
        return
    order = random.Random(f"order {config.seed}" if config.order_seed is None else f"own order {config.order_seed}")
    examples = Pairs(items, order) if isinstance(strategy.loss, Contrastive) else items
    for step in train(learner, examples, config, plan.resolved.learning_rate, order):
        if strategy.solves_head and step.ends_epoch:
            solve_head(learner, items, config.seed, features(validation))
        yield step


def out_of_fold_scores(plan: Plan, progress: ProgressCallback = silent) -> Tensor:
    """Scores of the training examples by models that did not see them, (repeats, examples, *score_shape).

    Every repeat has folds and a seed of its own. Without training and demonstrations no example is ever seen, so one
    pass is the estimate.
    """
    assert plan.folds is not None
    rows, repeats, folds = plan.draw.train, plan.folds.repeats, plan.folds.folds
    if not plan.strategy.trains and not plan.demonstrations:
        repeats, folds = 1, 1
    scores = torch.zeros((repeats, len(rows), *plan.task.score_shape))
    for repeat in range(repeats):
        numbers = fold_numbers(rows, len(plan.task.labels), folds, plan.config.data_seed * 1000 + repeat)
        for fold in range(folds):
            progress("cross-validation", repeat * folds + fold, repeats * folds)
            part = hold_out(rows, numbers, fold)
            draw = Draw(part.train if folds > 1 else rows, plan.draw.validation)
            fitted = on_part(plan, draw, plan.config.seed + repeat)
            places = [place for place, number in enumerate(numbers) if number == fold]
            scores[repeat, places] = _held_out_scores(fitted, part.validation, rows)[0]
    return scores.double()


def _held_out_scores(
    plan: Plan, held: Sequence[Example], rows: Sequence[Example], shares: Sequence[float | None] = (None,)
) -> Tensor:
    """Fit the plan, and score what it does not hold, (shares, held, *score_shape).

    The frozen part reads all rows once for all folds. shares: of the way from its start; None stays where the fit ends.
    """
    learner, teacher = build_learner(plan, shared_backbone(plan))
    cached = plan.session.feature_cache.frozen_features
    own = [one for item in learner.items(rows) for one in item.of_patterns] if learner.has_frozen_part else []
    known = {i.prompt: i.state for i in cached(learner, own)}

    def features(items: Sequence[Item]) -> list[Item]:
        if all(item.prompt in known for item in items):
            return [item._replace(state=known[item.prompt]) for item in items]
        return cached(learner, items)

    if plan.strategy.trains:
        items = training_items(plan, learner, teacher)
        go_to = adapt(plan, learner, items, MemoryTracker(), silent, None, features)
    found = []
    for share in shares:
        if share is not None:
            go_to(share)
        calibration = calibration_of(plan, learner)
        scores = score_examples(learner, held, frozen_features=features)
        found.append(calibration(scores) if calibration else scores)
    return torch.stack(found)
