"""A plan becomes a fitted learner: built on a backbone, given its training items, adapted; also once for every fold."""

import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from effft.data.draw import Draw, fold_numbers, hold_out
from effft.data.examples import UNLABELLED, Example, Label
from effft.distributed.process_group import process_group
from effft.evaluation.evaluate import worst_slice
from effft.evaluation.selection import BestEpoch
from effft.models.backbone import Backbone
from effft.progress import ProgressCallback, silent
from effft.runs.plan import Plan, on_part, prompt_encoders
from effft.strategies.batch import Item
from effft.strategies.calibration import Calibration, calibrate
from effft.strategies.learner import Learner
from effft.strategies.parts import Contrastive, Verbalizer
from effft.strategies.prompting import PromptEncoder
from effft.strategies.scoring import FrozenFeatures, predict, predict_apart, score_examples
from effft.tracking.tracker import MemoryTracker, Tracker
from effft.training.loop import Step, private_randomness, train
from effft.training.pairs import Pairs
from effft.training.solved_head import solve_head
from effft.training.teacher import teach

StopCallback = Callable[[int, float], bool]
"""Called with (epoch from 1, primary metric on validation) after every epoch; return True to stop training."""


def lm_head_of(plan: Plan) -> bool:
    """Whether the backbone needs its LM head."""
    return isinstance(plan.strategy.head, Verbalizer)


def shared_backbone(plan: Plan) -> Backbone | None:
    """A frozen backbone that the run shares all weights with; None where it changes some, or no other run follows."""
    if not (plan.session.keep and plan.strategy.trainable.shares_weights):
        return None
    return plan.session.frozen_backbone(plan.config, lm_head_of(plan), plan.resolved.precision)


def build_learner(plan: Plan, frozen: Backbone | None) -> tuple[Learner, PromptEncoder | None]:
    """The learner before training, and the encoder of its teacher's prompts where it has a teacher."""
    config = plan.config
    backbone = plan.session.working_backbone(config, lm_head_of(plan), frozen)
    encoder, teacher = prompt_encoders(plan.strategy, plan.task, backbone, config, plan.demonstrations)
    generator = torch.Generator().manual_seed(config.seed)
    learner = Learner(plan.strategy, plan.task, backbone, encoder, generator, plan.resolved.precision)
    return learner, teacher


def calibration_of(plan: Plan, learner: Learner, progress: ProgressCallback = silent) -> Calibration | None:
    """What calibrates the scores of a learner that is ready to answer; None for nothing."""
    if not isinstance(plan.strategy.head, Verbalizer):
        return None

    def score(examples: Sequence[Example], leave_out: bool) -> Tensor:
        return predict_apart(learner, learner.items(examples, leave_out=leave_out), progress, "calibrate")

    return calibrate(plan.strategy.head.calibration, plan.draw.train, plan.demo_seed, score)


def training_items(plan: Plan, learner: Learner, teacher: PromptEncoder | None) -> list[Item]:
    """What the run trains on: the training examples that are not demonstrations in every prompt."""
    chosen = (teacher or learner.encoder).nearest
    demonstrated = {e.index for e in plan.demonstrations} if chosen is None else set()
    if teacher is not None:
        return teach(learner, teacher, plan.draw.train, plan.unlabelled, demonstrated)
    rest = [e for e in plan.draw.train if e.index not in demonstrated]
    return learner.items(rest or plan.draw.train)


def balanced_weights(labels: Sequence[Label], count: int) -> Tensor:
    """Weights of the labels, (labels,): all / (labels * those of the label), as in scikit-learn.

    Where rows can have several, of no and yes for each label, (labels, 2): all / (2 * those of that answer).
    """
    known = torch.tensor([label for label in labels if label != UNLABELLED])
    frequencies = F.one_hot(known, count).sum(dim=0)
    return frequencies.sum(dim=-1, keepdim=True).double() / (count * frequencies.clamp(min=1))


def adapt(
    plan: Plan,
    learner: Learner,
    items: Sequence[Item],
    tracker: Tracker,
    progress: ProgressCallback,
    should_stop: StopCallback | None,
    features: FrozenFeatures | None = None,
) -> int:
    """Train, or measure the loss as it is where nothing trains; returns the number of tokens read."""
    config = plan.config
    if not plan.strategy.trains:
        scores, labels = predict(learner, items), torch.tensor([item.label for item in items])
        loss = F.cross_entropy(scores.flatten(0, -2), labels.flatten()).item()
        tracker.metrics({"train/loss": loss, "train/learning_rate": 0.0, "train/gradient_norm": 0.0}, 0)
        return 0
    items = [one for item in items for one in item.of_patterns]
    if config.class_weights == "balanced":
        learner.class_weights = balanced_weights([item.label for item in items], learner.score_shape[-1])
    selects = config.selection == "validation"
    validation = learner.items(plan.draw.validation) if selects or should_stop is not None else []
    features = features or partial(plan.session.feature_cache.frozen_features, learner)
    worst = partial(worst_slice, plan.task, plan.draw.validation, slices=plan.task.train.slices)
    best = BestEpoch(learner, validation, plan.resolved.metric, config.patience, features, worst)
    tokens = 0
    with private_randomness(config.seed + (process_group().rank << 32)):  # every process has dropout masks of its own
        for step in _updates(plan, learner, items, validation if selects else [], features):
            tokens += step.tokens
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
    return tokens


def _updates(
    plan: Plan, learner: Learner, items: Sequence[Item], validation: Sequence[Item], features: FrozenFeatures
) -> Iterator[Step]:
    """The updates that adapt a learner: steps of the optimizer, a head solved at once, or both.

    validation: where examples choose what is kept, they choose the penalty of a solved head.
    """
    config, strategy, items = plan.config, plan.strategy, features(items)
    if plan.starts_at_probe:
        solve_head(learner, items, config.seed)
    if not strategy.takes_steps:
        loss = solve_head(learner, items, config.seed, features(validation))
        yield Step(1, 1, 1, loss, 0.0, 0.0, sum(item.length for item in items), ends_epoch=True, budget=0)
        return
    order = random.Random(f"order {config.seed}")
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
            scores[repeat, places] = _held_out_scores(fitted, part.validation, rows)
    return scores.double()


def _held_out_scores(plan: Plan, held: Sequence[Example], rows: Sequence[Example]) -> Tensor:
    """Fit the plan, and score what it does not hold. The frozen part reads all rows once for all folds."""
    learner, teacher = build_learner(plan, shared_backbone(plan))
    cached = plan.session.feature_cache.frozen_features
    own = [one for item in learner.items(rows) for one in item.of_patterns] if learner.has_frozen_part else []
    known = {i.prompt: i.state for i in cached(learner, own)}

    def features(items: Sequence[Item]) -> list[Item]:
        if all(item.prompt in known for item in items):
            return [item._replace(state=known[item.prompt]) for item in items]
        return cached(learner, items)

    if plan.strategy.trains:
        adapt(plan, learner, training_items(plan, learner, teacher), MemoryTracker(), silent, None, features)
    calibration = calibration_of(plan, learner)
    scores = score_examples(learner, held, frozen_features=features)
    return calibration(scores) if calibration else scores
