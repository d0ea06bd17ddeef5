"""Samplers and pruners by name, and the defaults."""

import warnings
from collections.abc import Callable, Sequence
from statistics import median

from optuna import Study, pruners, samplers
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from effft.errors import lookup

WIDE = 8
"""Trials at a time from which TPE with constant liar takes over from the Gaussian process."""

LONG = 40
"""Trials after which TPE takes over as well: fitting the process costs more with every one."""

EPOCHS = "epochs"
"""The median pruner that looks at epochs, not at folds."""

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
    EPOCHS: lambda: pruners.NopPruner(),  # units stop themselves, see `epoch_bars`
    "none": lambda: pruners.NopPruner(),
}


def check_names(sampler: str, pruner: str) -> None:
    """Unknown names are InputErrors; 'auto' is known."""
    lookup("sampler", sampler, {**SAMPLERS, "auto": None})
    lookup("pruner", pruner, PRUNERS)


def reseed(study: Study, name: str, seed: int, width: int) -> None:
    """Give the study a fresh sampler whose draws depend on the seed and on the number of trials.

    So a resumed study goes on as if it had never stopped, and never repeats its first draws.
    """
    so_far = len(study.get_trials(deepcopy=False))
    chosen = ("tpe" if width >= WIDE or so_far >= LONG else "gp") if name == "auto" else name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.sampler = SAMPLERS[chosen]((seed * 1_000_003 + so_far) % 2**32)


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


def pruner_of(name: str) -> BasePruner:
    """The pruner."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return PRUNERS[name]()
