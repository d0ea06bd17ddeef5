"""One study from its first trial to the verdict."""

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from statistics import fmean

from effft.config import TrackingTarget
from effft.progress import ProgressCallback
from effft.runs.plan import prepare
from effft.runs.runner import Runner
from effft.runs.session import Session
from effft.search.budget import Clock, Prices, affordable
from effft.search.driver import Driver
from effft.search.finals import TOP, Final, choose, finals, is_default, judged_on, left_out
from effft.search.jobs import Executor, measure
from effft.search.mlflow_log import Logbook
from effft.search.plots import importances, page
from effft.search.samplers import study_in_memory
from effft.search.settings import StudyPlan
from effft.search.storage import StoredStudy, open_study, said_plainly
from effft.search.verdict import Verdict, verdict
from effft.tracking import open_tracker
from effft.tracking.tracker import MemoryTracker, Tracker, tracked

PARENT, REGISTERED, PRICES = "mlflow_parent", "registered", "prices"


@dataclass(frozen=True)
class StudyResult:
    """The final runs of a study, and its verdict in sentences."""

    finals: list[Final]
    sentences: list[str]


@said_plainly()
def run_study(
    plan: StudyPlan,
    storage: str,
    target: TrackingTarget,
    session: Session,
    progress: ProgressCallback,
    say: Callable[[str], None],
    began: float | None = None,
) -> StudyResult:
    """Trials, finals, verdict, registration; goes on where an earlier process stopped. say: called with lines about it.

    began: when work on it began, as `time.monotonic` tells it; now, where not given.

    Raises:
        InputError: the storage, or a study of this name that is another or that another process drives.
        RunError: five failures in a row, or the storage does not take what it is told.
    """
    # The executor first: a cluster that cannot be joined leaves no study behind.
    with closing(open_executor(plan, session)) as executor, open_study(storage, plan) as stored:
        parent = open_study_run(stored, plan, target, "study", f"search {plan.config.strategy}")
        with tracked(parent):
            space = {f"space.{name}": str(dimension) for name, dimension in plan.space.items()}
            parent.params({**vars(plan.settings), **plan.config.model_dump(exclude_none=True), **space})
            logbook = Logbook(parent, plan, say)
            logbook.reconcile(stored.trials)
            if plan.excluded:
                say(
                    f"the ranges and fixed values exclude the default ({', '.join(plan.excluded)}); it is measured "
                    "beside the winner all the same."
                )
            if len(plan.settings.objectives) > 1 and plan.settings.pruner != "none":
                say(f"with several objectives no trial is pruned (--pruner {plan.settings.pruner} means nothing).")
            progress("one training, to know how long the study takes", 0, 0)
            clock = Clock(stored, 60 * plan.settings.minutes, began) if plan.settings.minutes else None
            plan, prices = _budget(stored, plan, session, executor.workers, say)
            if clock and prices:
                clock.expect(prices, plan.settings, executor.workers)
            Driver(stored, plan, executor, logbook, progress, clock).run()

            def open_run(experiment: str, name: str, tags: Mapping[str, str]) -> Tracker:
                return open_tracker(target, experiment, name, {**tags, "mlflow.parentRunId": parent.run_id})

            runs: list[Final] = []
            while not runs:  # a winner or a median trial that diverges when it is trained anew is none
                winner, fresh = choose(stored, plan, executor, progress, clock)
                executor.close()  # the finals are made here, and need the room
                runs = finals(stored, plan, winner, session, open_run, progress, clock)
                executor = Runner(measure, 1, session)  # if the next winner must be measured: here, as that is closed
            default = next((trial.number for trial in stored.complete if is_default(trial, plan)), None)
            judged = verdict(runs, plan.metric, winner, fresh, default, plan.settings.constraints)
            sentences = [*judged.sentences, *left_out(stored), *_register(stored, plan, runs, judged, target)]
            if roles := {final.run_id: final.role for final in reversed(runs) if final.run_id}:
                from effft.tracking.study_runs import settle_finals

                made = {kept["run_id"] for name, kept in stored.results.items() if name.startswith("final/")}
                settle_finals(parent, roles, made - {""}, winner.number)
            _conclude(parent, stored, plan, runs, judged, sentences)
    return StudyResult(runs, sentences)


def open_executor(plan: StudyPlan, session: Session) -> Executor:
    """Who measures the trials of a study, as its settings ask."""
    settings = plan.settings
    if settings.executor == "ray":
        from effft.search.ray_executor import RayTasks

        return RayTasks(settings.workers, settings.ray_address, settings.ray_gpus, session)
    return Runner(measure, settings.workers, session)


def _budget(
    stored: StoredStudy, plan: StudyPlan, session: Session, width: int, say: Callable[[str], None]
) -> tuple[StudyPlan, Prices | None]:
    """Say what is left and how long it takes; the plan with the seeds that fit, and the prices where they are known.

    The finals are checked on the way. With minutes the prices are kept, so that a later process decides as this one.
    """
    settings = plan.settings
    run = prepare(plan.default, session)
    units = max(1, settings.folds)
    held = len(run.draw.validation) or len(run.draw.train) / units
    rows = sum(len(split.examples) for split in run.evaluated.values()) / max(1, held)
    fits, beside = 1 + (run.folds.fits if run.folds else 0), 0.0
    known = [trial.user_attrs["measured"]["resources"] for trial in stored.complete]
    prices = Prices(*stored.results[PRICES]) if settings.minutes and PRICES in stored.results else None
    if not prices and not known:
        begun, measured = time.monotonic(), measure(plan.units({}, plan.config.seed, 1)[0], session)
        known, beside = [] if measured.failure else [measured.resources], time.monotonic() - begun
    if not prices and known:
        train, evaluation = (fmean(one[name] for one in known) for name in ("train_seconds", "evaluation_seconds"))
        if settings.minutes:  # what a training takes beside: copies, checks, the storage
            train = max(train, beside - evaluation)
        unit = units * (train + evaluation) / width
        again = min(TOP + 1, settings.trials) * unit
        prices = Prices(unit * settings.inner_seeds, again, 3 * fits * (train + evaluation * rows))
    if settings.minutes and prices:
        stored.keep(PRICES, list(prices))
        settings = affordable(settings, prices)
        plan = replace(plan, settings=settings)
    left = max(0, settings.trials - len(stored.complete))
    again = min(TOP + 1, settings.trials) * units * settings.reseeds
    last = 3 * settings.seeds * settings.data_seeds * fits
    if settings.minutes and prices:
        most = (60 * settings.minutes - prices.finals(settings)) / max(prices.trial, 1e-3)
        say(
            f"{settings.minutes:g} minutes: about {min(most, left):.0f} trials of {prices.trial:.2g} s, then "
            f"{again} trainings of re-evaluations (fresh seeds: {settings.reseeds}) and {last} of final runs "
            f"(seeds: {settings.seeds}), about {prices.finals(settings) / 60:.1f} minutes."
        )
        return plan, prices
    trials = left * units * settings.inner_seeds
    text = f"at most {trials + again + last} trainings: {trials} of trials, {again} of re-evaluations, {last} of "
    text += "final runs"
    if prices:
        seconds = left * prices.trial + prices.finals(settings)
        text += f"; {'under a minute' if seconds < 60 else f'roughly {seconds / 60:.0f} minutes'}"
    say(f"{text}.")
    return plan, prices


def open_study_run(stored: StoredStudy, plan: StudyPlan, target: TrackingTarget, kind: str, name: str) -> Tracker:
    """The tracked run above those of a study: a new one, or that of an earlier process."""
    if target.disabled:
        return MemoryTracker(name=plan.name)
    from effft.tracking.study_runs import open_parent

    tags = {"study": plan.name, "strategy": plan.config.strategy, "task": plan.task, "kind": kind}
    known = str(stored.results.get(PARENT, ""))
    tracker = open_parent(target.experiment or f"effft/{plan.task}", name, tags, target.uri, known)
    if tracker.run_id != known:
        stored.keep(PARENT, tracker.run_id)
    return tracker


def _register(
    stored: StoredStudy, plan: StudyPlan, runs: list[Final], judged: Verdict, target: TrackingTarget
) -> list[str]:
    """Register the best run by validation of what is recommended, once; a sentence about it."""
    recommended = (final for final in runs if final.role == judged.recommended)
    split = judged_on(runs, plan.metric)
    best = max(recommended, key=lambda final: final.value(split, plan.metric))
    if target.disabled or not best.run_id:
        return []
    return register_once(stored, best.run_id, plan.name, target, judged.final_mean)


def register_once(
    stored: StoredStudy, run_id: str, study: str, target: TrackingTarget, validation: float, chosen_on: str = ""
) -> list[str]:
    """Register the model of a run, whatever process does it, once; a sentence about it."""
    name = f"registered/{run_id}"
    if stored.results.get(REGISTERED) != name:
        from effft.tracking.registry import CHAMPION, register

        version = register(run_id, target.uri, study, validation, chosen_on)
        role = " and is the champion" if CHAMPION in version.aliases else f"; {version.verdict}"
        stored.keep(name, f"registered as {version.name} version {version.number}{role}.")
        stored.keep(REGISTERED, name)
    return [str(stored.results[name])]


def _conclude(
    parent: Tracker, stored: StoredStudy, plan: StudyPlan, runs: list[Final], judged: Verdict, sentences: list[str]
) -> None:
    for final in runs:
        own = {f"finals/{final.role}/{k}": v for k, v in final.metrics.items() if k.endswith(f"/{plan.metric}")}
        parent.metrics({k: v for k, v in own.items() if k.count("/") <= 5}, final.seed)
    numbers = {"search": judged.search_score, "reevaluation": judged.reevaluation, "validation": judged.final_mean}
    parent.metrics({f"{name}/{plan.metric}": value for name, value in numbers.items()})
    if judged.trial is not None:
        parent.metrics({"winner": float(judged.trial)})
    study = study_in_memory(plan, stored.trials)
    parent.metrics({f"importance/{name}": share for name, share in importances(study).items()})
    files = {"study.html": page(study), "verdict.md": "".join(f"- {sentence}\n" for sentence in sentences)}
    for file, text in files.items():
        parent.text(file, text)
    link = f"[History, importances, slices]({parent.url}/artifacts/study.html) (artifact `study.html`)."
    parent.note("\n\n".join([*sentences, link]))
    stored.write_note(files["verdict.md"])
    stored.show(files)
    parent.flush()
