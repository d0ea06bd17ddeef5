"""The answer as a set: how likely each finalist is the best, what a wrong choice costs, and which are within noise."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from effft.choice.ledger import Arm, Unit
from effft.evaluation.statistics import Array, crossed_weights
from effft.reports.blocks import Table

NOISE = 0.05
"""A finalist is within noise of the best unless it is at least as good in fewer of the bootstrap draws than this."""

FEW_ROWS = 32
"""Rows below which the ranking is mostly noise: nothing is tuned, and the cheapest safe strategy is recommended.

Measured on the built-in tasks: at 16 rows cross-validation and test rank strategies with correlations of 0.62 and
0.12, at 64 rows of 0.90 and 0.96.
"""


@dataclass(frozen=True)
class Judged:
    """A finalist on the units that all finalists have.

    best: share of the draws in which it is the best. regret: mean over the draws of what it is below the best.
    low, high: 95 % interval of its mean. near: share of the draws in which it is at least as good as the one with the
    highest mean.
    """

    arm: Arm
    mean: float
    low: float
    high: float
    best: float
    regret: float
    near: float

    @property
    def interval(self) -> tuple[float, float] | None:
        """Its 95 % interval; None where too few units were measured."""
        return None if np.isnan(self.low) else (self.low, self.high)

    @property
    def score(self) -> str:
        """'0.870 [0.790, 0.930]'."""
        return f"{self.mean:.3f}" + (f" [{self.low:.3f}, {self.high:.3f}]" if self.interval else "")

    @property
    def within_noise(self) -> bool:
        """Whether it may be as good as the one with the highest mean."""
        return self.near >= NOISE


def draws_of(scores: Array, folds: int) -> Array:
    """Paired bootstrap draws of the means, (resamples, arms).

    Units are resampled, the same for all arms. The deviations from the mean are widened, because units share most of
    their training rows: of the variance of a unit, estimated with n - 1, a mean has not 1 / n but 1 / n + 1 / (folds -
    1) (Nadeau and Bengio 2003, "Inference for the generalization error", section 3).

    Args:
        scores: (arms, units), at least 2 units.
        folds: of which each unit validates one.
    """
    units = scores.shape[1]
    weights = crossed_weights(np.arange(units), np.zeros(units, dtype=np.int64))
    means = scores.mean(axis=1)
    wider = np.sqrt((1 + units / (folds - 1)) * units / (units - 1))
    result: Array = means + wider * ((weights / weights.sum(axis=1, keepdims=True)) @ scores.T - means)
    return result


def judge(arms: Sequence[Arm], units: Sequence[Unit], folds: int) -> list[Judged]:
    """The finalists, the highest mean first, of equal means the cheaper. A draw that several win is shared.

    units: that all of them were measured on. Where they are fewer than the folds nothing can be told: each may be the
    best.
    """
    order = sorted(arms, key=lambda arm: arm.cost)
    scores = np.array([[arm.scores[unit] for unit in units] for arm in order])
    means = scores.mean(axis=1)
    told = len(units) >= folds
    draws = draws_of(scores, folds) if told else np.tile(means.max(), (1, len(order)))
    highest = draws.max(axis=1, keepdims=True)
    wins = draws >= highest - 1e-9
    near = draws >= draws[:, [means.argmax()]] - 1e-9
    low, high = np.quantile(draws, [0.025, 0.975], axis=0) if told else np.full((2, len(order)), np.nan)
    columns = zip(
        order, means, low, np.minimum(high, 1), (wins / wins.sum(axis=1, keepdims=True)).mean(axis=0),
        (highest - draws).mean(axis=0), near.mean(axis=0), strict=True,
    )  # fmt: skip
    found = [Judged(arm, *map(float, numbers)) for arm, *numbers in columns]
    return sorted(found, key=lambda one: -one.mean)


def chosen(judged: Sequence[Judged], rows: int, floor: float) -> Judged:
    """The one with the highest mean; with few rows the cheapest that is within noise of it and not below the floor.

    floor: mean of always answering the most frequent label.
    """
    if rows >= FEW_ROWS or not judged[0].interval:
        return judged[0]
    safe = [one for one in judged if one.within_noise and one.mean >= floor] or judged[:1]
    return min(safe, key=lambda one: one.arm.cost)


def price(arm: Arm) -> str:
    """'0.8 s, 760 MB'."""
    return f"{_short(arm.resource('train_seconds'))} s, {arm.resource('peak_memory_mb'):,.0f} MB"


def _short(value: float) -> str:
    """Two digits, and no exponent."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def sentences(
    judged: Sequence[Judged], best: Judged, controls: Sequence[Arm], rows: int, metric: str, units: int
) -> Iterator[str]:
    """What to do, and how sure that is."""
    name = best.arm.candidate.label
    if not best.interval:
        yield f"Use {name}: {metric} {best.score} on {units} of the folds; more --minutes are needed to tell more."
    else:
        yield (
            f"Use {name}: {metric} {best.score} on {units} folds; it is the best with probability {best.best:.2f}, and "
            f"the expected loss against the best is {best.regret:.3f}."
        )
    near = [one for one in judged if one.within_noise]
    if not best.interval:
        names = ", ".join(one.arm.candidate.label for one in near)
        yield f"Nothing tells {names} apart yet: they were not measured on every fold."
        return
    cheap = min(near, key=lambda one: one.arm.cost)
    names = ", ".join(one.arm.candidate.label for one in near)
    if len(near) > 1:
        cost = f"{cheap.arm.candidate.label} ({price(cheap.arm)})"
        yield f"Within noise of the best: {names}; the cheapest of them is {cost}."
    else:
        yield f"Nothing else is within noise of it ({price(best.arm)})."
    if rows < FEW_ROWS:
        yield (
            f"With {rows} rows the ranking is mostly noise, so the cheapest strategy that is within noise of the best "
            f"is recommended; label at least {FEW_ROWS} rows to tell strategies apart."
        )
    for arm in controls:
        below = [one for one in judged if one.arm.scores.keys() >= arm.scores.keys() and one.mean <= arm.mean]
        if arm.mean >= best.mean:
            yield (
                f"No strategy is above {arm.candidate.label} ({arm.mean:.3f}): the model may not read these texts, or "
                "the labels may not be in them."
            )
        elif below:
            low = ", ".join(one.arm.candidate.label for one in below)
            yield f"Not above {arm.candidate.label} ({arm.mean:.3f}): {low}."


def table(arms: Sequence[Arm], judged: Sequence[Judged], dropped: Mapping[str, str], metric: str) -> Table:
    """Every candidate: score, P(best), what it costs, and whether it is on the Pareto front of score and costs."""
    finalists = {one.arm.candidate.label: one for one in judged}
    shown = sorted(
        (arm for arm in arms if arm.scores), key=lambda arm: (arm.candidate.label not in finalists, -arm.mean)
    )
    points = [_point(arm, finalists) for arm in shown if not arm.candidate.control]
    rows = []
    for arm in shown:
        one, control = finalists.get(arm.candidate.label), bool(arm.candidate.control)
        score = one.score if one else f"{arm.mean:.3f}"
        costs = [f"{arm.resource('peak_memory_mb'):,.0f}", _short(arm.resource("train_seconds")), _short(arm.latency)]
        on_front = not control and not any(_dominates(p, _point(arm, finalists)) for p in points)
        rows.append([
            arm.candidate.label, score, str(len(arm.scores)), f"{one.best:.2f}" if one else "-",
            *(["-"] * 3 if control else costs), "yes" if on_front else "", arm.failure,
        ])  # fmt: skip
    rows += [[name, *["-"] * 6, "", reason] for name, reason in dropped.items()]
    heads = ("candidate", metric, "folds", "P(best)", "peak MB", "train s", "ms a query", "Pareto", "left out")
    caption = "Pareto: no other candidate is at least as good in score, memory, seconds and milliseconds"
    return Table(heads, rows, caption, left=(0, 8))


def _point(arm: Arm, finalists: Mapping[str, Judged]) -> tuple[float, ...]:
    """Score and costs, all the larger the better."""
    one = finalists.get(arm.candidate.label)
    costs = (arm.resource("peak_memory_mb"), arm.resource("train_seconds"), arm.latency)
    return (one.mean if one else arm.mean, *(-cost for cost in costs))


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))
