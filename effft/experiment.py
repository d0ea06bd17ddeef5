"""One run: the place where all rooms meet. `prepare` checks everything, `execute` works."""

import copy
import os
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F

from effft.config import KNOB_FIELDS, PART_FIELDS, RunConfig
from effft.data.draw import Draw, draw, draw_demonstrations, draw_unlabelled, fold_of
from effft.data.example import Example, ExampleSet, digest
from effft.data.leaks import Checked, check, leaks
from effft.errors import InputError
from effft.evaluation.evaluate import evaluate
from effft.evaluation.meter import Meter, Work, held_by, resources
from effft.evaluation.metrics import check_metric
from effft.evaluation.selection import BestEpoch
from effft.models.backbone import Backbone, check_name, load, resolve_device
from effft.models.flops import counted
from effft.models.precision import choose_precision
from effft.strategies.batch import Item
from effft.strategies.learner import Learner, predict
from effft.strategies.parts import DistillKL, Pattern, Verbalizer
from effft.strategies.reading import Reader, check_pattern_name
from effft.strategies.strategy import Strategy, compose
from effft.tasks.read import missing_ood, read_split
from effft.tasks.task import Task, load_task
from effft.tracking.tracker import Tracker
from effft.training.activations import Activations
from effft.training.loop import Step, private_randomness, steps_in, train
from effft.training.teacher import teach

WIDE = 256
"""Hidden size from which a second CPU thread pays."""

Fold = tuple[int, int, int]
"""Which fold of the shots validates, how many folds there are, and the seed that cuts them."""

KnobValues = tuple[tuple[str, float], ...]

Watch = Callable[[str, int, int], None]
"""Called with (stage, done, total), often; whoever shows progress decides how."""

Pace = Callable[[int, float], bool]
"""Told the primary metric on validation after every epoch (from 1); says whether the training may end there."""


def _silent(_stage: str, _done: int, _total: int) -> None:
    return None


class Session:
    """What the runs of one process share: backbones and splits are read once.

    keep: hand out copies of a backbone and keep the original for the next run (False: a single run, no copy).
    """

    def __init__(self, keep: bool = True) -> None:
        self.keep = keep
        self._backbones: dict[tuple[str, str, bool, str], Backbone] = {}
        self._splits: dict[tuple[str, KnobValues, str, str], ExampleSet] = {}
        self._tasks: dict[tuple[str, KnobValues, bool], Task] = {}
        self._checked: dict[tuple[str, KnobValues, str, str], Checked] = {}
        self.activations = Activations()

    def task(self, config: RunConfig) -> Task:
        """The task record, its knobs turned."""
        key = (config.task, knobs_of(config), config.allow_outside)
        if key not in self._tasks:
            self._tasks[key] = load_task(config.task, config.allow_outside).turned(dict(key[1]))
        return self._tasks[key]

    def split(self, config: RunConfig, name: str) -> ExampleSet:
        """The examples of one split of the task."""
        key = (config.task, knobs_of(config), name, config.data_dir)
        if key not in self._splits:
            self._splits[key] = read_split(self.task(config), name, config.data_dir)
        return self._splits[key]

    def checked(self, config: RunConfig, name: str) -> Checked:
        """The split, compared with train."""
        key = (config.task, knobs_of(config), name, config.data_dir)
        if key not in self._checked:
            self._checked[key] = check(self.split(config, name), self.split(config, "train"))
        return self._checked[key]

    def original(self, config: RunConfig, lm_head: bool) -> Backbone:
        """The pristine backbone, to look at."""
        key = (config.model, config.revision, lm_head, config.device)
        if key not in self._backbones:
            self._backbones[key] = load(config.model, config.revision, lm_head, config.device)
        return self._backbones[key]

    def backbone(self, config: RunConfig, lm_head: bool) -> Backbone:
        """A backbone to change: a copy, or the original where nothing is kept."""
        backbone = self.original(config, lm_head)
        if self.keep:
            return replace(backbone, model=copy.deepcopy(backbone.model))
        self._backbones.clear()
        return backbone


@dataclass(frozen=True)
class Plan:
    """A run that passed every check: nothing is trained or logged yet.

    leaks: evaluated split -> examples of it that also stand in train.
    """

    config: RunConfig
    strategy: Strategy
    task: Task
    session: Session
    draw: Draw
    demonstrations: tuple[Example, ...]
    unlabelled: tuple[Example, ...]
    evaluated: dict[str, ExampleSet]
    resolved: dict[str, object]
    notes: tuple[str, ...]
    leaks: Mapping[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """A readable run name: 'lora r8 · 32/label · seed 3·1' (seed · data_seed)."""
        c = self.config
        words = " ".join([self.strategy.name, *(p.short for p in self.strategy.parts if p.short)])
        return f"{words} · {c.per_label}/label · seed {c.seed}·{c.data_seed}"

    @property
    def steps(self) -> int:
        """Optimizer updates, 0 where nothing trains: the step that final metrics are logged at."""
        return int(str(self.resolved["steps"]))

    @property
    def experiment(self) -> str:
        """The MLflow experiment of the task's runs."""
        return f"effft/{self.task.name}"

    @property
    def tags(self) -> dict[str, str]:
        """What a person groups runs by."""
        c = self.config
        axes = {axis: type(getattr(self.strategy, axis)).__name__ for axis in ("input", "head", "trainable", "loss")}
        own = {"strategy": self.strategy.name, "task": self.task.name, "backbone": c.model}
        numbers = {"per_label": str(c.per_label), "seed": str(c.seed), "data_seed": str(c.data_seed)}
        return own | numbers | axes


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


def knobs_of(config: RunConfig) -> KnobValues:
    """The knobs of a built-in task that are turned, with their values."""
    return tuple((name, getattr(config, name)) for name in KNOB_FIELDS if getattr(config, name) is not None)


def strategy_of(config: RunConfig) -> Strategy:
    """The composed strategy with the parameters given; one the strategy does not have is an InputError."""
    given = {name: getattr(config, name) for name in PART_FIELDS if getattr(config, name) is not None}
    return compose(config.strategy).with_parameters(given)


def prepare(config: RunConfig, session: Session) -> Plan:
    """Everything that can be checked before training, in the order of cost.

    Raises:
        InputError: strategy, parameter, task, metric, model, data, label words, lengths.
    """
    plan = prepare_validation(config, session)
    task = plan.task
    missing = missing_ood(task, config.data_dir)
    where = f"no file for it under {config.data_dir}" if config.data_dir else "it is on no hub; give --data-dir"
    notes = [f"OOD set {name} is left out: {where}." for name in missing]
    names = [n for n in task.split_names if n != "train" and n.removeprefix("ood/") not in missing]
    checked = {n: session.checked(config, n) for n in names}
    evaluated = {n: c.chosen(config.drop_leaks).part(config.evaluation_limit) for n, c in checked.items()}
    notes += [note for c in checked.values() for note in c.note(config.drop_leaks)]
    notes += leaks(plan.draw.train, evaluated)
    found = {n: c.count for n, c in checked.items()}
    return replace(plan, evaluated=plan.evaluated | evaluated, leaks=found, notes=(*plan.notes, *notes))


def prepare_validation(config: RunConfig, session: Session, fold: Fold | None = None) -> Plan:
    """A run that is measured on validation alone, as a search does: no split but `train` is opened.

    fold: validate on a fold of the shots instead of on the validation draw.

    Raises:
        InputError: as `prepare`; fewer examples per label than folds.
    """
    strategy = strategy_of(config)
    task = session.task(config)
    check_metric(config.metric or task.metric)
    check_name(config.model)
    resolve_device(config.device)
    if isinstance(strategy.input, Pattern):
        check_pattern_name(task, strategy.input.pattern)
    pool = session.split(config, "train")
    drawn = draw(pool, task.labels, config.per_label, config.data_seed)
    taken = (*drawn.train, *drawn.validation)
    if fold is not None:
        drawn = fold_of(drawn, len(task.labels), *fold)
    strategy, shots, notes = _shots(strategy, config, len(drawn.train))
    demos = draw_demonstrations(drawn.train, len(task.labels), shots, config.data_seed) if shots else ()
    extra: tuple[Example, ...] = ()
    if isinstance(strategy.loss, DistillKL):
        extra = draw_unlabelled(pool, taken, strategy.loss.unlabelled, config.data_seed)
    evaluated = {"validation": ExampleSet("validation", drawn.validation, pool.origin)}
    notes += leaks(drawn.train, evaluated)
    backbone = session.original(config, isinstance(strategy.head, Verbalizer))
    strategy.trainable.check(backbone)
    _readers(strategy, task, backbone, config, demos)
    resolved = _resolve(config, strategy, task, backbone, drawn)
    return Plan(config, strategy, task, session, drawn, demos, extra, evaluated, resolved, tuple(notes))


def _shots(strategy: Strategy, config: RunConfig, labelled: int) -> tuple[Strategy, int, list[str]]:
    """The strategy with demonstrations capped by the labelled examples, their number, and a note when capped."""
    name = "teacher_shots" if isinstance(strategy.loss, DistillKL) else "shots"
    shots = strategy.parameters.get(name, 0)
    assert isinstance(shots, int)
    if shots <= labelled:
        return strategy, shots, []
    if getattr(config, name) is not None:
        raise InputError(
            f"{name}={shots}: only {labelled} labelled examples are drawn (per_label={config.per_label}); "
            f"lower --{name.replace('_', '-')} or raise --per-label."
        )
    note = f"{name} is {labelled}, not {shots}: there are no more labelled examples."
    return strategy.with_parameters({name: labelled}), labelled, [note]


def _readers(
    strategy: Strategy, task: Task, backbone: Backbone, config: RunConfig, demos: Sequence[Example]
) -> tuple[Reader, Reader | None]:
    """The strategy's reader and, for distillation, the teacher's (which has the demonstrations)."""
    if isinstance(strategy.loss, DistillKL):
        student = Reader(strategy, task, backbone, config.max_length)
        return student, Reader(strategy, task, backbone, config.max_length, demos)
    return Reader(strategy, task, backbone, config.max_length, demos), None


def _resolve(config: RunConfig, strategy: Strategy, task: Task, backbone: Backbone, drawn: Draw) -> dict[str, object]:
    """Every value as used, defaults filled in."""
    given = config.model_dump()
    values = {name: value for name, value in given.items() if name not in PART_FIELDS + KNOB_FIELDS}
    values |= strategy.parameters | task.knobs
    values |= {"metric": config.metric or task.metric, "device": str(backbone.device), "width": backbone.width}
    if isinstance(strategy.input, Pattern):
        values["pattern"] = strategy.input.pattern or next(iter(task.patterns), "")
    values["learning_rate"] = config.learning_rate or strategy.default_learning_rate(backbone.width)
    values["steps"] = steps_in(config, len(drawn.train)) if strategy.trains else 0
    values["precision"] = choose_precision(config.precision, backbone, threads_of(config, backbone.width))
    values["model_commit"] = backbone.revision
    values["train_digest"], values["validation_digest"] = digest(drawn.train), digest(drawn.validation)
    return values


def run(config: RunConfig, tracker: Tracker, session: Session | None = None, watch: Watch = _silent) -> Result:
    """Prepare and execute one run."""
    return execute(prepare(config, session or Session(keep=False)), tracker, watch)


def execute(plan: Plan, tracker: Tracker, watch: Watch = _silent, pace: Pace | None = None) -> Result:
    """Adapt, evaluate, and tell the tracker everything; the same plan gives the same numbers, bit for bit on a CPU.

    pace: scores the validation draw after every epoch, whatever `selection` is, and may end the training.

    Raises:
        RunError: the loss is not finite.
    """
    config = plan.config
    torch.set_num_threads(threads_of(config, int(str(plan.resolved["width"]))))
    _describe(plan, tracker)
    notes = list(plan.notes)
    verbalizes = isinstance(plan.strategy.head, Verbalizer)
    held = 0 if plan.session.keep else held_by(plan.session.original(config, verbalizes))
    with Meter(resolve_device(config.device), held) as meter:
        with meter.stage("load"):
            backbone = plan.session.backbone(config, verbalizes)
            reader, teacher = _readers(plan.strategy, plan.task, backbone, config, plan.demonstrations)
            generator = torch.Generator().manual_seed(config.seed)
            precision = str(plan.resolved["precision"])
            learner = Learner(plan.strategy, plan.task, backbone, reader, generator, precision)
        with meter.stage("train"), counted(learner.backbone.model, learner.head) as trained:
            items = _items(plan, learner, teacher)
            notes += _cut_note("train", sum(i.prompt.cut for i in items))
            tokens = _adapt(plan, learner, items, tracker, watch, pace)
        recall = partial(plan.session.activations.recall, learner) if plan.session.keep else learner.recall
        metrics: dict[str, float] = {}
        tables, scored = {}, 0
        for name, split in plan.evaluated.items():
            slices = plan.task.split(name).slices if name != "validation" else ()
            with meter.stage("evaluation"), counted(learner.backbone.model, learner.head) as flops:
                seen = partial(watch, f"evaluate {name}")
                result = evaluate(learner, split.examples, slices, config.bootstrap, seen, recall)
            scored += flops.total
            found = {f"{name}/{key}": value for key, value in result.metrics.items()}
            found |= {f"{name}/leaks": float(plan.leaks[name])} if name in plan.leaks else {}
            metrics |= found
            tables[name] = result.table
            notes += _cut_note(name, result.cut)
            tracker.metrics(found, plan.steps)
            tracker.table(f"predictions/{name.replace('/', '_')}", result.table)
            tracker.flush()
    primary = str(plan.resolved["metric"])
    ood = tuple(name.removeprefix("ood/") for name in plan.evaluated if name.startswith("ood/"))
    last = {f"ood/{o}/gap": metrics[f"in_domain/{primary}"] - metrics[f"ood/{o}/{primary}"] for o in ood}
    threads = threads_of(config, int(str(plan.resolved["width"])))
    last |= resources(learner, meter, Work(tokens, trained.total, scored, threads))
    tracker.metrics(last, plan.steps)
    if config.log_model:
        _keep_model(plan, learner, tracker, metrics | last)
    if notes:
        tracker.text("notes.txt", "\n".join(notes) + "\n")
        tracker.tags({"notes": "\n".join(notes)})
    tracker.flush()
    return Result(config, plan.name, metrics | last, plan.resolved, primary, ood, tuple(notes), tables)


def _keep_model(plan: Plan, learner: Learner, tracker: Tracker, metrics: Mapping[str, float]) -> None:
    """Save the learner and hand it to the tracker."""
    from effft.serving.save import Story, save_model

    precision, metric = str(plan.resolved["precision"]), str(plan.resolved["metric"])
    shown = () if isinstance(plan.strategy.loss, DistillKL) else plan.demonstrations
    with tempfile.TemporaryDirectory(prefix="effft-saved-") as name:
        folder = Path(name) / "saved"
        save_model(folder, learner, Story(plan.name, plan.config, metric, precision, shown, metrics))
        tracker.model(folder, metrics)


def threads_of(config: RunConfig, width: int) -> int:
    """CPU threads: as asked, else one for a narrow model (two were 20 times slower there), all for a wide one."""
    if config.threads:
        return config.threads
    return 1 if width < WIDE else os.cpu_count() or 1


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


def _items(plan: Plan, learner: Learner, teacher: Reader | None) -> list[Item]:
    """What there is to learn from. A demonstration in every prompt is not also trained on."""
    shown = {e.index for e in plan.demonstrations}
    if teacher is not None:
        return teach(learner, teacher, plan.draw.train, plan.unlabelled, shown)
    rest = [e for e in plan.draw.train if e.index not in shown]
    return learner.items(rest or plan.draw.train)


def _cut_note(name: str, cut: int) -> list[str]:
    return [f"{cut} texts of {name} were longer than max_length and lost their end."] if cut else []


def _adapt(
    plan: Plan, learner: Learner, items: Sequence[Item], tracker: Tracker, watch: Watch, pace: Pace | None
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
    with private_randomness(config.seed):
        for step in train(learner, recall(items), config, rate, random.Random(f"order {config.seed}")):
            tokens += step.tokens
            tracker.metrics(_step_metrics(step), step.index)
            watch("train", step.index, step.total)
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
