"""What to do after a search: the winner against the default and the median trial, on the same fresh seeds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from optuna.trial import FrozenTrial

from effft.evaluation.statistics import PairedDifference, paired_difference
from effft.search.finals import Final, judged_on
from effft.search.mlflow_log import words_of


@dataclass(frozen=True)
class Verdict:
    """What a study recommends.

    Args:
        recommended: 'winner' or 'default': the one with the higher mean validation over the final runs.
        trial: Number of the recommended trial; None for a default that no trial tried.
        search_score: The winner's mean over folds in its trial: what made it a candidate.
        reevaluation: The winner's mean over fresh seeds and folds: what made it the winner.
        final_mean: Mean validation of the recommended configuration's final runs.
        sentences: The recommendation first, then the numbers.
    """

    recommended: str
    trial: int | None
    search_score: float
    reevaluation: float
    final_mean: float
    sentences: tuple[str, ...]


def verdict(
    finals: Sequence[Final],
    metric: str,
    winner: FrozenTrial,
    reevaluation: float,
    default: int | None,
    constraints: Sequence[tuple[str, float]] = (),
) -> Verdict:
    """Judge by validation alone; nothing selects on what is measured in domain or OOD.

    reevaluation: the winner's mean there. default: number of the trial that is the default configuration, if any.
    constraints: a resource and the most of it that may be; a default that breaks one is kept only where the winner
    does too.
    """
    split = judged_on(finals, metric)
    gap = _difference(finals, "default", split, metric)
    broken = {role: _broken(finals, role, constraints) for role in ("winner", "default")}
    barred = "" if broken["winner"] else broken["default"]
    better = winner.number != default and (gap.mean > 0 or bool(barred))
    role, trial = ("winner", winner.number) if better else ("default", default)
    mean = fmean(final.value(split, metric) for final in finals if final.role == role)
    numbers = (
        f"trial {winner.number} ({words_of(winner)}): search score {winner.values[0]:.4f}, re-evaluation "
        f"{reevaluation:.4f}; final means on {split}, by {metric}: {_means(finals, split, metric)}."
    )
    sentences = (
        _recommendation(winner.number, better, winner.number == default, gap, barred), numbers,
        *_splits(finals, metric),
        *_against_chance(_difference(finals, "median", split, metric), gap, winner.number == default),
        *([f"What is recommended breaks a constraint: {broken[role]}."] if broken[role] else []),
    )  # fmt: skip
    return Verdict(role, trial, winner.values[0], reevaluation, mean, sentences)


def _broken(finals: Sequence[Final], role: str, constraints: Sequence[tuple[str, float]]) -> str:
    """'trainable_parameters of the default is 900, more than 500'; '' where a role keeps every constraint."""
    for name, most in constraints:
        highest = max(final.metrics[f"resources/{name}"] for final in finals if final.role == role)
        if highest > most:
            return f"{name} of the {role} is {highest:,.6g}, more than {most:,.6g}"
    return ""


def _recommendation(number: int, better: bool, is_default: bool, gap: PairedDifference, barred: str) -> str:
    if is_default:
        return "Keep the default: the search found nothing better than the default configuration."
    if barred:
        return f"Use trial {number}: {barred}; winner - default on fresh seeds: {gap}."
    if better:
        unsure = "" if gap.above_zero else ", though not surely"
        return f"Use trial {number}: better than the default by {gap.mean:.4f} on fresh seeds{unsure} ({gap})."
    if gap.below_zero:
        return f"Keep the default: better than trial {number} by {-gap.mean:.4f} on fresh seeds ({gap})."
    return f"Keep the default: trial {number} is not better on fresh seeds ({gap})."


def _splits(finals: Sequence[Final], metric: str) -> Iterator[str]:
    """A sentence for every set that nothing selected on."""
    for split in sorted({key.removesuffix(f"/{metric}") for f in finals if f.role == "winner" for key in f.metrics}):
        if split == "in_domain" or (split.startswith("ood/") and split.count("/") == 1):
            gap = _difference(finals, "default", split, metric)
            yield f"{split} {metric}: {_means(finals, split, metric)}; winner - default: {gap}."


def _against_chance(median: PairedDifference, default: PairedDifference, is_default: bool) -> Iterator[str]:
    """Whether the selection was worth more than picking a trial at random."""
    if median.above_zero and default.above_zero:
        yield "The search paid: the winner is above the default and above the median trial."
    elif median.above_zero:
        yield "The winner is above the median trial" + (
            "." if is_default else ", but not surely above the default configuration."
        )
    else:
        if default.above_zero:
            yield "The winner is above the default configuration."
        yield (
            "Selection did not surely beat a random pick: the winner is not clearly above the median trial "
            f"({median}), as Perez et al. (2021, arXiv 2105.11447) found of cross-validation with few examples."
        )


def _difference(finals: Sequence[Final], other: str, split: str, metric: str) -> PairedDifference:
    """Winner minus another role, paired by seed and data_seed."""
    ours, theirs = (
        {(f.seed, f.data_seed): f.value(split, metric) for f in finals if f.role == role} for role in ("winner", other)
    )
    gap = paired_difference(ours, theirs)
    assert gap is not None
    return gap


def _means(finals: Sequence[Final], split: str, metric: str) -> str:
    """'winner 0.9120, default 0.8710'."""
    roles = list(dict.fromkeys(f.role for f in finals if f"{split}/{metric}" in f.metrics))
    return ", ".join(f"{r} {fmean(f.value(split, metric) for f in finals if f.role == r):.4f}" for r in roles)
