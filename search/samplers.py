"""Samplers and pruners by name, and the defaults."""

import warnings
from collections.abc import Callable

from optuna import Study, pruners, samplers
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from effft.errors import lookup

WIDE = 8
"""Trials at a time from which TPE with constant liar takes over from the Gaussian process."""

SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "gp": lambda seed: samplers.GPSampler(seed=seed, deterministic_objective=False, n_startup_trials=8),
    "tpe": lambda seed: samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True, n_startup_trials=8),
    "random": lambda seed: samplers.RandomSampler(seed=seed),
    "nsga2": lambda seed: samplers.NSGAIISampler(seed=seed),
}
PRUNERS: dict[str, Callable[[], BasePruner]] = {
    "wilcoxon": lambda: pruners.WilcoxonPruner(p_threshold=0.1),
    "median": lambda: pruners.MedianPruner(n_startup_trials=5),
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
    chosen = ("tpe" if width >= WIDE else "gp") if name == "auto" else name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.sampler = SAMPLERS[chosen]((seed * 1_000_003 + len(study.get_trials(deepcopy=False))) % 2**32)


def pruner_of(name: str) -> BasePruner:
    """The pruner."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return PRUNERS[name]()
