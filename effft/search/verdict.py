"""Did the search pay? The winner against the default and against the median trial, on the same fresh seeds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from effft.search.finals import Final

RESAMPLES = 10_000


@dataclass(frozen=True)
class Difference:
    """Mean of the paired differences over `pairs` runs, with a 95 % bootstrap interval."""

    mean: float
    low: float
    high: float
    pairs: int

    def __str__(self) -> str:
        return f"{self.mean:+.4f} [{self.low:+.4f}, {self.high:+.4f}], {self.pairs} pairs"

    @property
    def sure(self) -> bool:
        """Whether the interval lies above zero."""
        return self.low > 0


def difference(ours: Sequence[float], theirs: Sequence[float], seed: int = 0) -> Difference:
    """Paired, percentile bootstrap over the pairs (Efron 1979); of a single pair the interval is everything."""
    gaps = np.asarray(ours) - np.asarray(theirs)
    if len(gaps) < 2:
        return Difference(float(gaps.mean()), float("-inf"), float("inf"), len(gaps))
    rng = np.random.default_rng(seed)
    means = rng.choice(gaps, size=(RESAMPLES, len(gaps))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Difference(float(gaps.mean()), float(low), float(high), len(gaps))


def compared(found: Sequence[Final], other: str, split: str, metric: str) -> Difference:
    """Winner minus another role, paired by seed and data_seed."""
    pairs = _beside(found, other)
    return difference([f.value(split, metric) for f, _ in pairs], [o.value(split, metric) for _, o in pairs])


def _beside(found: Sequence[Final], other: str) -> list[tuple[Final, Final]]:
    """The winner's runs with the other role's on the same seeds."""
    theirs = {(f.seed, f.data_seed): f for f in found if f.role == other}
    return [(f, theirs[f.seed, f.data_seed]) for f in found if f.role == "winner"]


def verdict(found: Sequence[Final], metric: str) -> Iterator[str]:
    """Sentences, from what was selected on (validation) to what nothing selected on (in domain, OOD)."""
    default = compared(found, "default", "validation", metric)
    median = compared(found, "median", "validation", metric)
    yield f"validation {metric} on fresh seeds: {means(found, 'validation', metric)}."
    yield f"winner - default: {default}; winner - median trial: {median} (95 % bootstrap)."
    splits = sorted({key.removesuffix(f"/{metric}") for f in found if f.role == "winner" for key in f.metrics})
    for split in splits:
        if split == "in_domain" or (split.startswith("ood/") and split.count("/") == 1):
            gap = compared(found, "default", split, metric)
            yield f"{split} {metric}: {means(found, split, metric)}; winner - default: {gap}."
    if all(f.run_id == o.run_id and f.metrics == o.metrics for f, o in _beside(found, "default")):
        yield "The search found nothing better than the default configuration, which is the winner."
    if median.sure and default.sure:
        yield "The search paid: the winner is above the default and above the median trial."
    elif median.sure:
        yield "The winner is above the median trial, but not surely above the default configuration."
    else:
        if default.sure:
            yield "The winner is above the default configuration."
        yield (
            "Selection did not surely beat a random pick: the winner is not clearly above the median trial, as Perez "
            "et al. (2021, arXiv 2105.11447) found of cross-validation with few examples."
        )


def means(found: Sequence[Final], split: str, metric: str) -> str:
    """'winner 0.912, default 0.871'."""
    roles = list(dict.fromkeys(f.role for f in found if f"{split}/{metric}" in f.metrics))
    return ", ".join(f"{r} {fmean(f.value(split, metric) for f in found if f.role == r):.4f}" for r in roles)
