"""The steps of a choice: what fits, the first fold, the race, tuning, fresh seeds, the finalists judged.

They are plain code that asks for measurements, so that they give the same answer wherever those come from.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

from effft.choice.answer import FEW_ROWS, Judged, chosen, judge
from effft.choice.candidates import excess, needs
from effft.choice.ledger import Arm, Measurements
from effft.choice.plan import ChoicePlan
from effft.choice.posterior import Unit, smoothed_metric
from effft.choice.race import FINALISTS, race
from effft.errors import InputError, RunError
from effft.models.description import resolve_device
from effft.profiling.resources import memory_in_use
from effft.runs.estimate import Skeletons
from effft.tasks.task import Task

HELD = "memory/held"  # Name in the ledger: bytes that the process holds beside a training.
ESTIMATES = 0.3  # Share of the time after which nothing more is estimated.
RACE, TUNE, CUT = 0.5, 0.75, 0.9
"""Shares of the time after the estimates at which the race ends, tuning ends, and a training is cut off."""

LONG_RACE = 0.8  # The share at which the race ends where nothing will be tuned.

LEFT_TO_TUNE = 0.4  # Share of the time that must be left for tuning to begin.
TUNED = 2  # Strategies that are tuned.
TRAININGS = 3  # Of a candidate that there must be time for: on two folds and, where it is chosen, on all rows.
SHORT = 1.0  # Seconds of a training below which its estimate does not tell how fast this machine is now.

Say = Callable[[str], None]
Tune = Callable[[Arm, float], list[Arm]]
"""A tuned arm of an arm until the choice has taken so many seconds; [] where there is none."""


@dataclass(frozen=True)
class Decision:
    """arms: all that were measured, tuned ones too; judged: the finalists, the best first; best: what to use.

    units: of folds and seeds that the finalists were judged on.
    """

    arms: list[Arm]
    judged: list[Judged]
    best: Judged
    units: int

    @property
    def controls(self) -> list[Arm]:
        """The rows that are no model."""
        return [arm for arm in self.arms if arm.candidate.control and arm.scores]


def fitting(ledger: Measurements, plan: ChoicePlan, say: Say) -> tuple[list[Arm], dict[str, str]]:
    """The candidates that fit by their estimates, and of the others why they do not.

    Raises:
        InputError: none does.
    """
    skeletons, fold = Skeletons(), (0, plan.folds, plan.study.config.seed)
    estimates: dict[str, dict[str, Any]] = {}
    for candidate in plan.candidates:
        ledger.progress(f"estimate {candidate.label}", 0, 0)
        make = partial(needs, candidate, fold, skeletons)
        late = ledger.spent > ESTIMATES * plan.limits.seconds  # which is not kept: with more minutes there is time
        estimates[candidate.name] = (
            {"refused": "no time was left to estimate it"} if late else ledger.once(f"estimate/{candidate.name}", make)
        )
    sizes = {c.config.model: estimates[c.name].get("parameters", 0.0) for c in plan.candidates if not c.control}
    device = resolve_device(plan.study.config.device)
    # Every model is loaded with and without its LM head, in fp32; one of the two stands in memory already.
    kept = ledger.once(HELD, lambda: memory_in_use(device) + 4 * sum(sizes.values()))
    arms, dropped = [], dict[str, str]()
    for candidate in plan.candidates:
        needed = estimates[candidate.name]
        reason = excess(needed, plan.limits, TRAININGS, 0.0 if candidate.control else kept)
        if not _left_out(candidate.label, reason, dropped, say):
            arms.append(Arm(candidate, needed["seconds"]))
    if all(arm.candidate.control for arm in arms):
        reasons = "; ".join(f"{name}: {why.rstrip('.')}" for name, why in dropped.items())
        raise InputError(f"nothing fits: {reasons} (flags --minutes, --memory, --latency, --models).")
    return arms, dropped


def decide(
    ledger: Measurements,
    plan: ChoicePlan,
    arms: Sequence[Arm],
    dropped: dict[str, str],
    tune: Tune,
    task: Task,
    say: Say,
) -> Decision:
    """Race, tuning and fresh seeds of what fits.

    Args:
        ledger: Measures.
        plan: The checked choice.
        arms: What fits.
        dropped: Why the others do not; what turns out not to fit is added.
        tune: Tunes an arm.
        task: Of the rows.
        say: Called with a line for everything that is left out or leaves.

    Raises:
        RunError: nothing could be measured, or everything failed.
    """
    start, end, kept = ledger.spent, plan.limits.seconds, ledger.once(HELD, float)
    race_end, tune_end, cut = (start + share * (end - start) for share in (RACE, TUNE, CUT))
    value = partial(smoothed_metric, task, plan.study.metric)
    measured = _first_fold(ledger, plan, arms, dropped, say)
    tunes = plan.rows >= FEW_ROWS and ledger.spent + (plan.folds - 1) * sum(arm.cost for arm in measured) <= race_end
    if not tunes:
        last = plan.reserve(sorted(measured, key=lambda a: -a.cost)[: FINALISTS if plan.average else None], kept, False)
        race_end = min(start + LONG_RACE * (end - start), end - last)
    left = race(ledger, measured, plan.race_units, race_end, cut, value, say)
    if not left:
        raise RunError("no strategy is left after the race; see its failures in the log.")
    done, tuned = _common(left, plan.race_units), list[Arm]()
    if tunes and len(done) >= plan.folds and ledger.spent < (1 - LEFT_TO_TUNE) * end:
        for place, arm in enumerate(left[:TUNED]):
            tuned += tune(arm, ledger.spent + (tune_end - ledger.spent) / (min(TUNED, len(left)) - place))
    controls = [arm for arm in measured if arm.candidate.control and not arm.failure]
    floor = max((arm.mean for arm in controls if arm.candidate.control == "majority"), default=float("-inf"))
    safe = [arm for arm in measured if not arm.candidate.control and not arm.failure and arm.mean >= floor] or left
    finalists = list(dict.fromkeys([*left[:FINALISTS], min(safe, key=lambda arm: arm.cost), *tuned]))
    for unit in done:  # the cheapest may have left the race early
        _measure_all(ledger, [arm for arm in finalists if not arm.candidate.tuned], unit, cut)
    # Where nothing is selected by tuning, every row is validated once before one is validated again.
    missing = [] if tuned else [unit for unit in plan.race_units if unit not in done]
    units = [*missing, *plan.fresh_units]
    for place, unit in enumerate(units):
        finalists = [arm for arm in finalists if not arm.failure]
        known = len(done) + place >= plan.folds  # the estimate of the final run comes after every fold of these
        last = plan.reserve(finalists, kept, known)
        if ledger.spent >= cut or ledger.spent + 1.1 * sum(arm.cost for arm in finalists) + last > end:
            break
        _measure_all(ledger, [*controls, *finalists], unit, cut)
        for arm in finalists:  # what was tuned may take more than what it was tuned from
            if arm.candidate.tuned and not arm.failure:
                arm.failure = _excess(arm, plan, kept, 0)
    finalists = [
        arm
        for arm in finalists
        if not arm.failure and (not arm.candidate.tuned or len(_common([arm], units)) >= plan.folds)
    ]
    fresh = _common(finalists, units)
    used = fresh if any(arm.candidate.tuned for arm in finalists) else [*done, *fresh]
    finalists = [arm for arm in finalists if len(_common([arm], used)) == len(used)]  # the minutes may have cut one off
    if not finalists:
        raise RunError("every finalist failed on fresh seeds; see the failures in the log.")
    judged = judge(finalists, used, plan.folds, task, plan.study.metric)
    return Decision([*measured, *tuned], judged, chosen(judged, plan.rows, floor), len(used))


def _left_out(label: str, reason: str, dropped: dict[str, str], say: Say) -> bool:
    """Whether there is a reason to leave something out, which is told and kept then."""
    if reason:
        dropped[label] = reason
        say(f"{label} is left out: {reason.rstrip('.')}.")
    return bool(reason)


def _excess(arm: Arm, plan: ChoicePlan, kept: float, trainings: int = TRAININGS) -> str:
    """As `excess`, of what was measured."""
    known = {"seconds": arm.cost, "memory": 1e6 * arm.resource("peak_memory_mb"), "latency": arm.latency}
    return excess(known, plan.limits, trainings, 0.0 if arm.candidate.control else kept)


def _common(arms: Sequence[Arm], units: Sequence[Unit]) -> list[Unit]:
    """The units that all arms have been measured on."""
    return [unit for unit in units if all(unit in arm.scores for arm in arms)]


def _measure_all(ledger: Measurements, arms: Sequence[Arm], unit: Unit, cut: float) -> None:
    for arm in arms:
        if unit not in arm.scores and not arm.failure and ledger.spent < cut:
            ledger.measure(arm, unit, cut)


def _first_fold(
    ledger: Measurements, plan: ChoicePlan, arms: Sequence[Arm], dropped: dict[str, str], say: Say
) -> list[Arm]:
    """Every arm on one fold, by rising cost, while the minutes then leave time to train any of them on all rows.

    What turns out not to fit is dropped.

    Raises:
        RunError: no model could be measured.
    """
    kept, measured, tried, loaded = ledger.once(HELD, float), list[Arm](), list[float](), set[str]()
    for arm in arms:
        estimated, arm.guess = arm.guess, arm.guess * (median(tried) if tried else 1.0)
        reason = excess({"seconds": arm.guess, "memory": 0.0, "latency": 0.0}, plan.limits, TRAININGS, 0.0)
        end = plan.limits.seconds - max(plan.final_seconds(one, False) for one in [*measured, arm])
        if not reason and ledger.spent + arm.guess > end:
            reason = "no time was left to measure it"
        if not reason:
            ledger.measure(arm, plan.race_units[0], min(end, ledger.spent + plan.limits.seconds / TRAININGS))
            if estimated >= SHORT and arm.candidate.config.model in loaded:
                tried.append(arm.seconds[0] / estimated)
            loaded.add("" if arm.candidate.control else arm.candidate.config.model)  # the first time takes longer
            reason = arm.failure or _excess(arm, plan, kept)
        if not _left_out(arm.candidate.label, reason, dropped, say):
            measured.append(arm)
    if all(arm.candidate.control for arm in measured):
        raise RunError(f"no strategy could be measured: {'; '.join(dropped.values())}.")
    return measured
