"""One study from the first question to the verdict: `plan_study` checks, `run_study` works."""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from optuna.study import Study

from effft.config import PART_FIELDS, RunConfig, TrackingTarget, make_config
from effft.errors import InputError
from effft.runs.plan import prepare_validation
from effft.runs.session import Session
from effft.search.driver import Driver
from effft.search.executors import open_executor
from effft.search.finals import Final, best_final, choose, finals
from effft.search.mlflow_log import Logbook
from effft.search.plots import importances, page
from effft.search.settings import StudyPlan
from effft.search.spaces import Limits, bounded, check_name, decoded, first_guesses, is_range, narrowed
from effft.search.storage import enqueue_guesses, open_storage, open_study, requeue, said_plainly
from effft.search.verdict import verdict
from effft.strategies.parts import LoRA
from effft.strategies.search_space import ALL
from effft.strategies.strategy import compose
from effft.tracking import open_tracker
from effft.tracking.tracker import MemoryTracker, Tracker, tracked

if TYPE_CHECKING:
    from effft.search.settings import Settings

PARENT = "mlflow_parent"
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
    values: Mapping[str, str], asked: Mapping[str, str], settings: "Settings", name: str, session: Session
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
    metric = plan.resolved.metric
    found = StudyPlan(name or _name(config), config, space, settings, metric, defaults, plan.task.name, known)
    _check_ends(found, session)
    return found


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


def _name(config: RunConfig) -> str:
    place = f"{config.task}/{config.strategy}/{config.per_label}"
    return f"{place}/{config.model.rstrip('/').rpartition('/')[2]}/{config.seed}-{config.data_seed}"


def _check_ends(plan: StudyPlan, session: Session) -> None:
    """The largest values a trial may draw are allowed: rank, layers; every choice is one of the field's."""
    from effft.strategies.search_space import Choice

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
    plan: StudyPlan,
    place: StudyStores,
    session: Session,
    announce: Callable[[str, int, int], None],
    say: Callable[[str], None],
) -> Outcome:
    """Trials, finals, registration, verdict; goes on where an earlier process stopped.

    Raises:
        InputError: the storage, or a study of this name that is another. RunError: five failures in a row, or
            the storage does not take what it is told.
    """
    storage = open_storage(place.storage)
    with closing(open_executor(plan, session)) as executor:
        study = open_study(storage, plan)
        parent = _parent(study, plan, place)
        with tracked(parent):
            parent.params(_parameters(plan))
            logbook = Logbook(parent, plan, say)
            lost = requeue(study)
            if lost:
                say(f"back in the queue: trial {', '.join(map(str, lost))}, in flight when the last process ended.")
            logbook.reconcile(study)
            enqueue_guesses(study, first_guesses(plan.defaults, plan.space))
            Driver(study, plan, executor, logbook, announce).run()
            winner, fresh = choose(study, plan, executor, announce)
            executor.close()  # the finals are made here, and need the room

            def open_run(experiment: str, name: str, tags: Mapping[str, str]) -> Tracker:
                return _final_tracker(place, parent, experiment, name, tags)

            found = finals(study, plan, winner, session, open_run, announce)
            sentences = list(verdict(found, plan.metric))
            registered = _register(study, plan, found, fresh, place)
            sentences += [registered] if registered else []
            _conclude(parent, study, plan, found, fresh, winner.number, sentences)
    return Outcome(plan.name, decoded(winner.params), winner.number, fresh, tuple(found), tuple(sentences))


def _parameters(plan: StudyPlan) -> dict[str, object]:
    space = {f"space.{name}": str(dimension) for name, dimension in plan.space.items()}
    return {**vars(plan.settings), **plan.config.model_dump(exclude_none=True), **space}


def _parent(study: Study, plan: StudyPlan, place: StudyStores) -> Tracker:
    if place.no_tracking:
        return MemoryTracker(name=plan.name)
    from effft.tracking.study_runs import open_parent

    tags = {"study": plan.name, "strategy": plan.config.strategy, "task": plan.task, "kind": "study"}
    known = str(study.user_attrs.get(PARENT, ""))
    name = place.experiment or f"effft/{plan.task}"
    tracker = open_parent(name, f"search {plan.config.strategy}", tags, place.tracking_uri, known)
    if tracker.run_id != known:
        study.set_user_attr(PARENT, tracker.run_id)
    return tracker


def _final_tracker(place: StudyStores, parent: Tracker, experiment: str, name: str, tags: Mapping[str, str]) -> Tracker:
    """A final run has a tracker of its own under the study's run: what the store does not take, a file keeps."""
    target = TrackingTarget(place.tracking_uri, place.experiment, place.no_tracking)
    return open_tracker(target, experiment, name, {**tags, "mlflow.parentRunId": parent.run_id})


def _register(study: Study, plan: StudyPlan, found: list[Final], fresh: float, place: StudyStores) -> str:
    """Register the winner's best run by validation, once; a sentence about it."""
    best = best_final(found, plan.metric)
    if place.no_tracking or not best.run_id:
        return ""
    if "registered" not in study.user_attrs:
        from effft.tracking.registry import CHAMPION, register

        version = register(best.run_id, place.tracking_uri, study=plan.name, validation=fresh)
        role = " and is the champion" if CHAMPION in version.aliases else "; the champion stays"
        study.set_user_attr("registered", f"registered as {version.name} version {version.number}{role}.")
    return str(study.user_attrs["registered"])


def _conclude(
    parent: Tracker, study: Study, plan: StudyPlan, found: list[Final], fresh: float, trial: int, sentences: list[str]
) -> None:
    for role in ("winner", "default", "median"):
        for final in (f for f in found if f.role == role):
            own = {f"finals/{role}/{k}": v for k, v in final.metrics.items() if k.endswith(f"/{plan.metric}")}
            parent.metrics({k: v for k, v in own.items() if k.count("/") <= 5}, final.seed)
    parent.metrics({f"validation/{plan.metric}": fresh, "winner": float(trial)})
    parent.metrics({f"importance/{name}": share for name, share in importances(study).items()})
    parent.text("study.html", page(study))
    parent.text("verdict.md", "".join(f"- {sentence}\n" for sentence in sentences))
    link = f"[History, importances, slices]({parent.url}/artifacts/study.html) (artifact `study.html`)."
    parent.note("\n\n".join([*sentences, link]))
    parent.flush()
