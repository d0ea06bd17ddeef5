"""One run: `effft.runs.plan.prepare` checks everything, `execute` trains, evaluates and records."""

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from effft.config import RunConfig
from effft.data.examples import ExampleSet, digest
from effft.distributed.process_group import process_group
from effft.evaluation.cross_validation import evaluate_out_of_fold
from effft.evaluation.evaluate import evaluate
from effft.evaluation.forgetting import Forgetting
from effft.evaluation.metric_keys import CROSS_VALIDATED, collect, gaps, headlines, ood_sets, to_table
from effft.evaluation.remarks import cut_note, cut_share
from effft.models.description import resolve_device
from effft.models.flops import counted
from effft.profiling.resources import ResourceMeter, Workload, held_by, resources
from effft.progress import ProgressCallback, silent
from effft.runs.fit import StopCallback, adapt, out_of_fold_scores, training_items
from effft.runs.learners import build_learner, calibration_of, shared_backbone
from effft.runs.plan import Plan, prepare
from effft.runs.session import Session
from effft.strategies.calibration import Calibration, temperature, without_prior
from effft.strategies.learner import Learner
from effft.strategies.parts import DistillKL
from effft.strategies.risk import risk_curve
from effft.tracking.tracker import METRICS_TABLE, METRICS_TAG, Tracker


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
    afresh: bool = True,
) -> Result:
    """Adapt, evaluate, and record everything; the same plan gives the same numbers, bit for bit on a CPU.

    Args:
        plan: The checked run.
        tracker: Records the run; the caller closes it.
        progress: Called with the stage and the steps done.
        should_stop: Scores the validation draw after every epoch, whatever `selection` is, and may end the training.
        keep: A new folder for the adapted model.
        afresh: As for a `ResourceMeter`.

    Raises:
        RunError: The loss is not finite.
    """
    config, resolved, session = plan.config, plan.resolved, plan.session
    torch.set_num_threads(resolved.threads)
    _describe(plan, tracker)
    process_group().must_agree("settings and examples", plan.fingerprint)
    notes = list(plan.notes)
    metrics: dict[str, float] = {}
    tables, cache = {}, session.feature_cache
    flops_of = {"train": 0, "evaluation": 0}
    cross_validation_seconds = {}
    scale, curve, prior = 1.0, None, Calibration(1.0, (0.0,) * plan.task.score_shape[-1])
    if plan.folds is not None:
        session.keep, started = True, time.perf_counter()  # every fold begins with the model as it was loaded
        scores, labels = out_of_fold_scores(plan, progress), torch.tensor([e.label for e in plan.draw.train])
        if plan.strategy.calibrates_batches:
            prior = without_prior(scores.flatten(0, 1))
            scores = torch.stack([without_prior(repeat)(repeat) for repeat in scores])
        scale = temperature(scores.flatten(0, 1), torch.cat([labels] * len(scores))).scale
        scores = (scale * scores).log_softmax(dim=-1)
        curve = risk_curve(scores, labels)
        estimate = evaluate_out_of_fold(plan.task, plan.draw.train, scores.numpy(), config.bootstrap)
        cross_validation_seconds = {"resources/cross_validation_seconds": time.perf_counter() - started}
        metrics, tables[CROSS_VALIDATED] = (
            estimate.metrics | {f"{CROSS_VALIDATED}/temperature": 1 / scale},
            estimate.table,
        )
        notes += estimate.notes
        _record(tracker, CROSS_VALIDATED, metrics, resolved.metric, estimate.table)
    session.keep |= config.interpolation == "folds" or plan.expert is not None
    frozen = shared_backbone(plan)
    own = not session.keep or frozen is not None
    held = held_by(frozen or session.loaded_backbone(config, plan.strategy.needs_lm_head)) if own else 0
    cache.start_run()
    with ResourceMeter(resolve_device(config.device), held, afresh) as meter:

        @contextmanager
        def stage(name: str) -> Iterator[None]:
            """Measure what runs inside; states that were computed before count as if they had been here."""
            cache.start_stage()
            with meter.stage(name), counted(learner.backbone.model, learner.head) as flops:
                yield
            meter.seconds[name] += cache.saved().seconds
            flops_of[name] += flops.total + cache.saved().flops

        with meter.stage("load"):
            learner, teacher = build_learner(plan, frozen)
        forgetting = Forgetting(learner) if config.forgetting else None
        with stage("train"):
            before, items = session.tokens_read, training_items(plan, learner, teacher)
            prompts = [item.prompt for item in items]
            notes += cut_note("train", prompts, learner.encoder)
            adapt(plan, learner, items, tracker, progress, should_stop)
            tokens = session.tokens_read - before
            learner.calibration, learner.risk_curve = calibration_of(plan, learner, progress), curve
            if curve is not None:
                learner.calibration = (learner.calibration or prior).scaled(scale)
        features = partial(cache.frozen_features, learner) if session.keep else learner.frozen_features
        calibrations: dict[str, Calibration | None] = {}
        patterns: list[Mapping[str, object]] = []
        for name, split in plan.evaluated.items():
            slices = plan.task.split("train" if name == "validation" else name).slices
            with stage("evaluation"):
                result = evaluate(
                    learner, name, split.examples, resolved.metric, slices, config.bootstrap, progress, features
                )
            leaks = {f"{name}/leaks": float(plan.leaks[name])} if name in plan.leaks else {}
            split_metrics = collect(result.metrics, leaks)
            metrics = collect(metrics, split_metrics)
            tables[name] = result.table
            notes += result.notes
            patterns += result.patterns
            calibrations[name] = result.calibration
            _record(tracker, name, split_metrics, resolved.metric, result.table)
    primary = resolved.metric
    ood = ood_sets(metrics, primary)
    closing = (
        gaps(metrics, primary)
        | {
            "train/cut_share": cut_share(prompts),
            "resources/labels_used": float(plan.labels_used),
        }
        | cross_validation_seconds
    )
    if forgetting:
        closing |= forgetting.metrics()
        notes += forgetting.notes
    total = process_group().total
    meter.peak_bytes = cache.peak_of_run(meter.peak_bytes)
    train_flops, evaluation_flops = (int(total(flops_of[name])) for name in ("train", "evaluation"))
    work = Workload(tokens, train_flops, evaluation_flops, resolved.threads)
    closing |= resources(learner, meter, work)
    queries = sum(map(len, plan.evaluated.values()))
    closing["resources/queries_per_second"] = queries / meter.seconds.get("evaluation", 1.0)
    tracker.metrics(headlines(closing, primary))
    tracker.table(METRICS_TABLE, to_table(metrics | closing))
    tracker.tags({METRICS_TAG: f"{METRICS_TABLE}.json"})
    if patterns:
        tracker.table("patterns", {name: [row[name] for row in patterns] for name in patterns[0]})
    if (config.log_model or keep) and process_group().rank == 0:
        for name in ("validation", "in_domain"):
            learner.calibration = calibrations.get(name, learner.calibration)
        _save_model(plan, learner, tracker, metrics | closing, keep)
    if notes:
        tracker.text("notes.txt", "\n".join(notes) + "\n")
        tracker.tags({"notes": "\n".join(notes)})
    tracker.flush()
    return Result(config, plan.name, metrics | closing, primary, ood, tuple(notes), tables)


def _record(
    tracker: Tracker, split: str, metrics: Mapping[str, float], primary: str, table: dict[str, list[object]]
) -> None:
    """Log what one split gave."""
    tracker.metrics(headlines(metrics, primary))
    tracker.table(f"predictions/{split.replace('/', '_')}", table)
    tracker.flush()


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
    origin = plan.session.split(plan.config, "train").origin
    described = [ExampleSet("train", plan.draw.train, origin), *plan.evaluated.values()]
    described += [ExampleSet(CROSS_VALIDATED, plan.draw.train, origin)] if plan.folds else []
    for split in described:
        tracker.dataset(plan.task.name, split.digest, split.name, split.origin, len(split))
    rows = {"train": plan.draw.train, "validation": plan.draw.validation}
    rows |= {"demonstrations": plan.demonstrations, "unlabelled": plan.unlabelled}
    lines = [f"{name} {digest(ex)}: {' '.join(str(e.index) for e in ex)}" for name, ex in rows.items()]
    tracker.text("draw.txt", "\n".join(lines) + "\n")
    tracker.flush()
