"""A run before it works: everything that can be checked is checked here, in the order of cost."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from effft.config import DATA_FIELDS, DIFFICULTY_FIELDS, PART_FIELDS, TRAINING_FIELDS, Amount, RunConfig
from effft.data.draw import Draw, draw_per_label, draw_rows, draw_unlabelled, fold_numbers, hold_out, split_fold
from effft.data.examples import Example, ExampleSet
from effft.data.leakage import draw_leakage
from effft.distributed.process_group import process_group
from effft.errors import InputError, UnavailableError
from effft.evaluation.cross_validation import Folds, folds_of
from effft.models.backbone import Backbone
from effft.models.description import resolve_device
from effft.models.device_map import check_device_map
from effft.models.files import check_name
from effft.models.quantization import check_quantize
from effft.runs.demonstrations import capped_shots, choose_demonstrations
from effft.runs.resolved import ResolvedSettings, metric_of, resolve
from effft.runs.session import Session
from effft.strategies.parts import ALL_PATTERNS, DistillKL, Pattern, Pet
from effft.strategies.prompting import MANY_UNKNOWN, PromptEncoder, check_pattern_name
from effft.strategies.strategy import Strategy, compose
from effft.strategies.trainable_parts import Everything
from effft.tasks.loading import missing_ood
from effft.tasks.task import Task
from effft.tracking.tracker import GIVEN_TAG

Fold = tuple[int, int, int]  # Which fold of the shots validates, how many folds there are, and the seed that cuts them.


VALIDATION_FOLDS = 5
"""One of so many parts of the rows drawn validates, where `selection=validation` or a search asks for it."""

READ_AHEAD = 200  # Training texts that are read before training, to see whether the model knows their words.


PROBE_BELOW = 32
"""Examples per label from which on full fine-tuning does better from random weights of the head (docs/results.md)."""


@dataclass(frozen=True)
class Plan:
    """A run that passed every check: nothing is trained or logged yet.

    config is what was asked for, resolved what is used. unlabelled: further texts that a distilled student learns from.
    evaluated: every split that is evaluated, by name. leaks: how many of a split's examples are in `train` too.
    folds: how the training examples are cross-validated; None where they are not. starts_at_probe: whether a classifier
    that trains with the model starts at a solved probe of it, also in the folds, which have fewer examples. expert: how
    the model trains that answers the unlabelled texts (PET).
    """

    config: RunConfig
    strategy: Strategy
    task: Task
    session: Session
    draw: Draw
    demonstrations: tuple[Example, ...]
    unlabelled: tuple[Example, ...]
    evaluated: dict[str, ExampleSet]
    resolved: ResolvedSettings
    notes: tuple[str, ...]
    leaks: Mapping[str, int] = field(default_factory=dict)
    folds: Folds | None = None
    starts_at_probe: bool = False
    expert: "Plan | None" = None

    @property
    def amount(self) -> Amount:
        """How many examples are drawn."""
        return Amount.of(vars(self.config))

    @property
    def averages(self) -> bool:
        """Whether more is kept of its trainings than where one ends."""
        config = self.config
        return self.strategy.takes_steps and bool(config.soup or config.ensemble or config.interpolation is not None)

    @property
    def trainings(self) -> int:
        """Those of one fit: of a soup, for each member of an ensemble and each fold that chooses how far to go."""
        config = self.config
        folds = VALIDATION_FOLDS if config.interpolation == "folds" else 0
        return (config.soup or 1) * ((config.ensemble or 1) + folds)

    @property
    def labels_used(self) -> int:
        """Labels that shaped the model: of what it trained on, of what chose its epoch, of its demonstrations."""
        fitted = self.strategy.trains or self.strategy.parameters.get("calibration") == "fitted"
        trained = len(self.draw.train) if fitted else len({row.index for row in self.demonstrations})
        return trained + len(self.draw.validation) * (self.config.selection == "validation" and self.strategy.trains)

    @property
    def name(self) -> str:
        """A readable run name: 'lora r8 · 32/label · seed 3·1' (seed · data_seed)."""
        c = self.config
        names = self.strategy.name.split("+")
        words = " ".join([self.strategy.name, *(p.short for p in self.strategy.parts if p.short not in ("", *names))])
        drawn = f"{self.amount}/label" if c.per_label else str(self.amount)
        return f"{words} · {drawn} · seed {c.seed}·{c.data_seed}"

    @property
    def demo_seed(self) -> int:
        """What draws and orders the demonstrations."""
        return self.config.data_seed if self.config.demo_seed is None else self.config.demo_seed

    @property
    def fingerprint(self) -> str:
        """What must be equal in all processes of a run; paths and devices may differ."""
        local = ("data_dir", "device", "threads", "model", "task", *DATA_FIELDS)
        shared = {name: value for name, value in self.resolved.settings.items() if name not in local}
        return f"{self.name} {shared} {[split.digest for split in self.evaluated.values()]}"

    @property
    def experiment(self) -> str:
        """The MLflow experiment of the task's runs."""
        return f"effft/{self.task.name}"

    @property
    def tags(self) -> dict[str, str]:
        """What a person groups runs by."""
        c = self.config
        names = {"strategy": self.strategy.name, "task": self.task.name, "backbone": c.model}
        numbers = {"per_label": str(c.per_label)} if c.per_label else {"rows": str(c.rows)}
        numbers |= {"seed": str(c.seed), "data_seed": str(c.data_seed)}
        parts = {axis: type(getattr(self.strategy, axis)).__name__ for axis in ("input", "head", "trainable", "loss")}
        digests = {"task_digest": self.session.task_digest(c), "model_digest": self.session.model_digest(c)}
        given = {name: value for name in (*PART_FIELDS, *DIFFICULTY_FIELDS) if (value := getattr(c, name)) is not None}
        return names | numbers | parts | digests | {GIVEN_TAG: json.dumps(given)}


def prepare(config: RunConfig, session: Session) -> Plan:
    """Everything that can be checked before training, in the order of cost.

    Raises:
        InputError: strategy, parameter, task, metric, model, data, label words, lengths.
    """
    plan = _prepare(config, session)
    config, task = plan.config, plan.task
    missing = missing_ood(task, config.data_dir)
    where = f"no file for it under {config.data_dir}" if config.data_dir else "it is on no hub; give --data-dir"
    notes = [f"OOD set {name} is left out: {where}." for name in missing]
    names = [n for n in task.split_names if n not in ("train", "unlabelled") and n.removeprefix("ood/") not in missing]
    checks = {}
    for name in names:
        try:
            checks[name] = session.leakage(config, name)
        except UnavailableError as error:
            if not name.startswith("ood/"):
                raise
            notes.append(f"OOD set {name.removeprefix('ood/')} is left out: {error}")
    evaluated = {n: c.chosen(config.drop_leaks).part(config.evaluation_limit) for n, c in checks.items()}
    notes += [note for c in checks.values() for note in c.note(config.drop_leaks)]
    notes += draw_leakage(plan.draw.train, evaluated)
    leaks = {n: c.count for n, c in checks.items()}
    folds = folds_of(config.cross_validation, task, plan.draw.train)
    return replace(plan, evaluated=plan.evaluated | evaluated, leaks=leaks, notes=(*plan.notes, *notes), folds=folds)


def draws_validation(config: RunConfig, task: Task) -> bool:
    """Whether validation examples are drawn: where they choose the epoch, and beside examples per label by custom."""
    return config.selection == "validation" or bool(config.per_label and task.in_domain)


def with_amount(config: RunConfig, task: Task) -> RunConfig:
    """The configuration with its number of examples, the task's own where none is given."""
    return config if config.per_label or config.rows else config.model_copy(update=task.default_amount)


def prepare_validation(config: RunConfig, session: Session, fold: Fold | None = None) -> Plan:
    """A run that is measured on validation alone, as a search does: no split but `train` is opened.

    fold: validate on a fold of the shots instead of on the validation draw, which then chooses the epoch alone.

    Raises:
        InputError: as `prepare`; fewer examples per label than folds.
    """
    return _prepare(config, session, fold, validates=True)


def _draw(config: RunConfig, task: Task, pool: ExampleSet, validates: bool) -> Draw:
    """The examples that train and those that validate."""
    if config.per_label:
        return draw_per_label(pool, task.labels, config.per_label, config.data_seed, validates)
    rows = draw_rows(pool, task.labels, str(config.rows), config.data_seed)
    return _cut(config, task, rows, (0, VALIDATION_FOLDS, config.data_seed)) if validates else Draw(rows, ())


def _cut(config: RunConfig, task: Task, rows: Sequence[Example], fold: Fold) -> Draw:
    """Rows without a fold of them, and the fold."""
    number, folds, seed = fold
    if len(rows) < folds:
        more = "add rows" if config.rows == "all" else "raise --rows"
        raise InputError(f"rows={config.rows}: {len(rows)} rows cannot be cut into {folds} parts; {more}.")
    return hold_out(rows, fold_numbers(rows, len(task.labels), folds, seed), number)


def _prepare(config: RunConfig, session: Session, fold: Fold | None = None, validates: bool = False) -> Plan:
    parameters = {name: getattr(config, name) for name in PART_FIELDS if getattr(config, name) is not None}
    strategy = compose(config.strategy).with_parameters(parameters)
    task = session.task(config)
    strategy.check_task(task)
    config = with_amount(config, task)
    if not session.has_backbone(config.model):
        check_name(config.model)
    check_device_map(config.device, strategy.name, strategy.trains)
    frozen = strategy.trainable.shares_weights
    check_quantize(config.quantize, strategy.name, frozen, resolve_device(config.device))
    if isinstance(strategy.input, Pattern):
        check_pattern_name(task, strategy.input.pattern)
    if config.log_model:
        check_saved(config)
    pool = session.split(config, "train")
    validates = draws_validation(config, task) or (validates and not fold)
    draw = drawn = _draw(config, task, pool, validates)
    labelled, held = drawn.train + drawn.validation, drawn.validation
    if fold:
        cut = split_fold(drawn, len(task.labels), *fold) if config.per_label else _cut(config, task, drawn.train, fold)
        held = cut.validation  # where examples choose the epoch, others score it
        draw = Draw(cut.train, drawn.validation) if config.selection == "validation" else cut
    strategy, notes = capped_shots(strategy, config, len(draw.train))
    unlabelled: tuple[Example, ...] = ()
    if isinstance(strategy.loss, DistillKL | Pet):
        texts = session.split(config, "unlabelled") if task.unlabelled else pool
        unlabelled = draw_unlabelled(texts, labelled, strategy.loss.unlabelled, config.data_seed)
    expert = None
    if isinstance(strategy.loss, Pet):
        expert = _prepare(_expert(config, strategy, task), session, fold, validates)
    if expert and not unlabelled:
        asked = strategy.parameters["unlabelled"]
        more = "give the task an `unlabelled` file, or --data rows without a label, lower "
        more += "--per-label," if config.per_label else "--rows,"
        raise InputError(
            f"strategy {strategy.name!r}: there is no text without a label; {more if asked else 'raise --unlabelled,'} "
            "or leave '+pet' out."
        )
    evaluated = {"validation": ExampleSet("validation", held, pool.origin)} if validates or fold else {}
    notes += draw_leakage(draw.train, evaluated)
    backbone = session.loaded_backbone(config, strategy.needs_lm_head)
    strategy.trainable.check(backbone)
    if config.log_model and process_group().sharded:
        raise InputError(
            "log_model=true: a model in pieces (FSDP2) cannot be saved whole; leave it out, or train data parallel "
            "(deploy/accelerate/ddp.yaml)."
        )
    strategy, demos, shown = choose_demonstrations(strategy, task, backbone, config, draw.train)
    notes += shown
    encoder, teacher = prompt_encoders(strategy, task, backbone, config, demos)
    if teacher and not unlabelled and teacher.shown >= {row.index for row in draw.train}:
        notes.append(
            "the teacher answers no text, as all are its demonstrations, so the student learns from the labels alone; "
            "show it fewer (--teacher-shots, --demonstrations balanced), or raise --unlabelled where there are more."
        )
    notes += [encoder.chat.remark] if encoder.chat and encoder.chat.remark else []
    reader = PromptEncoder(strategy, task, backbone, config.max_length) if encoder.nearest else encoder
    unknown = reader.unknown_share(reader.encode([e.texts for e in reader.questions(draw.train[:READ_AHEAD])]))
    if unknown > MANY_UNKNOWN:
        notes.append(
            f"{config.model} does not know {100 * unknown:.0f} % of the tokens of the training texts, so it can hardly "
            "tell them apart; take a --model that reads them."
        )
    resolved = resolve(config, strategy, encoder, backbone, draw, pool, unlabelled)
    notes += metric_of(config, task, pool)[1] + _idle(config, strategy)
    per_label = config.per_label or len(labelled) / len(task.labels)
    few = isinstance(strategy.trainable, Everything) and per_label < PROBE_BELOW
    start = strategy.parameters.get("head_start")
    return Plan(
        config, strategy, task, session, draw, demos, unlabelled, evaluated, resolved, (*task.notes, *notes),
        starts_at_probe=start == "probe" or (start == "auto" and few), expert=expert,
    )  # fmt: skip


def check_saved(config: RunConfig) -> None:
    """Check that the model of a run can be saved; of a search and a choice the last run saves it, whatever they say.

    Raises:
        InputError: It is an ensemble, or quantized.
    """
    if config.quantize != "none":
        raise InputError(
            f"quantize={config.quantize}: a saved model needs the backbone in full precision; leave --log-model out "
            "where it was given, else --quantize: a search, a choice and effft.adapt always save their model."
        )
    if config.ensemble:
        raise InputError(
            f"ensemble={config.ensemble}: several models are not saved as one; leave it out, or take --soup, whose "
            "weights are averaged."
        )


def _expert(config: RunConfig, strategy: Strategy, task: Task) -> RunConfig:
    """The model that answers unlabelled texts for a classifier: the same parameters train, on all patterns."""
    words = [word for word in strategy.name.split("+") if word not in ("pet", "vanilla", "classifier", "pattern")]
    reader = compose("+".join([*words, "pbft"]))
    own: dict[str, str | None] = {name: None for name in PART_FIELDS if name not in reader.parameters}
    own |= {"pattern": ALL_PATTERNS} if len(task.patterns) > 1 else {}
    return config.model_copy(update={"strategy": reader.name, **own})


def _idle(config: RunConfig, strategy: Strategy) -> list[str]:
    """A note of training settings that were given and mean nothing: with a solved head alone, or without validation."""
    meant = {"class_weights", "selection"} if strategy.solves_head and not strategy.takes_steps else TRAINING_FIELDS
    idle = [name for name in TRAINING_FIELDS if name in config.model_fields_set and name not in meant]
    if idle:
        return [f"{', '.join(idle)}: without meaning for a solved head (--head-solver gradient trains it)."]
    waits = strategy.trains and config.patience and config.selection == "last"
    return (
        ["patience: without meaning for the last epoch (--selection validation looks for a better)."] if waits else []
    )


def on_part(plan: Plan, draw: Draw, seed: int) -> Plan:
    """The plan on other examples, such as those outside of a fold; its demonstrations come from them."""
    shots = min(plan.strategy.shots, len(draw.train))
    strategy = plan.strategy.with_parameters({plan.strategy.shots_name: shots}) if shots else plan.strategy
    config = plan.config.model_copy(update={"seed": seed})
    backbone = plan.session.loaded_backbone(config, strategy.needs_lm_head)
    strategy, demonstrations, _ = choose_demonstrations(strategy, plan.task, backbone, config, draw.train)
    expert = plan.expert and on_part(plan.expert, draw, seed)
    return replace(plan, config=config, strategy=strategy, demonstrations=demonstrations, draw=draw, expert=expert)


def prompt_encoders(
    strategy: Strategy, task: Task, backbone: Backbone, config: RunConfig, demos: Sequence[Example]
) -> tuple[PromptEncoder, PromptEncoder | None]:
    """The strategy's encoder of prompts and, for distillation, the teacher's (with the demonstrations)."""
    shown = PromptEncoder(strategy, task, backbone, config.max_length, demos)
    if isinstance(strategy.loss, DistillKL):
        return PromptEncoder(strategy, task, backbone, config.max_length), shown
    return shown, None
