"""One run: the place where all rooms meet. `effft.runs.plan` checks everything, `execute` works."""

import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F

from effft.config import RunConfig
from effft.data.examples import ExampleSet, digest
from effft.distributed.process_group import process_group
from effft.evaluation.evaluate import evaluate
from effft.evaluation.metric_keys import collect, ood_sets
from effft.evaluation.selection import BestEpoch
from effft.models.backbone import resolve_device
from effft.profiling.flops import counted
from effft.profiling.resources import ResourceMeter, Work, held_by, resources
from effft.progress import ProgressCallback, silent
from effft.runs.plan import Plan, prepare, readers, threads_of
from effft.runs.session import Session
from effft.strategies.batch import Item
from effft.strategies.learner import Learner
from effft.strategies.parts import DistillKL, Verbalizer
from effft.strategies.prompting import PromptEncoder
from effft.strategies.scoring import predict
from effft.tracking.tracker import Tracker
from effft.training.loop import Step, private_randomness, train
from effft.training.teacher import teach

StopCallback = Callable[[int, float], bool]
"""Told the primary metric on validation after every epoch (from 1); says whether the training may end there."""


@dataclass(frozen=True)
class Result:
    """What a run measured. metrics: flat keys as logged; resolved: values after defaults; notes: for the user."""

    config: RunConfig
    name: str
    metrics: dict[str, float]
    resolved: dict[str, object]
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
    plan: Plan, tracker: Tracker, progress: ProgressCallback = silent, pace: StopCallback | None = None
) -> Result:
    """Adapt, evaluate, and tell the tracker everything; the same plan gives the same numbers, bit for bit on a CPU.

    pace: scores the validation draw after every epoch, whatever `selection` is, and may end the training.

    Raises:
        RunError: the loss is not finite.
    """
    config = plan.config
    torch.set_num_threads(threads_of(config, int(str(plan.resolved["width"]))))
    _describe(plan, tracker)
    process_group().must_agree("settings and examples", plan.sameness)
    notes = list(plan.notes)
    verbalizes = isinstance(plan.strategy.head, Verbalizer)
    precision = str(plan.resolved["precision"])
    shares = plan.session.keep and plan.strategy.trainable.keeps_weights
    frozen = plan.session.frozen(config, verbalizes, precision) if shares else None
    held = 0 if plan.session.keep and not frozen else held_by(frozen or plan.session.original(config, verbalizes))
    with ResourceMeter(resolve_device(config.device), held) as meter:
        with meter.stage("load"):
            backbone = plan.session.backbone(config, verbalizes, frozen)
            reader, teacher = readers(plan.strategy, plan.task, backbone, config, plan.demonstrations)
            generator = torch.Generator().manual_seed(config.seed)
            learner = Learner(plan.strategy, plan.task, backbone, reader, generator, precision)
        with meter.stage("train"), counted(learner.backbone.model, learner.head) as trained:
            items = training_items(plan, learner, teacher)
            notes += _cut_note("train", sum(i.prompt.cut for i in items))
            tokens = _adapt(plan, learner, items, tracker, progress, pace)
        recall = partial(plan.session.activations.recall, learner) if plan.session.keep else learner.recall
        metrics: dict[str, float] = {}
        tables, scored = {}, 0
        for name, split in plan.evaluated.items():
            slices = plan.task.split(name).slices if name != "validation" else ()
            with meter.stage("evaluation"), counted(learner.backbone.model, learner.head) as flops:
                seen = partial(progress, f"evaluate {name}")
                result = evaluate(learner, name, split.examples, slices, config.bootstrap, seen, recall)
            scored += flops.total
            leaks = {f"{name}/leaks": float(plan.leaks[name])} if name in plan.leaks else {}
            scores = collect(result.metrics, leaks)
            metrics = collect(metrics, scores)
            tables[name] = result.table
            notes += _cut_note(name, result.cut)
            tracker.metrics(scores, plan.steps)
            tracker.table(f"predictions/{name.replace('/', '_')}", result.table)
            tracker.flush()
    primary = str(plan.resolved["metric"])
    ood = ood_sets(metrics, primary)
    last = {f"ood/{o}/gap": metrics[f"in_domain/{primary}"] - metrics[f"ood/{o}/{primary}"] for o in ood}
    threads = threads_of(config, int(str(plan.resolved["width"])))
    work = Work(tokens, int(process_group().total(trained.total)), int(process_group().total(scored)), threads)
    last |= resources(learner, meter, work)
    tracker.metrics(last, plan.steps)
    if config.log_model and process_group().rank == 0:
        _keep_model(plan, learner, tracker, metrics | last)
    if notes:
        tracker.text("notes.txt", "\n".join(notes) + "\n")
        tracker.tags({"notes": "\n".join(notes)})
    tracker.flush()
    return Result(config, plan.name, metrics | last, plan.resolved, primary, ood, tuple(notes), tables)


def _keep_model(plan: Plan, learner: Learner, tracker: Tracker, metrics: Mapping[str, float]) -> None:
    """Save the learner and hand it to the tracker."""
    from effft.serving.save import RunSummary, save_model

    precision, metric = str(plan.resolved["precision"]), str(plan.resolved["metric"])
    shown = () if isinstance(plan.strategy.loss, DistillKL) else plan.demonstrations
    with tempfile.TemporaryDirectory(prefix="effft-saved-") as name:
        folder = Path(name) / "saved"
        save_model(folder, learner, RunSummary(plan.name, plan.config, metric, precision, shown, metrics))
        tracker.model(folder, metrics)


def _describe(plan: Plan, tracker: Tracker) -> None:
    """Parameters, tags, data sets and the draw."""
    tracker.tags(plan.tags)
    tracker.params({name: value for name, value in plan.config.model_dump().items() if value is not None})
    tracker.params({f"resolved.{name}": value for name, value in plan.resolved.items()})
    train = ExampleSet("train", plan.draw.train, plan.evaluated["validation"].origin)
    for split in (train, *plan.evaluated.values()):
        tracker.dataset(plan.task.name, split.digest, split.name, split.origin, len(split))
    rows = {"train": plan.draw.train, "validation": plan.draw.validation}
    rows |= {"demonstrations": plan.demonstrations, "unlabelled": plan.unlabelled}
    lines = [f"{name} {digest(ex)}: {' '.join(str(e.index) for e in ex)}" for name, ex in rows.items()]
    tracker.text("draw.txt", "\n".join(lines) + "\n")
    tracker.flush()


def training_items(plan: Plan, learner: Learner, teacher: PromptEncoder | None) -> list[Item]:
    """What there is to learn from. A demonstration in every prompt is not also trained on."""
    shown = {e.index for e in plan.demonstrations}
    if teacher is not None:
        return teach(learner, teacher, plan.draw.train, plan.unlabelled, shown)
    rest = [e for e in plan.draw.train if e.index not in shown]
    return learner.items(rest or plan.draw.train)


def _cut_note(name: str, cut: int) -> list[str]:
    return [f"{cut} texts of {name} were longer than max_length and lost their end."] if cut else []


def _adapt(
    plan: Plan,
    learner: Learner,
    items: Sequence[Item],
    tracker: Tracker,
    progress: ProgressCallback,
    pace: StopCallback | None,
) -> int:
    """Train (or, where nothing trains, take the loss as it is); return the tokens read."""
    config, rate = plan.config, plan.resolved["learning_rate"]
    if not plan.strategy.trains:
        scores = predict(learner, items)
        loss = F.cross_entropy(scores, torch.tensor([i.label for i in items])).item()
        tracker.metrics({"train/loss": loss, "train/learning_rate": 0.0, "train/gradient_norm": 0.0}, 0)
        return 0
    assert isinstance(rate, float)
    selects = config.selection == "validation"
    seen = learner.items(plan.draw.validation) if selects or pace is not None else []
    recall = partial(plan.session.activations.recall, learner)
    best = BestEpoch(learner, seen, str(plan.resolved["metric"]), config.patience, recall)
    tokens = 0
    with private_randomness(config.seed + (process_group().rank << 32)):  # every process has dropout masks of its own
        for step in train(learner, recall(items), config, rate, random.Random(f"order {config.seed}")):
            tokens += step.tokens
            tracker.metrics(_step_metrics(step), step.index)
            progress("train", step.index, step.total)
            if step.ends_epoch and (found := best.look(step.epoch)):
                tracker.metrics({f"validation/{key}": value for key, value in found.items()}, step.index)
                if pace is not None and pace(step.epoch, found[best.metric]):
                    break
            if selects and best.spent:
                break
    if selects:
        best.restore()
    return tokens


def _step_metrics(step: Step) -> dict[str, float]:
    return {
        "train/loss": step.loss,
        "train/learning_rate": step.learning_rate,
        "train/gradient_norm": step.gradient_norm,
    }
