"""One study from the first question to the verdict: `plan_study` checks, `run_study` works."""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from statistics import fmean

from effft.config import PART_FIELDS, RunConfig, TrackingTarget, make_config
from effft.errors import InputError
from effft.progress import ProgressCallback
from effft.runs.plan import prepare, prepare_validation
from effft.runs.session import Session
from effft.search.driver import Driver
from effft.search.executors import open_executor
from effft.search.finals import TOP, Final, best_final, choose, finals, is_default
from effft.search.jobs import measure
from effft.search.mlflow_log import Logbook
from effft.search.plots import importances, page
from effft.search.samplers import study_in_memory
from effft.search.settings import Settings, StudyPlan
from effft.search.spaces import (
    Limits,
    Space,
    Values,
    bounded,
    check_name,
    decoded,
    encoded,
    first_guesses,
    is_range,
    narrowed,
)  # fmt: skip
from effft.search.storage import StoredStudy, open_study, said_plainly
from effft.search.verdict import Verdict, verdict
from effft.strategies.parts import LoRA
from effft.strategies.search_space import ALL, Choice
from effft.strategies.strategy import compose
from effft.tasks.loading import content_digest
from effft.tracking import open_tracker
from effft.tracking.tracker import MemoryTracker, Tracker, tracked

PARENT, REGISTERED = "mlflow_parent", "registered"
DERIVED = {"alpha": "alpha_ratio"}
"""A parameter that is fixed by its own name, and the dimension of the space that stands for it."""


class NothingToSearchError(InputError):
    """The space is empty."""


@dataclass(frozen=True)
class StudyStores:
    """Where things are kept. tracking_uri, experiment: '' = the default."""

    storage: str
    tracking_uri: str = ""
    experiment: str = ""
    no_tracking: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a study found. winner: values of the space; fresh: its validation on fresh seeds; sentences: the verdict."""

    name: str
    winner: dict[str, object]
    trial: int
    fresh: float
    finals: tuple[Final, ...]
    sentences: tuple[str, ...]


def plan_study(
    values: Mapping[str, str], asked: Mapping[str, str], settings: Settings, name: str, session: Session
) -> StudyPlan:
    """Everything that can be checked, cheapest first; the model is loaded last, to know its blocks and its width.

    values: RunConfig fields, as given; asked: names of the space with a range or a fixed value.

    Raises:
        InputError: whatever is wrong, in a sentence.
    """
    strategy = compose(values.get("strategy") or "lora")
    rough = strategy.space(768)
    for key, text in asked.items():
        if is_range(text):
            narrowed(key, text, rough)
        elif key not in RunConfig.model_fields:
            check_name(key, rough)
    fixed = {k: v for k, v in asked.items() if not is_range(v) and v != ""}
    ratio = fixed.pop("alpha_ratio", "")
    config = make_config({**values, **fixed})
    if settings.folds and settings.folds > config.per_label:
        raise InputError(
            f"folds={settings.folds}: there are only {config.per_label} examples per label, so at most "
            f"{config.per_label} folds (flag --folds; 0 = the validation draw)."
        )
    plan = prepare_validation(config, session, (0, settings.folds, config.seed) if settings.folds else None)
    backbone = session.pristine_backbone(config, plan.strategy.head != compose("vanilla").head)
    rank = min(LoRA.highest_rank(backbone, modules) for modules in ("attention", "all"))
    limits = Limits(len(backbone.layout.blocks), len(plan.few_shot.train), tuple(plan.task.patterns), rank)
    space = strategy.space(backbone.width)
    space = bounded(space, limits) | {key: narrowed(key, text, space) for key, text in asked.items() if is_range(text)}
    for key in (*fixed, *(DERIVED[k] for k in fixed if k in DERIVED), *(("alpha_ratio",) if ratio else ())):
        space.pop(key, None)
    space = bounded(space, replace(limits, rank=ALL))
    if not space:
        raise NothingToSearchError(
            f"strategy {strategy.name!r}: every parameter is fixed, so there is nothing to search."
        )
    defaults = _defaults(plan.resolved.settings)
    known = {"alpha_ratio": _ratio(ratio)} if ratio else {}
    default, own = _default(values, config, defaults, session)
    task = plan.task
    content = {f"data.{split}": content_digest(task, config.data_dir, [split]) for split in task.split_names}
    found = StudyPlan(
        name or _name(config, task.name), config, space, settings, plan.resolved.metric, defaults, task.name, default,
        _excluded(own, {**fixed, **known}, space), tuple(first_guesses(defaults, space)),
        {**content, "weights": session.model_digest(config)}, known,
    )  # fmt: skip
    _check_ends(found, session)
    return found


def _default(
    values: Mapping[str, str], config: RunConfig, defaults: Values, session: Session
) -> tuple[RunConfig, Values]:
    """The default configuration and its values; `config` where the default cannot be trained (too few blocks)."""
    default = make_config(values)
    try:
        return default, _defaults(prepare_validation(default, session).resolved.settings)
    except InputError:
        return config, defaults


def _excluded(default: Values, fixed: Mapping[str, object], space: Space) -> tuple[str, ...]:
    """What of the default the fixed values and the ranges leave out."""
    reached = {**decoded(encoded(default, space)), **fixed}
    known = [name for name in (*space, *fixed) if default.get(name) not in (None, "")]
    lost = [name for name in known if name not in reached or not _equal(reached[name], default[name])]
    return tuple(f"{name}={default[name]}" for name in lost)


def _equal(one: object, other: object) -> bool:
    try:
        return float(str(one)) == float(str(other))
    except ValueError:
        return str(one) == str(other)


def _defaults(resolved: Mapping[str, object]) -> dict[str, object]:
    values = dict(resolved)
    if "alpha" in values and "rank" in values:
        values["alpha_ratio"] = float(str(values["alpha"])) / int(str(values["rank"]))
    return values


def _ratio(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise InputError(
            f"alpha_ratio={text}: must be a number above 0, or a range low:high:log2 (flag --alpha-ratio)."
        )
    return value


def _name(config: RunConfig, task: str) -> str:
    place = f"{task}/{config.strategy}/{config.per_label}"
    return f"{place}/{config.model.rstrip('/').rpartition('/')[2]}/{config.seed}-{config.data_seed}"


def _check_ends(plan: StudyPlan, session: Session) -> None:
    """The largest values a trial may draw are allowed: rank, layers; every choice is one of the field's."""
    largest = {k: int(d.high) for k, d in plan.space.items() if k in ("rank", "layers") and not isinstance(d, Choice)}
    for name, dimension in plan.space.items():
        for value in dimension.values if isinstance(dimension, Choice) else ():
            make_config({name: value})
    ends = [(n, e) for n, d in plan.space.items() if not isinstance(d, Choice) for e in (d.low, d.high)]
    for name, end in ends:
        if name in RunConfig.model_fields:
            make_config({name: int(end) if float(end).is_integer() else end})
    if largest:
        top = {k: v for k, v in plan.config.model_dump().items() if v is not None and (k in PART_FIELDS or k in _WHERE)}
        prepare_validation(make_config({**top, **largest}), session)


_WHERE = ("strategy", "task", "model", "revision", "data_dir", "per_label", "data_seed", "max_length", "device")


@said_plainly()
def run_study(
    plan: StudyPlan, place: StudyStores, session: Session, announce: ProgressCallback, say: Callable[[str], None]
) -> Outcome:
    """Trials, finals, verdict, registration; goes on where an earlier process stopped.

    Raises:
        InputError: the storage, or a study of this name that is another or that another process drives.
        RunError: five failures in a row, or the storage does not take what it is told.
    """
    with open_study(place.storage, plan) as stored, closing(open_executor(plan, session)) as executor:
        parent = _parent(stored, plan, place)
        with tracked(parent):
            parent.params(_parameters(plan))
            logbook = Logbook(parent, plan, say)
            logbook.reconcile(stored.trials)
            if plan.excluded:
                say(
                    f"the ranges and fixed values exclude the default ({', '.join(plan.excluded)}); it is measured "
                    "beside the winner all the same."
                )
            announce("one training, to know how long the study takes", 0, 0)
            say(_budget(stored, plan, session, executor.width))
            Driver(stored, plan, executor, logbook, announce).run()
            winner, fresh = choose(stored, plan, executor, announce)
            executor.close()  # the finals are made here, and need the room

            def open_run(experiment: str, name: str, tags: Mapping[str, str]) -> Tracker:
                return _final_tracker(place, parent, experiment, name, tags)

            found = finals(stored, plan, winner, session, open_run, announce)
            default = next((trial.number for trial in stored.complete if is_default(trial, plan)), None)
            judged = verdict(found, plan.metric, winner, fresh, default)
            sentences = [*judged.sentences, *_register(stored, plan, found, judged, place)]
            _conclude(parent, stored, plan, found, judged, sentences)
    return Outcome(plan.name, decoded(winner.params), winner.number, fresh, tuple(found), tuple(sentences))


def _budget(stored: StoredStudy, plan: StudyPlan, session: Session, width: int) -> str:
    """How many trainings are left, at most, and roughly how long they take; the finals are checked on the way."""
    settings = plan.settings
    run = prepare(plan.default, session)
    rows = sum(len(split.examples) for split in run.evaluated.values()) / len(run.few_shot.validation)
    units = max(1, settings.folds)
    trials = max(0, settings.trials - len(stored.complete)) * units * settings.inner_seeds
    again = min(TOP + 1, settings.trials) * units * settings.reseeds
    last = 3 * settings.seeds * settings.data_seeds
    text = f"at most {trials + again + last} trainings: {trials} of trials, {again} of re-evaluations, {last} of "
    text += "final runs"
    known = [trial.user_attrs["measured"]["resources"] for trial in stored.complete]
    if not known:
        measured = measure(plan.units({}, plan.config.seed, 1)[0], session)
        if measured.failure:
            return f"{text}."
        known = [measured.resources]
    train, evaluation = (fmean(one[name] for one in known) for name in ("train_seconds", "evaluation_seconds"))
    seconds = (trials + again) * (train + evaluation) / width + last * (train + evaluation * rows)
    return f"{text}; {'under a minute' if seconds < 60 else f'roughly {seconds / 60:.0f} minutes'}."


def _parameters(plan: StudyPlan) -> dict[str, object]:
    space = {f"space.{name}": str(dimension) for name, dimension in plan.space.items()}
    return {**vars(plan.settings), **plan.config.model_dump(exclude_none=True), **space}


def _parent(stored: StoredStudy, plan: StudyPlan, place: StudyStores) -> Tracker:
    if place.no_tracking:
        return MemoryTracker(name=plan.name)
    from effft.tracking.study_runs import open_parent

    tags = {"study": plan.name, "strategy": plan.config.strategy, "task": plan.task, "kind": "study"}
    known = str(stored.results.get(PARENT, ""))
    name = place.experiment or f"effft/{plan.task}"
    tracker = open_parent(name, f"search {plan.config.strategy}", tags, place.tracking_uri, known)
    if tracker.run_id != known:
        stored.keep(PARENT, tracker.run_id)
    return tracker


def _final_tracker(place: StudyStores, parent: Tracker, experiment: str, name: str, tags: Mapping[str, str]) -> Tracker:
    """A final run has a tracker of its own under the study's run: what the store does not take, a file keeps."""
    target = TrackingTarget(place.tracking_uri, place.experiment, place.no_tracking)
    return open_tracker(target, experiment, name, {**tags, "mlflow.parentRunId": parent.run_id})


def _register(
    stored: StoredStudy, plan: StudyPlan, found: list[Final], judged: Verdict, place: StudyStores
) -> list[str]:
    """Register the best run by validation of what is recommended, once; a sentence about it."""
    best = best_final(found, judged.recommended, plan.metric)
    if place.no_tracking or not best.run_id:
        return []
    name = f"registered/{best.run_id}"
    if stored.results.get(REGISTERED) != name:
        from effft.tracking.registry import CHAMPION, register

        version = register(best.run_id, place.tracking_uri, study=plan.name, validation=judged.final_mean)
        role = " and is the champion" if CHAMPION in version.aliases else f"; {version.verdict}"
        stored.keep(name, f"registered as {version.name} version {version.number}{role}.")
        stored.keep(REGISTERED, name)
    return [str(stored.results[name])]


def _conclude(
    parent: Tracker, stored: StoredStudy, plan: StudyPlan, found: list[Final], judged: Verdict, sentences: list[str]
) -> None:
    if run_ids := {final.run_id for final in found if final.run_id}:
        from effft.tracking.study_runs import finish_runs

        finish_runs(parent, run_ids)
    for final in found:
        own = {f"finals/{final.role}/{k}": v for k, v in final.metrics.items() if k.endswith(f"/{plan.metric}")}
        parent.metrics({k: v for k, v in own.items() if k.count("/") <= 5}, final.seed)
    numbers = {"search": judged.search_score, "reevaluation": judged.reevaluation, "validation": judged.final_mean}
    parent.metrics({f"{name}/{plan.metric}": value for name, value in numbers.items()})
    if judged.trial is not None:
        parent.metrics({"winner": float(judged.trial)})
    study = study_in_memory(plan, stored.trials)
    parent.metrics({f"importance/{name}": share for name, share in importances(study).items()})
    parent.text("study.html", page(study))
    parent.text("verdict.md", "".join(f"- {sentence}\n" for sentence in sentences))
    link = f"[History, importances, slices]({parent.url}/artifacts/study.html) (artifact `study.html`)."
    parent.note("\n\n".join([*sentences, link]))
    parent.flush()
