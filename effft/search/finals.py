"""After the trials: the top 3 on fresh seeds, the winner trained anew, measured in domain and OOD, and registered."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

from optuna.study import Study
from optuna.trial import FrozenTrial

from effft.config import RunConfig
from effft.errors import RunError
from effft.progress import ProgressCallback
from effft.search.jobs import Executor, TrainingJob, measure
from effft.search.settings import HELD_OUT_SEED_OFFSET, StudyPlan
from effft.search.spaces import Values, decoded
from effft.search.storage import DEFAULT, complete
from effft.tracking.tracker import Tracker, tracked

if TYPE_CHECKING:
    from effft.runs.session import Session

OpenRun = Callable[[str, str, Mapping[str, str]], Tracker]
"""(experiment, name, tags) -> a tracker of a final run."""

TOP = 3
"""Trials that are measured again, beside the default: the best of noisy numbers is too good to be true."""


@dataclass(frozen=True)
class Final:
    """One final run. role: 'winner', 'default' or 'median'; metrics: flat keys; run_id: '' where nobody keeps it."""

    role: str
    seed: int
    data_seed: int
    metrics: dict[str, float]
    run_id: str = ""

    def value(self, split: str, metric: str) -> float:
        """The metric on a split."""
        return self.metrics[f"{split}/{metric}"]


def allowed(trials: Sequence[FrozenTrial], constraints: Sequence[tuple[str, float]]) -> list[FrozenTrial]:
    """The trials that keep every constraint; all of them when none does."""

    def keeps(trial: FrozenTrial) -> bool:
        resources = trial.user_attrs["measured"]["resources"]
        return all(resources[name] <= most for name, most in constraints)

    return [trial for trial in trials if keeps(trial)] or list(trials)


def remembered(study: Study, key: str, make: Callable[[], Any]) -> Any:
    """A value of the study's own memory; made and kept when it is not there yet, so that nothing is done twice."""
    known = study.user_attrs
    if key not in known:
        study.set_user_attr(key, make())
        return study.user_attrs[key]
    return known[key]


def choose(study: Study, plan: StudyPlan, executor: Executor, announce: ProgressCallback) -> tuple[FrozenTrial, float]:
    """The winner: of the top 3 and the default, the best mean validation over fresh seeds (and folds cut anew).

    The default takes part, whatever its first score was: a search that finds nothing better keeps it. Also returned:
    the winner's mean.

    Raises:
        RunError: no trial is complete, or none can be measured again.
    """
    ranked = allowed(complete(study), plan.settings.constraints)
    candidates = ranked[:TOP] + [trial for trial in ranked[TOP:] if is_default(trial)]
    if not candidates:
        raise RunError("no trial is complete, so there is nothing to choose from; ask for more --trials.")
    scores: dict[int, float] = {}
    for place, trial in enumerate(candidates):
        announce(f"re-evaluate trial {trial.number}", place, len(candidates))
        units = plan.units(decoded(trial.params), plan.config.seed + HELD_OUT_SEED_OFFSET, plan.settings.reseeds)
        found = _values(study, f"fresh/{trial.number}", units, executor)
        kept = [value for value in found if value is not None]
        if kept:
            scores[trial.number] = fmean(kept)
    if not scores:
        raise RunError("none of the best trials could be trained again with fresh seeds; see its failure in the log.")
    best = max(scores, key=lambda number: (scores[number], -number))
    return next(t for t in candidates if t.number == best), scores[best]


def _values(study: Study, key: str, units: Sequence[TrainingJob], executor: Executor) -> list[float | None]:
    """What the units measure, None where one failed; as many at a time as the executor takes, each done once."""
    known = study.user_attrs
    names = [f"{key}/{place}" for place in range(len(units))]
    left = [(name, unit) for name, unit in zip(names, units, strict=True) if name not in known]
    for start in range(0, len(left), executor.width):
        some = left[start : start + executor.width]
        for (name, _), one in zip(some, executor.run([unit for _, unit in some]), strict=True):
            study.set_user_attr(name, None if one.failure else one.value)
    known = study.user_attrs
    return [known[name] for name in names]


def is_default(trial: FrozenTrial) -> bool:
    """Whether the trial is the default configuration."""
    return trial.user_attrs.get("guess") == DEFAULT


def median_trial(study: Study) -> FrozenTrial:
    """The trial in the middle by validation: what picking one at random would give."""
    ranked = complete(study)
    return ranked[len(ranked) // 2]


def finals(
    study: Study,
    plan: StudyPlan,
    winner: FrozenTrial,
    session: "Session",
    open_run: OpenRun,
    announce: ProgressCallback,
) -> list[Final]:
    """`seeds` x `data_seeds` fresh runs of the winner and of the default configuration.

    Of the median trial only the validation is measured. Runs that a killed process finished are not repeated. Where
    the default is the winner, its runs stand in both roles: they are made once.
    """
    roles: dict[str, Values] = {
        "winner": decoded(winner.params),
        "default": {},
        "median": decoded(median_trial(study).params),
    }
    first, settings = plan.config, plan.settings
    places = [
        (s + first.seed + HELD_OUT_SEED_OFFSET, d + first.data_seed)
        for d in range(settings.data_seeds)
        for s in range(settings.seeds)
    ]
    found: list[Final] = []
    total = len(places) * len(roles)
    for role, values in roles.items():
        for seed, data_seed in places:
            if role == "default" and is_default(winner):
                found.append(replace(found[len(found) - len(places)], role=role))
                continue
            announce(f"final {role}, seed {seed}·{data_seed}", len(found), total)
            config = plan.config_of(values, seed=seed, data_seed=data_seed, log_model=role == "winner")

            def make(role: str = role, config: RunConfig = config) -> dict[str, Any]:
                return _final(role, config, plan, session, open_run)

            kept = remembered(study, f"final/{role}/{seed}/{data_seed}", make)
            found.append(Final(role, seed, data_seed, kept["metrics"], kept["run_id"]))
    return found


def _final(role: str, config: RunConfig, plan: StudyPlan, session: "Session", open_run: OpenRun) -> dict[str, Any]:
    from effft.runs.experiment import execute
    from effft.runs.plan import prepare

    if role == "median":
        found = measure(TrainingJob(config), session)
        if found.failure:
            raise RunError(f"final run of the median trial: {found.failure}")
        return {"metrics": {f"validation/{plan.metric}": found.value}, "run_id": ""}
    run = prepare(config, session)
    tuned = str(role == "winner").lower()
    tags = {**run.tags, "study": plan.name, "tuned": tuned, "role": role, "kind": "final"}
    tracker = open_run(run.experiment, f"{'tuned' if role == 'winner' else role} {run.name}", tags)
    with tracked(tracker):
        result = execute(run, tracker)
    ends = (f"/{plan.metric}", "/majority", "/chance")
    kept = {k: v for k, v in result.metrics.items() if k.endswith(ends) or k.startswith("resources/")}
    return {"metrics": kept, "run_id": tracker.run_id}


def best_final(found: Sequence[Final], metric: str) -> Final:
    """The winner's run that is best on validation, the one to be registered."""
    return max((f for f in found if f.role == "winner"), key=lambda f: f.value("validation", metric))
