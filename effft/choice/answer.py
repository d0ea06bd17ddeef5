"""The answer as a set: how likely each finalist is the best, what a wrong choice costs, and which are within noise."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from effft.choice.ledger import Arm
from effft.choice.posterior import Pooled, Unit, bounds_of, mixed, posterior
from effft.reports.blocks import Table
from effft.tasks.task import Task

NOISE = 0.05
"""A finalist is within noise of the best unless it is at least as good in fewer of the bootstrap draws than this."""

LITTLE = 0.02
"""With few rows the cheapest is recommended whose expected loss is at most so much above the least one."""

FEW_ROWS = 32
"""Rows below which the ranking is mostly noise: nothing is tuned, and the cheapest safe strategy is recommended.

Measured on the built-in tasks: at 16 rows cross-validation and test rank strategies with correlations of 0.62 and
0.12, at 64 rows of 0.90 and 0.96.
"""


@dataclass(frozen=True)
class Judged:
    """A finalist on the units that all finalists have.

    mean: its score over all rows of these units. low, high: 95 % interval. The others are of draws of the smoothed
    score. best: share of those in which it is the best. regret: mean of what it is below the best. near: share of those
    in which it is at least as good as the one that is ranked first.
    """

    arm: Arm
    mean: float
    low: float
    high: float
    best: float
    regret: float
    near: float

    @property
    def score(self) -> str:
        """'0.870 [0.790, 0.930]'."""
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"

    @property
    def within_noise(self) -> bool:
        """Whether it may be as good as the one that is ranked first."""
        return self.near >= NOISE


def judge(arms: Sequence[Arm], units: Sequence[Unit], folds: int, task: Task, metric: str) -> list[Judged]:
    """The finalists, the highest smoothed score first, of equal ones the cheaper. A draw that several win is shared."""
    order = sorted(arms, key=lambda arm: arm.cost)
    answers = [{unit: arm.answers[unit] for unit in units} for arm in order]
    pooled, smooth = ([Pooled(own, task, metric, how) for own in answers] for how in (False, True))
    ranks = np.array([one.score for one in smooth])
    (low, high), draws = bounds_of(posterior(pooled)), mixed(posterior(smooth, folds))
    wins, near = draws >= draws.max(axis=0) - 1e-9, draws >= draws[ranks.argmax()] - 1e-9
    columns = zip(
        order, [one.score for one in pooled], low, high, (wins / wins.sum(axis=0)).mean(axis=1),
        (draws.max(axis=0) - draws).mean(axis=1), near.mean(axis=1), strict=True,
    )  # fmt: skip
    judged = [Judged(arm, *map(float, numbers)) for arm, *numbers in columns]
    return [judged[place] for place in np.argsort(-ranks, kind="stable")]


def chosen(judged: Sequence[Judged], rows: int, floor: float) -> Judged:
    """The first one; with few rows the cheapest that costs little more and is not below the floor.

    floor: mean of always answering the most frequent label.
    """
    if rows >= FEW_ROWS:
        return judged[0]
    least = min(one.regret for one in judged)
    safe = [one for one in judged if one.regret <= least + LITTLE and one.arm.mean >= floor] or judged[:1]
    return min(safe, key=lambda one: one.arm.cost)


def price(arm: Arm) -> str:
    """'0.8 s, 760 MB'."""
    return f"{short(arm.resource('train_seconds'))} s, {arm.resource('peak_memory_mb'):,.0f} MB"


def short(value: float) -> str:
    """Two digits, and no exponent."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def sentences(
    judged: Sequence[Judged], best: Judged, controls: Sequence[Arm], rows: int, metric: str, units: int
) -> Iterator[str]:
    """What to do, and how sure that is."""
    yield (
        f"Use {best.arm.candidate.label}: {metric} {best.score} on {units} folds; it is the best with probability "
        f"{best.best:.2f}, and the expected loss against the best is {best.regret:.3f}."
    )
    top = max(judged, key=lambda one: one.mean)
    if best is judged[0] and round(top.mean, 3) > round(best.mean, 3):
        yield (
            f"{top.arm.candidate.label} has a higher {metric} ({top.mean:.3f}), and {best.arm.candidate.label} answers "
            f"more surely: finalists are ranked by the smoothed {metric}, in which a narrow answer counts in part."
        )
    near = [one for one in judged if one.within_noise]
    cheap = min(near, key=lambda one: one.arm.cost)
    if len(near) > 1:
        names, cost = ", ".join(one.arm.candidate.label for one in near), price(cheap.arm)
        yield f"Within noise of the best: {names}; the cheapest of them is {cheap.arm.candidate.label} ({cost})."
    elif best.within_noise:
        yield f"Nothing else is within noise of it ({price(best.arm)})."
    if rows < FEW_ROWS:
        yield (
            f"With {rows} rows the ranking is mostly noise, so the cheapest is recommended whose expected loss is at "
            f"most {LITTLE} above the least; label at least {FEW_ROWS} rows to tell strategies apart."
        )
    for arm in controls:
        below = [one for one in judged if one.arm.scores.keys() >= arm.scores.keys() and one.arm.mean <= arm.mean]
        if arm.mean >= best.arm.mean:
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
    places = {name: place for place, name in enumerate(finalists)}
    shown = sorted(
        (arm for arm in arms if arm.scores), key=lambda arm: (places.get(arm.candidate.label, len(places)), -arm.mean)
    )
    points = [_point(arm, finalists) for arm in shown if not arm.candidate.control]
    rows = []
    for arm in shown:
        one, control = finalists.get(arm.candidate.label), bool(arm.candidate.control)
        score = one.score if one else f"{arm.mean:.3f}"
        costs = [f"{arm.resource('peak_memory_mb'):,.0f}", short(arm.resource("train_seconds")), short(arm.latency)]
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
