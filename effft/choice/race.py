"""Successive rejects over common folds and seeds, spending measured seconds.

Audibert, Bubeck and Munos (2010, "Best arm identification in multi-armed bandits", COLT): in every phase all arms that
are left are measured equally often, then the worst one goes. Their shares of the pulls are shares of the seconds here.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from effft.choice.ledger import Arm, Measurements
from effft.choice.posterior import Answers, Unit
from effft.evaluation.statistics import paired_difference

FINALISTS = 3  # Arms that the race leaves; the cheapest safe one joins them.
SURE = 0.05  # P value of the paired test from which on an arm that is below the leader leaves before its phase ends.
PAIRS = 6  # Common units before that test says anything.

Value = Callable[[Mapping[Unit, Answers]], float]
"""What arms are compared by: the smoothed metric of the answers on some units."""


def race(
    ledger: Measurements,
    arms: Sequence[Arm],
    units: Sequence[Unit],
    deadline: float,
    limit: float,
    value: Value,
    say: Callable[[str], None],
) -> list[Arm]:
    """The arms that are left, best first; all of `arms` keep what was measured of them.

    Args:
        ledger: Measures.
        arms: Measured on the first unit already, but for those that failed.
        units: In the order in which they are measured.
        deadline: Seconds of the choice at which the race ends.
        limit: Seconds of the choice after which a training is cut off.
        value: What arms are compared by.
        say: Called with a line for every arm that goes.
    """
    left = ranked((arm for arm in arms if not arm.failure and not arm.candidate.control), value)
    controls = [arm for arm in arms if arm.candidate.control and not arm.failure]
    start, shares = ledger.spent, [1.0, *(1 / (count + 1) for count in range(len(left) - 1, FINALISTS, -1))]
    done, time = 1, deadline - start
    for phase in range(len(shares)):
        end = start + time * sum(shares[: phase + 1]) / sum(shares)
        while done < len(units) and ledger.spent + 1.1 * sum(arm.cost for arm in left) <= end:
            for arm in [*controls, *left]:
                if ledger.spent < limit:
                    ledger.measure(arm, units[done], limit)
            done += 1
            controls = [arm for arm in controls if not arm.failure]
            left = _without_losers(ranked((arm for arm in left if not arm.failure), value), value, say)
        if len(left) > FINALISTS + len(shares) - 1 - phase:
            say(f"{left[-1].candidate.label} leaves the race: {_told(left[-1], value)}, the lowest of {len(left)}.")
            left = left[:-1]
    return left


def ranked(arms: Iterable[Arm], value: Value) -> list[Arm]:
    """The best value first; of equal ones the cheaper."""
    return sorted(arms, key=lambda arm: (-value(arm.answers), arm.cost))


def _without_losers(left: list[Arm], value: Value, say: Callable[[str], None]) -> list[Arm]:
    """Without the arms that are surely below the leader."""
    kept, each = left[:1], [{unit: value({unit: own}) for unit, own in arm.answers.items()} for arm in left]
    for arm, values in zip(left[1:], each[1:], strict=True):
        gap = paired_difference(values, each[0])
        if gap is None or gap.count < PAIRS or gap.mean >= 0 or gap.p >= SURE:
            kept.append(arm)
        else:
            say(
                f"{arm.candidate.label} leaves the race: its smoothed score is {-gap.mean:.3f} below that of "
                f"{left[0].candidate.label} on {gap.count} folds (p = {gap.p:.3f})."
            )
    return kept


def _told(arm: Arm, value: Value) -> str:
    count = len(arm.scores)
    return f"smoothed score {value(arm.answers):.3f} on {count} fold{'s' if count > 1 else ''}"
