"""A study before it works: everything that can be checked is checked here, and the space is cut to the model."""

from collections.abc import Collection, Mapping
from dataclasses import replace

from effft.config import DATA_FIELDS, PART_FIELDS, Amount, RunConfig, make_config
from effft.errors import InputError, positive
from effft.runs.plan import (
    Fold,
    Plan,
    check_saved,
    draws_validation,
    prepare_validation,
    prompt_encoders,
    with_amount,
)
from effft.runs.session import Session
from effft.search import spaces
from effft.search.settings import FOLDS, Settings, StudyPlan
from effft.strategies.search_space import ALL, Choice
from effft.strategies.strategy import Strategy, compose
from effft.strategies.trainable_parts import LoRA
from effft.tasks.loading import content_digest

DERIVED = {"alpha": "alpha_ratio"}
"""A parameter that is fixed by its own name, and the dimension of the space that stands for it."""


def split_searched(strategy: Strategy, values: Mapping[str, object]) -> tuple[dict[str, str], dict[str, str]]:
    """Values as `plan_study` takes them: those of fields that the strategy's space lacks, and those that it has."""
    searched = {*strategy.space(768), *DERIVED}
    texts = {name: str(value) for name, value in values.items()}
    return {n: t for n, t in texts.items() if n not in searched}, {n: t for n, t in texts.items() if n in searched}


class NothingToSearchError(InputError):
    """The space is empty."""


def plan_study(
    values: Mapping[str, str], requested: Mapping[str, str], settings: Settings, name: str, session: Session
) -> StudyPlan:
    """Everything that can be checked, cheapest first; the model is loaded last, to know its blocks and its width.

    values: RunConfig fields, as given; requested: names of the space with a range or a fixed value.
    """
    solver = {name: values[name] for name in ("head_solver",) if values.get(name)}
    strategy = compose(values.get("strategy") or "lora").with_parameters(solver)
    if not strategy.trains:  # final runs that differ in their seed alone would be the same run
        settings = replace(settings, seeds=1)
    rough = strategy.space(768)
    for key, text in requested.items():
        if spaces.is_range(text):
            requested = {**requested, key: spaces.only_value(spaces.narrowed(key, text, rough)) or text}
        elif key not in RunConfig.model_fields:
            spaces.check_name(key, rough)
    fixed = {k: v for k, v in requested.items() if not spaces.is_range(v) and v != ""}
    ratio = fixed.pop("alpha_ratio", "")
    config = make_config({**values, **fixed})
    check_saved(config)
    if config.steps and spaces.is_range(requested.get("epochs", "")):
        raise InputError(
            f"epochs={requested['epochs']}: steps={config.steps} replaces the epochs, which cannot be searched; leave "
            "one of the two out (flags --steps, --epochs)."
        )
    config = _measurable(with_amount(config, session.task(config)), session)
    if settings.folds and config.per_label and settings.folds > config.per_label:
        raise InputError(
            f"folds={settings.folds}: there are only {config.per_label} examples per label, so at most "
            f"{config.per_label} folds (flag --folds; 0 = the validation draw)."
        )
    fold = (0, settings.folds, config.seed) if settings.folds else None
    plan = prepare_validation(config, session, fold)
    backbone = session.loaded_backbone(config, plan.strategy.needs_lm_head)
    rank = min(LoRA.highest_rank(backbone, modules) for modules in ("attention", "all"))
    encoder, _ = prompt_encoders(plan.strategy, plan.task, backbone, config, plan.demonstrations)
    words, texts = encoder.label_tokens, [question.texts for question in encoder.questions(plan.draw.train)]
    limits = spaces.Limits(
        backbone.layout.depth, len(plan.draw.train), tuple(plan.task.patterns), rank,
        words.different_scores if words else (), any(prompt.cut for prompt in encoder.encode(texts)),
        plan.task.label_word_choices,
    )  # fmt: skip
    space = strategy.space(backbone.width)
    space = spaces.bounded(space, limits) | {
        key: spaces.narrowed(key, text, space) for key, text in requested.items() if spaces.is_range(text)
    }
    idle = ["alpha_ratio"] * bool(ratio) + ["epochs"] * bool(config.steps)
    for key in (*fixed, *(DERIVED[k] for k in fixed if k in DERIVED), *idle):
        space.pop(key, None)
    space = spaces.bounded(space, replace(limits, rank=ALL))
    if not space:
        raise NothingToSearchError(
            f"strategy {strategy.name!r}: every parameter is fixed, so there is nothing to search."
        )
    defaults = _defaults(plan)
    law = "a number above 0, or a range low:high:log2"
    known = {"alpha_ratio": positive("alpha_ratio", ratio, law=law)} if ratio else {}
    default, own = _default(values, config, defaults, session, fold)
    task = plan.task
    content = {f"data.{split}": content_digest(task, config.data_dir, [split]) for split in task.split_names}
    study_plan = StudyPlan(
        name or _name(config, task.name), config, space, settings, plan.resolved.metric, defaults, task.name, default,
        _excluded(own, {**fixed, **known}, space), tuple(spaces.first_guesses(defaults, space)),
        {**content, "weights": session.model_digest(config)}, known,
    )  # fmt: skip
    _check_ends(study_plan, {*requested, "label_words"}, session, fold)
    return study_plan


def _measurable(config: RunConfig, session: Session) -> RunConfig:
    """With an out-of-fold estimate in the final runs where no validation draw judges them."""
    estimated = config.cross_validation not in ("auto", "none")
    if estimated or draws_validation(config, session.task(config)):
        return config
    if config.cross_validation == "none":
        raise InputError(
            "cross_validation=none: no validation draw judges the final runs of a study on these rows; leave it out, "
            f"which takes {FOLDS}x1, or give folds x repeats (flag --cross-validation)."
        )
    return config.model_copy(update={"cross_validation": f"{FOLDS}x1"})


def _default(
    values: Mapping[str, str], config: RunConfig, defaults: spaces.Values, session: Session, fold: Fold | None
) -> tuple[RunConfig, spaces.Values]:
    """The default configuration and its values; `config` where the default cannot be trained (too few blocks)."""
    default = make_config(values)
    default = _measurable(with_amount(default, session.task(default)), session)
    whole = not default.per_label or draws_validation(default, session.task(default))
    try:
        return default, _defaults(prepare_validation(default, session, None if whole else fold))
    except InputError:
        return config, defaults


def _excluded(default: spaces.Values, fixed: Mapping[str, object], space: spaces.Space) -> tuple[str, ...]:
    """What of the default the fixed values and the ranges leave out."""
    reached = {**spaces.decoded(spaces.encoded(default, space)), **fixed}
    known = [name for name in (*space, *fixed) if default.get(name) not in (None, "")]
    lost = [name for name in known if name not in reached or not _equal(reached[name], default[name])]
    return tuple(f"{name}={default[name]}" for name in lost)


def _equal(one: object, other: object) -> bool:
    try:
        return float(str(one)) == float(str(other))
    except ValueError:
        return str(one) == str(other)


def _defaults(plan: Plan) -> dict[str, object]:
    values = dict(plan.resolved.settings)
    if values.get("label_words") == "":
        values["label_words"] = ",".join(word.strip() for word in plan.task.ordered_label_words)
    if "alpha" in values and "rank" in values:
        values["alpha_ratio"] = float(str(values["alpha"])) / int(str(values["rank"]))
    return values


def _name(config: RunConfig, task: str) -> str:
    place = f"{task}/{config.strategy}/{Amount.of(vars(config)).name}"
    return f"{place}/{config.model.rstrip('/').rpartition('/')[2]}/{config.seed}-{config.data_seed}"


def _check_ends(plan: StudyPlan, given: Collection[str], session: Session, fold: Fold | None) -> None:
    """What a trial may draw is allowed: the highest rank and count of layers, every choice and end.

    given: names of choices that are not those of the strategy, so that each value is tried on model and task.
    """
    for name, dimension in plan.space.items():
        for value in dimension.values if isinstance(dimension, Choice) else (dimension.low, dimension.high):
            if name in RunConfig.model_fields:
                make_config({name: int(value) if isinstance(value, float) and value.is_integer() else value})
    largest = {k: int(d.high) for k, d in plan.space.items() if k in ("rank", "layers") and not isinstance(d, Choice)}
    choices = {k: d.values for k, d in plan.space.items() if k in PART_FIELDS and k in given and isinstance(d, Choice)}
    tops: list[Mapping[str, object]] = [largest] if largest else []
    tops += [{name: value} for name, values in choices.items() for value in values]
    where = {k: v for k, v in plan.config.model_dump().items() if v is not None and (k in PART_FIELDS or k in _WHERE)}
    for top in tops:
        prepare_validation(make_config({**where, **top}), session, fold)


_WHERE = (
    "strategy", "task", *DATA_FIELDS, "model", "revision", "data_dir", "per_label", "rows", "data_seed", "max_length",
    "device",
)  # fmt: skip
