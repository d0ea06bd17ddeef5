"""One run: `effft.runs.plan.prepare` checks everything, `execute` trains, evaluates and records."""

import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from effft.config import RunConfig
from effft.data.examples import Example, ExampleSet, digest
from effft.distributed.process_group import process_group
from effft.evaluation.evaluate import evaluate
from effft.evaluation.metric_keys import collect, headlines, ood_sets, to_table
from effft.evaluation.remarks import cut_note
from effft.evaluation.selection import BestEpoch
from effft.models.description import resolve_device
from effft.profiling.flops import counted
from effft.profiling.resources import ResourceMeter, Workload, held_by, resources
from effft.progress import ProgressCallback, silent
from effft.runs.plan import Plan, prepare, prompt_encoders
from effft.runs.session import Session
from effft.strategies.batch import Item
from effft.strategies.calibration import Calibration, calibrate
from effft.strategies.learner import Learner
from effft.strategies.parts import DistillKL, Verbalizer
from effft.strategies.prompting import PromptEncoder
from effft.strategies.scoring import predict, predict_apart
from effft.tracking.tracker import METRICS_TABLE, METRICS_TAG, Tracker
from effft.training.loop import private_randomness, train
from effft.training.teacher import teach

StopCallback = Callable[[int, float], bool]
"""Called with (epoch from 1, primary metric on validation) after every epoch; return True to stop training."""


@dataclass(frozen=True)
class Result:
    """What a run measured. primary: the main metric. tables: split -> the columns of predictions."""

    config: RunConfig
    name: str
    metrics: dict[str, float]
    primary: str
    ood: tuple[str, ...]
    notes: tuple[str, ...]
    tables: dict[str, dict[str, list[object]]] = field(default_factory=dict, repr=False)


def run(
    config: RunConfig, tracker: Tracker, session: Session | None = None, progress: ProgressCallback = silent
) -> Result:
    """Prepare and execute one run."""
    return execute(prepare(config, session or Session(keep=False)), tracker, progress)


def execute(
    plan: Plan,
    tracker: Tracker,
    progress: ProgressCallback = silent,
    should_stop: StopCallback | None = None,
    keep: Path | None = None,
) -> Result:
    """Adapt, evaluate, and record everything; the same plan gives the same numbers, bit for bit on a CPU.

    Args:
        plan: The checked run.
        tracker: Records the run; the caller closes it.
        progress: Called with the stage and the steps done.
        should_stop: Scores the validation draw after every epoch, whatever `selection` is, and may end the training.
        keep: A new folder for the adapted model.

    Raises:
        RunError: The loss is not finite.
    """
    config, resolved, session = plan.config, plan.resolved, plan.session
    torch.set_num_threads(resolved.threads)
    _describe(plan, tracker)
    process_group().must_agree("settings and examples", plan.fingerprint)
    notes = list(plan.notes)
    lm_head = isinstance(plan.strategy.head, Verbalizer)
    shares = session.keep and plan.strategy.trainable.keeps_weights
    frozen = session.frozen_backbone(config, lm_head, resolved.precision) if shares else None
    own = not session.keep or frozen is not None
    held = held_by(frozen or session.pristine_backbone(config, lm_head)) if own else 0
    with ResourceMeter(resolve_device(config.device), held) as meter:
        with meter.stage("load"):
            backbone = session.working_backbone(config, lm_head, frozen)
            encoder, teacher = prompt_encoders(plan.strategy, plan.task, backbone, config, plan.demonstrations)
            generator = torch.Generator().manual_seed(config.seed)
            learner = Learner(plan.strategy, plan.task, backbone, encoder, generator, resolved.precision)
        with meter.stage("train"), counted(learner.backbone.model, learner.head) as trained:
            items = training_items(plan, learner, teacher)
            notes += cut_note("train", [item.prompt for item in items])
            tokens = _adapt(plan, learner, items, tracker, progress, should_stop)
            learner.calibration = _calibration(plan, learner, progress)
        features = partial(session.feature_cache.frozen_features, learner) if session.keep else learner.frozen_features
        metrics: dict[str, float] = {}
        tables, evaluation_flops = {}, 0
        calibrations: dict[str, Calibration | None] = {}
        for name, split in plan.evaluated.items():
            slices = plan.task.split(name).slices if name != "validation" else ()
            with meter.stage("evaluation"), counted(learner.backbone.model, learner.head) as flops:
                result = evaluate(
                    learner, name, split.examples, resolved.metric, slices, config.bootstrap, progress, features
                )
            evaluation_flops += flops.total
            leaks = {f"{name}/leaks": float(plan.leaks[name])} if name in plan.leaks else {}
            split_metrics = collect(result.metrics, leaks)
            metrics = collect(metrics, split_metrics)
            tables[name] = result.table
            notes += result.notes
            calibrations[name] = result.calibration
            tracker.metrics(headlines(split_metrics, resolved.metric))
            tracker.table(f"predictions/{name.replace('/', '_')}", result.table)
            tracker.flush()
    primary = resolved.metric
    ood = ood_sets(metrics, primary)
    closing = {f"ood/{o}/gap": metrics[f"in_domain/{primary}"] - metrics[f"ood/{o}/{primary}"] for o in ood}
    total = process_group().total
    work = Workload(tokens, int(total(trained.total)), int(total(evaluation_flops)), resolved.threads)
    closing |= resources(learner, meter, work)
    queries = sum(map(len, plan.evaluated.values()))
    closing["resources/queries_per_second"] = queries / meter.seconds["evaluation"]
    tracker.metrics(headlines(closing, primary))
    tracker.table(METRICS_TABLE, to_table(metrics | closing))
    tracker.tags({METRICS_TAG: f"{METRICS_TABLE}.json"})
    if (config.log_model or keep) and process_group().rank == 0:
        learner.calibration = calibrations.get("in_domain", calibrations["validation"])
        _save_model(plan, learner, tracker, metrics | closing, keep)
    if notes:
        tracker.text("notes.txt", "\n".join(notes) + "\n")
        tracker.tags({"notes": "\n".join(notes)})
    tracker.flush()
    return Result(config, plan.name, metrics | closing, primary, ood, tuple(notes), tables)


def _save_model(
    plan: Plan, learner: Learner, tracker: Tracker, metrics: Mapping[str, float], keep: Path | None
) -> None:
    """Write the model to `keep`, and log it where that is asked for."""
    from effft.serving.save import save_model

    resolved, shown = plan.resolved, () if isinstance(plan.strategy.loss, DistillKL) else plan.demonstrations
    with tempfile.TemporaryDirectory(prefix="effft-saved-") as name:
        folder = keep or Path(name) / "saved"
        save_model(folder, learner, plan.name, plan.config, resolved.metric, resolved.precision, shown, metrics)
        if plan.config.log_model:
            tracker.model(folder, metrics)


def _describe(plan: Plan, tracker: Tracker) -> None:
    """Record parameters, tags, data sets and the few-shot examples."""
    tracker.tags(plan.tags)
    tracker.params(plan.resolved.settings)
    train = ExampleSet("train", plan.few_shot.train, plan.evaluated["validation"].origin)
    for split in (train, *plan.evaluated.values()):
        tracker.dataset(plan.task.name, split.digest, split.name, split.origin, len(split))
    rows = {"train": plan.few_shot.train, "validation": plan.few_shot.validation}
    rows |= {"demonstrations": plan.demonstrations, "unlabelled": plan.unlabelled}
    lines = [f"{name} {digest(ex)}: {' '.join(str(e.index) for e in ex)}" for name, ex in rows.items()]
    tracker.text("draw.txt", "\n".join(lines) + "\n")
    tracker.flush()


def _calibration(plan: Plan, learner: Learner, progress: ProgressCallback) -> Calibration | None:
    if not isinstance(plan.strategy.head, Verbalizer):
        return None

    def score(examples: Sequence[Example], leave_out: bool) -> Tensor:
        return predict_apart(learner, learner.items(examples, leave_out=leave_out), progress, "calibrate")

    return calibrate(plan.strategy.head.calibration, plan.few_shot.train, plan.demo_seed, score)


def training_items(plan: Plan, learner: Learner, teacher: PromptEncoder | None) -> list[Item]:
    """What the run trains on: the training examples that are not demonstrations in every prompt."""
    chosen = (teacher or learner.encoder).nearest
    demonstrated = {e.index for e in plan.demonstrations} if chosen is None else set()
    if teacher is not None:
        return teach(learner, teacher, plan.few_shot.train, plan.unlabelled, demonstrated)
    rest = [e for e in plan.few_shot.train if e.index not in demonstrated]
    return learner.items(rest or plan.few_shot.train)


def _adapt(
    plan: Plan,
    learner: Learner,
    items: Sequence[Item],
    tracker: Tracker,
    progress: ProgressCallback,
    should_stop: StopCallback | None,
) -> int:
    """Train, or measure the loss as it is where nothing trains; returns the number of tokens read."""
    config, rate = plan.config, plan.resolved.learning_rate
    if not plan.strategy.trains:
        scores = predict(learner, items)
        loss = F.cross_entropy(scores, torch.tensor([i.label for i in items])).item()
        tracker.metrics({"train/loss": loss, "train/learning_rate": 0.0, "train/gradient_norm": 0.0}, 0)
        return 0
    selects = config.selection == "validation"
    validation = learner.items(plan.few_shot.validation) if selects or should_stop is not None else []
    features = partial(plan.session.feature_cache.frozen_features, learner)
    best = BestEpoch(learner, validation, plan.resolved.metric, config.patience, features)
    tokens = 0
    with private_randomness(config.seed + (process_group().rank << 32)):  # every process has dropout masks of its own
        for step in train(learner, features(items), config, rate, random.Random(f"order {config.seed}")):
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
