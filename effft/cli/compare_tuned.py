"""`compare --tuned true`: a study per strategy under one budget, then one table of the winners' final runs."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING

import click

from effft.cli.compare import finish, report_on, stands_by_default, words
from effft.cli.output import Progress
from effft.cli.search import SEARCHED
from effft.cli.tracking import how_to_view, open_tracker
from effft.config import PART_FIELDS, make_config
from effft.errors import EffftError
from effft.runs.compare import Outcome, check_held, grid, holders, prepare_all, run_plans
from effft.runs.experiment import Result
from effft.runs.plan import Plan
from effft.runs.session import Session
from effft.search.finals import Final
from effft.search.settings import CROSS_VALIDATED_FROM, FOLDS, HELD_OUT_SEED_OFFSET, Settings, StudyPlan
from effft.search.study import NothingToSearchError, StudyStores, plan_study, run_study
from effft.strategies.strategy import compose
from effft.tracking.tracker import tracked

if TYPE_CHECKING:
    from effft.tracking.tracker import Tracker

STORAGE = "sqlite:///optuna.db"


@dataclass
class Work:
    """What is to be done: studies, and plain runs of what has nothing to search, on the same fresh seeds."""

    studies: list[StudyPlan] = field(default_factory=list)
    plain: list[Plan] = field(default_factory=list)


def start(
    given: Mapping[str, str | None],
    trials: int,
    seeds: int,
    data_seeds: int,
    tracking_uri: str,
    experiment: str,
    no_tracking: bool,
) -> None:
    """Check every study before the first trial, run them, and print and keep the table of the finals.

    given: fields, with `strategies` and `per_label` as lists in words. Exit code 1 when a study or a run failed.
    """
    names = words(str(given["strategies"]), "--strategies")
    session, outcomes = Session(), list[Outcome]()
    with Progress() as progress:
        progress("load", 0, 0)
        todo = plan_all(names, given, trials, seeds, data_seeds, session, progress)
        task = todo.studies[0].task if todo.studies else todo.plain[0].task.name
        tags = {"task": task, "strategies": ",".join(names), "kind": "comparison", "tuned": "true"}
        tags["studies"] = json.dumps([plan.name for plan in todo.studies])
        name = f"compare tuned {','.join(names)}"[:200]
        parent = open_tracker(experiment or f"effft/{task}", name, tags, tracking_uri, no_tracking)
        os.environ.pop("MLFLOW_EXPERIMENT_ID", None)  # `mlflow run` chose it for the parent alone
        place = StudyStores(STORAGE, tracking_uri, "", no_tracking)
        with tracked(parent):
            parent.params({"strategies": ",".join(names), "trials": trials, "seeds": seeds, "data_seeds": data_seeds})
            try:
                for outcome in _all(todo, place, session, parent, progress):
                    outcomes.append(outcome)
            finally:
                finish(outcomes, parent, progress)
            report_on(task, parent)
            failed = any(outcome.failure for outcome in outcomes)
            if failed:
                parent.close("FAILED")
    if not no_tracking:
        click.echo(f"view: {how_to_view(parent, tracking_uri)}")
    if failed:
        raise click.exceptions.Exit(1)


def plan_all(
    names: Sequence[str],
    given: Mapping[str, str | None],
    trials: int,
    seeds: int,
    data_seeds: int,
    session: Session,
    progress: Progress,
) -> Work:
    """A study for every strategy and number of examples; a strategy without a space is run as it is.

    Raises:
        InputError: whatever is wrong with one of them.
    """
    composed = [compose(name) for name in names]
    rest = {k: v for k, v in given.items() if k not in ("strategies", "per_label") and v}
    shared = {k: v for k, v in rest.items() if k not in SEARCHED or not stands_by_default(k, v, {})}
    check_held(composed, shared)
    todo, first = Work(), make_config({k: v for k, v in shared.items() if k in ("seed", "data_seed")})
    places = (
        range(first.seed + HELD_OUT_SEED_OFFSET, first.seed + HELD_OUT_SEED_OFFSET + seeds),
        range(first.data_seed, first.data_seed + data_seeds),
    )
    for count, strategy in product(words(str(given["per_label"]), "--per-label"), composed):
        own = {k: v for k, v in shared.items() if k not in PART_FIELDS or strategy in holders(k, composed)}
        fixed = {k: v for k, v in own.items() if k in SEARCHED}
        values = {k: v for k, v in own.items() if k not in fixed} | {"strategy": strategy.name, "per_label": count}
        folds = FOLDS if count.isdecimal() and int(count) >= CROSS_VALIDATED_FROM else 0
        settings = Settings(trials=trials, folds=folds, seeds=seeds, data_seeds=data_seeds)
        try:
            todo.studies.append(plan_study(values, fixed, settings, "", session))
        except NothingToSearchError:
            rest = {k: v for k, v in own.items() if k not in ("seed", "data_seed")}
            todo.plain += prepare_all(grid([strategy.name], [count], *places, rest), session, progress)
    return todo


def _all(todo: Work, place: StudyStores, session: Session, parent: "Tracker", progress: Progress) -> "list[Outcome]":
    found: list[Outcome] = []
    for plan in todo.studies:
        try:
            outcome = run_study(plan, place, session, progress.runs, progress.line)
        except EffftError as error:
            found.append(Outcome(plan.config, None, f"study {plan.name}: {error}"))
            continue
        found += [as_outcome(plan, final) for final in outcome.finals if final.role == "winner"]
        progress.line(f"{plan.name}: {' '.join(outcome.sentences[:2])}")
    return [*found, *run_plans(todo.plain, parent, progress.runs, progress)]


def as_outcome(plan: StudyPlan, final: Final) -> Outcome:
    """A final run as a comparison sees it."""
    config = plan.config_of({}, seed=final.seed, data_seed=final.data_seed)
    sets = [key.removesuffix(f"/{plan.metric}") for key in final.metrics if key.startswith("ood/")]
    ood = tuple(s.removeprefix("ood/") for s in sets if s.count("/") == 1 and f"{s}/{plan.metric}" in final.metrics)
    name = f"tuned {plan.config.strategy} · {config.per_label}/label · seed {final.seed}·{final.data_seed}"
    return Outcome(config, Result(config, name, final.metrics, plan.metric, ood, ()))
