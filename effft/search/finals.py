"""After the trials: the top 3 on fresh seeds, then winner, default and median trial trained anew on further ones."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from optuna.trial import FrozenTrial

from effft.config import RunConfig
from effft.errors import DivergedError, RunError
from effft.evaluation.metric_keys import CROSS_VALIDATED
from effft.progress import ProgressCallback
from effft.search.budget import Clock
from effft.search.jobs import Executor, TrainingJob, measure_all
from effft.search.settings import HELD_OUT_SEED_OFFSET, StudyPlan
from effft.search.spaces import decoded
from effft.search.storage import StoredStudy
from effft.tracking.tracker import Tracker, tracked

if TYPE_CHECKING:
    from effft.runs.session import Session

OpenRun = Callable[[str, str, Mapping[str, str]], Tracker]  # (experiment, name, tags) -> a tracker of a final run.
DIVERGED = "diverged"  # Name among the results, with a trial's number: why its final run has no score.
TOP = 3  # Trials that are measured again, beside the default: the best of noisy numbers is too good to be true.


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


def sound(stored: StoredStudy) -> list[FrozenTrial]:
    """The complete trials, the best first, without those whose final run diverged."""
    return [trial for trial in stored.complete if f"{DIVERGED}/{trial.number}" not in stored.results]


def left_out(stored: StoredStudy) -> list[str]:
    """A sentence for every trial whose final run diverged."""
    whys = [(trial.number, stored.results.get(f"{DIVERGED}/{trial.number}")) for trial in stored.trials]
    return [f"Trial {number} is left out, as it diverged when trained anew: {why}" for number, why in whys if why]


def allowed(trials: Sequence[FrozenTrial], constraints: Sequence[tuple[str, float]]) -> list[FrozenTrial]:
    """The trials that keep every constraint; all of them when none does."""

    def keeps(trial: FrozenTrial) -> bool:
        resources = trial.user_attrs["measured"]["resources"]
        return all(resources[name] <= most for name, most in constraints)

    return [trial for trial in trials if keeps(trial)] or list(trials)


def choose(
    stored: StoredStudy, plan: StudyPlan, executor: Executor, progress: ProgressCallback, clock: Clock | None = None
) -> tuple[FrozenTrial, float]:
    """The winner: of the top 3 and the default, the best mean validation over fresh seeds (and folds cut anew).

    The default takes part, whatever its first score was: a search that finds nothing better keeps it. Also returned:
    the winner's mean. What an earlier process measured is not measured again. With a clock, seeds after the first are
    left out that would not end in time.

    Raises:
        RunError: no trial is complete, none can be measured again, or the final run of each has diverged.
    """
    trials = sound(stored)
    if stored.complete and not trials:
        raise RunError(
            "no trial is left that does not diverge when trained anew: go on with more --trials, or begin a study of "
            f"another name (--study NAME) with lower learning rates. {left_out(stored)[-1]}"
        )
    ranked = allowed(trials, plan.settings.constraints)
    candidates = ranked[:TOP] + [trial for trial in ranked[TOP:] if is_default(trial, plan)]
    if not candidates:
        raise RunError("no trial is complete, so there is nothing to choose from; ask for more --trials.")
    names: dict[int, list[str]] = {trial.number: [] for trial in candidates}
    settings, first, took = plan.settings, plan.config.seed + 2 * HELD_OUT_SEED_OFFSET, 0.0
    for seed in range(first, first + settings.reseeds):
        units = {trial.number: plan.units(decoded(trial.params), seed, 1) for trial in candidates}
        named = {number: {f"fresh/{plan.digest(unit)}": unit for unit in own} for number, own in units.items()}
        left = {name: u for own in named.values() for name, u in own.items() if name not in stored.results}
        if left and seed > first and clock and not clock.fits(took or clock.again):
            break
        begun = time.monotonic()
        for done, (name, result) in enumerate(measure_all(executor, left)):
            progress(f"re-evaluation, seed {seed}", done, len(left))
            stored.keep(name, None if result.failure else result.value)
            _note(clock)
        took = max(took, time.monotonic() - begun) if left else took  # what an earlier process made took it no time
        for number, own in named.items():
            names[number] += own
    kept = {number: [stored.results[name] for name in of_trial] for number, of_trial in names.items()}
    measured = {number: [v for v in values if v is not None] for number, values in kept.items()}
    most = max(map(len, measured.values()))  # what failed where others did not is not judged by the rest
    scores = {number: fmean(values) for number, values in measured.items() if values and len(values) == most}
    if not scores:
        raise RunError("none of the best trials could be trained again with fresh seeds; see its failure in the log.")
    best = max(scores, key=lambda number: (scores[number], -number))
    return stored.trials[best], scores[best]


def is_default(trial: FrozenTrial, plan: StudyPlan) -> bool:
    """Whether the trial is the default configuration."""
    return trial.user_attrs.get("guess") == 0 and not plan.excluded


def finals(
    stored: StoredStudy,
    plan: StudyPlan,
    winner: FrozenTrial,
    session: "Session",
    open_run: OpenRun,
    progress: ProgressCallback,
    clock: Clock | None = None,
) -> list[Final]:
    """`seeds` x `data_seeds` fresh runs of the winner and of the default configuration.

    Of the median trial only the validation is measured. A run is kept by what was trained, so that none is made twice:
    not after a kill, not where the default is the winner, and not where more trials leave the winner what it was.
    With a clock, seeds after the first are left out that would not end in time; every role has the same ones.

    Returns:
        The runs; none where that of the winner or of the median trial diverged, which is noted as that trial's.
    """
    first, settings, trials = plan.config, plan.settings, sound(stored)
    median = trials[len(trials) // 2]
    of_role = {"winner": winner.number, "median": median.number}
    if is_default(winner, plan):
        del of_role["winner"]
    places = [
        (s + first.seed + HELD_OUT_SEED_OFFSET, d + first.data_seed)
        for d in range(settings.data_seeds)
        for s in range(settings.seeds)
    ]
    default = plan.default.model_dump(exclude_unset=True)

    def config_of(role: str, seed: int, data_seed: int) -> RunConfig:
        seeds = {"seed": seed, "data_seed": data_seed}
        if role == "median":  # by validation: what picking one at random would give
            return plan.config_of(decoded(median.params), **seeds, log_model=False)
        if role == "default" or is_default(winner, plan):
            return RunConfig(**{**default, **seeds, "log_model": True})
        return plan.config_of(decoded(winner.params), **seeds, log_model=True)

    runs: list[Final] = []
    roles, took = ("winner", "default", "median"), 0.0
    for place, (seed, data_seed) in enumerate(places):
        begun = time.monotonic()
        configs = {role: config_of(role, seed, data_seed) for role in roles}
        names = {
            role: f"{'validation' if role == 'median' else 'final'}/{plan.digest(TrainingJob(config))}"
            for role, config in configs.items()
        }
        left = set(names.values()) - stored.results.keys()
        if place and clock and left and not clock.fits(took or clock.last):
            break
        for role in roles:
            progress(f"final {role}, seed {seed}·{data_seed}", len(runs), len(places) * len(roles))
            if names[role] not in stored.results:
                try:
                    _make(stored, names[role], role, configs[role], plan, session, open_run)
                except DivergedError as error:
                    if role not in of_role:
                        raise
                    if names["default"] not in stored.results:  # which diverges too where the model or the data do it
                        _make(stored, names["default"], "default", configs["default"], plan, session, open_run)
                    stored.keep(f"{DIVERGED}/{of_role[role]}", str(error))
                    return []
                _note(clock)
            kept = stored.results[names[role]]
            runs.append(Final(role, seed, data_seed, kept["metrics"], kept["run_id"]))
        took = max(took, time.monotonic() - begun) if left else took
    return sorted(runs, key=lambda final: roles.index(final.role))


def _note(clock: Clock | None) -> None:
    if clock:
        clock.note()


def _make(
    stored: StoredStudy, name: str, role: str, config: RunConfig, plan: StudyPlan, session: "Session", open_run: OpenRun
) -> None:
    """Make a final run and keep its result, before the tracker says that it is finished."""
    from effft.runs.experiment import execute
    from effft.runs.plan import prepare

    if role == "median":
        stored.keep(name, {"metrics": _median(config, plan, session), "run_id": ""})
        return
    run = prepare(config, session)
    tuned = str(role == "winner").lower()
    tags = {**run.tags, "study": plan.name, "tuned": tuned, "role": role, "kind": "final"}
    with tracked(open_run(run.experiment, f"{'tuned' if role == 'winner' else role} {run.name}", tags)) as tracker:
        metrics = execute(run, tracker).metrics
        ends = (f"/{plan.metric}", "majority", "chance")
        kept: dict[str, Any] = {k: v for k, v in metrics.items() if k.endswith(ends) or k.startswith("resources/")}
        stored.keep(name, {"metrics": kept, "run_id": tracker.run_id})


def _median(config: RunConfig, plan: StudyPlan, session: "Session") -> dict[str, float]:
    """What the median trial is judged by."""
    from effft.runs.experiment import execute
    from effft.runs.plan import draws_validation, prepare, prepare_validation
    from effft.tracking.tracker import MemoryTracker

    draws = draws_validation(config, session.task(config))
    key = f"{'validation' if draws else CROSS_VALIDATED}/{plan.metric}"
    run = prepare_validation(config, session) if draws else prepare(config, session)
    return {key: execute(run, MemoryTracker()).metrics[key]}


def judged_on(runs: Sequence[Final], metric: str) -> str:
    """The split that final runs are judged by: the validation draw, else the out-of-fold estimate."""
    return "validation" if all(f"validation/{metric}" in final.metrics for final in runs) else CROSS_VALIDATED
