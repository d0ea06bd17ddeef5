"""Samplers and pruners by name, and the law of proposals: a trial depends on seed, number and earlier results alone."""

import warnings
from collections.abc import Callable, Sequence
from statistics import median

import optuna
from optuna import pruners, samplers
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from effft.search.settings import DIRECTIONS, StudyPlan
from effft.search.spaces import distributions

WIDE = 8  # Trials at a time from which TPE with constant liar takes over from the Gaussian process.
LONG = 40  # Trials after which TPE takes over as well: fitting the process costs more with every one.
EPOCHS = "epochs"  # The median pruner that looks at epochs, not at folds.

WARM = 5
"""Finished trials before a median says anything; pruned ones count, as survivors alone would raise it ever more."""

SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "gp": lambda seed: samplers.GPSampler(seed=seed, deterministic_objective=False, n_startup_trials=8),
    "tpe": lambda seed: samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True, n_startup_trials=8),
    "random": lambda seed: samplers.RandomSampler(seed=seed),
    "nsga2": lambda seed: samplers.NSGAIISampler(seed=seed),
}
PRUNERS: dict[str, Callable[[], BasePruner]] = {
    "wilcoxon": lambda: pruners.WilcoxonPruner(p_threshold=0.1),
    "median": lambda: pruners.MedianPruner(n_startup_trials=WARM),
    EPOCHS: lambda: pruners.NopPruner(),  # units stop themselves, see `epoch_thresholds`
    "none": lambda: pruners.NopPruner(),
}
DONE = (TrialState.COMPLETE, TrialState.PRUNED)  # Finished: it said what it had to say. Failed trials did not.


def sampler_name(name: str, number: int, width: int) -> str:
    """The sampler of a trial; 'auto' depends on its number and on how many are measured at a time."""
    return ("tpe" if width >= WIDE or number >= LONG else "gp") if name == "auto" else name


def study_in_memory(plan: StudyPlan, trials: Sequence[FrozenTrial], sampler: BaseSampler | None = None) -> Study:
    """Trials as an Optuna study that is kept nowhere, for what samplers, pruners and plots compute from them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        directions = [DIRECTIONS[name] for name in plan.settings.objectives]
        pruner = PRUNERS[plan.settings.pruner]()
        study = optuna.create_study(study_name=plan.name, directions=directions, sampler=sampler, pruner=pruner)
    study.add_trials(trials)
    return study


def propose(plan: StudyPlan, earlier: Sequence[FrozenTrial], width: int) -> Trial:
    """The trial that follows `earlier`, as the only unfinished one of a study in memory that holds what it may know.

    Trial k knows the results of trials 0 to k - width and of the others only what they try, whether they have ended or
    not. So it depends on the seed, k, width and those results, and not on which trial ends first or on interruptions.
    """
    number = len(earlier)
    known = max(0, number - width + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        chosen = SAMPLERS[sampler_name(plan.settings.sampler, number, width)]
        study = study_in_memory(plan, earlier[:known], chosen((plan.config.seed * 1_000_003 + number) % 2**32))
        for trial in earlier[known:]:
            study.add_trial(
                create_trial(state=TrialState.RUNNING, params=trial.params, distributions=trial.distributions)
            )
        if number < len(plan.guesses):
            study.enqueue_trial(dict(plan.guesses[number]), user_attrs={"guess": number})
        return study.ask(distributions(plan.space))


def epoch_thresholds(trials: Sequence[FrozenTrial], step: int) -> tuple[float, ...]:
    """After every epoch of a trial's unit `step`, the median score that finished trials had there.

    The median rule of Golovin et al. (2017, Google Vizier, section 3.1), epoch by epoch. () before five trials are
    finished; an epoch that fewer than five trials reached has no bar, nor have those after it.
    """
    curves = [trial.user_attrs["measured"].get("curves", [])[step : step + 1] for trial in trials]
    known = [one[0] for one in curves if one]
    bars: list[float] = []
    for epoch in range(max(map(len, known), default=0)):
        reached = [curve[epoch] for curve in known if len(curve) > epoch]
        if len(reached) < WARM:
            break
        bars.append(median(reached))
    return tuple(bars)


optuna.logging.set_verbosity(optuna.logging.ERROR)
