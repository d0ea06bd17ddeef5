"""A choice from its limits to the model: what fits, the race, tuning, fresh seeds, the answer, the final training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

from effft.choice.answer import FEW_ROWS, Judged, chosen, judge, sentences, table
from effft.choice.candidates import Candidate, excess, needs
from effft.choice.ledger import Arm, Ledger, Unit
from effft.choice.outlook import outlook
from effft.choice.plan import ChoicePlan
from effft.choice.race import FINALISTS, SEEDS, race
from effft.choice.tuning import tune
from effft.config import TrackingTarget
from effft.errors import InputError, RunError
from effft.evaluation.metric_keys import CROSS_VALIDATED
from effft.progress import ProgressCallback
from effft.reports.blocks import Table
from effft.reports.page import markdown_blocks
from effft.runs.estimate import Skeletons
from effft.runs.experiment import execute
from effft.runs.plan import prepare
from effft.runs.session import Session
from effft.search.settings import HELD_OUT_SEED_OFFSET
from effft.search.storage import open_study, said_plainly
from effft.search.study import open_study_run, register_once
from effft.tracking import open_tracker
from effft.tracking.tracker import Tracker, tracked

RACE, TUNE, CUT = 0.5, 0.75, 0.9
"""Shares of the time after the estimates at which the race ends, tuning ends, and a training is cut off."""

LEFT_TO_TUNE = 0.4  # Share of the time that must be left for tuning to begin.
TUNED, FRESH = 2, 5  # Strategies that are tuned, and fresh seeds at most.
SHORT = 1.0  # Seconds of a training below which its estimate does not tell how fast this machine is now.


@dataclass(frozen=True)
class Deadlines:
    """Seconds of the choice at which its stages end; cut: after which a training on fresh seeds is cut off."""

    race: float
    tune: float
    cut: float
    end: float

    @staticmethod
    def of(start: float, end: float) -> "Deadlines":
        """Those of the time from `start` on."""
        race, tune, cut = (start + share * (end - start) for share in (RACE, TUNE, CUT))
        return Deadlines(race, tune, cut, end)


@dataclass(frozen=True)
class Answer:
    """What to use, and how sure that is.

    candidate: what is recommended, with its configuration; judged: the finalists, the best first; table: of all
    candidates; run_id: of the final run, '' where nothing is tracked.
    """

    candidate: Candidate
    sentences: list[str]
    judged: list[Judged]
    table: Table
    run_id: str

    def json(self) -> dict[str, Any]:
        """The answer as values for JSON."""
        finalists = [
            {"candidate": one.arm.candidate.label, "mean": one.mean, "interval": one.interval, "p_best": one.best,
             "regret": one.regret, "within_noise": one.within_noise}
            for one in self.judged
        ]  # fmt: skip
        settings = self.candidate.config.model_dump(mode="json", exclude_unset=True)
        return {"use": self.candidate.label, "settings": settings, "sentences": self.sentences, "finalists": finalists,
                "run_id": self.run_id}  # fmt: skip


@said_plainly()
def run_choice(
    plan: ChoicePlan,
    storage: str,
    target: TrackingTarget,
    session: Session,
    began: float,
    progress: ProgressCallback,
    say: Callable[[str], None],
) -> Answer:
    """Measure, decide, train and register what is recommended; goes on where an earlier process stopped.

    Args:
        plan: The checked choice.
        storage: URL of Optuna's storage.
        target: Where runs are kept.
        session: Has models and data.
        began: When work on the choice began, as `time.monotonic` tells it.
        progress: Called with what is done.
        say: Called with a line for everything that is left out or leaves.

    Raises:
        InputError: nothing fits; the storage, or another process drives the study.
        RunError: nothing could be measured, or the storage does not take what it is told.
    """
    with open_study(storage, plan.study) as stored:
        ledger = Ledger(stored, plan.study, session, began, progress)
        fitting, dropped = _fitting(ledger, plan, say)
        parent = open_study_run(stored, plan.study, target, "choice", f"choose {plan.study.task}")
        with tracked(parent):
            parent.params({**vars(plan.limits), "rows": plan.rows, "folds": plan.folds})
            times = Deadlines.of(ledger.spent, plan.limits.seconds)
            arms = _first_fold(ledger, plan, fitting, times, dropped, say)
            judged, units = _finals(ledger, plan, arms, times, storage, say)
            controls = [arm for arm in arms if arm.candidate.control and arm.scores]
            best = chosen(judged, plan.rows, _majority(controls))
            found = list(sentences(judged, best, controls, plan.rows, plan.study.metric, units))
            found += outlook(ledger, plan, best.arm, judged, parent)
            run_id = _train(ledger, plan, best.arm, target, parent)
            if run_id:
                found += register_once(stored, run_id, plan.study.name, target, best.mean, CROSS_VALIDATED)
            every = [*arms, *(one.arm for one in judged if one.arm.candidate.tuned)]
            overview = table(every, judged, dropped, plan.study.metric)
            parent.text("answer.md", markdown_blocks([found, overview]))
            parent.metrics({"best": best.best, "regret": best.regret, f"choice/{plan.study.metric}": best.mean})
            parent.note("\n\n".join(found))
            parent.flush()
    return Answer(best.arm.candidate, found, judged, overview, run_id)


def _fitting(ledger: Ledger, plan: ChoicePlan, say: Callable[[str], None]) -> tuple[list[Arm], dict[str, str]]:
    """The candidates that fit by their estimates, and of the others why they do not.

    Raises:
        InputError: none does.
    """
    skeletons, fold = Skeletons(), (0, plan.folds, plan.study.config.seed)
    estimates: dict[str, dict[str, Any]] = {}
    for candidate in plan.candidates:
        ledger.progress(f"estimate {candidate.label}", 0, 0)
        make = partial(needs, candidate, fold, skeletons)
        estimates[candidate.name] = ledger.once(f"estimate/{candidate.name}", make)
    sizes = {c.config.model: estimates[c.name].get("parameters", 0.0) for c in plan.candidates if not c.control}
    kept = 8 * sum(sizes.values())  # every model is loaded with and without its LM head, in fp32
    arms, dropped = [], {}
    for candidate in plan.candidates:
        needed = estimates[candidate.name]
        if reason := excess(needed, plan.limits, plan.folds + 1, 0.0 if candidate.control else kept):
            dropped[candidate.label] = reason
            say(f"{candidate.label} is left out: {reason.rstrip('.')}.")
        else:
            arms.append(Arm(candidate, needed["seconds"]))
    if all(arm.candidate.control for arm in arms):
        reasons = "; ".join(f"{name}: {why.rstrip('.')}" for name, why in dropped.items())
        raise InputError(f"nothing fits: {reasons} (flags --minutes, --memory, --latency, --models).")
    return arms, dropped


def _first_fold(
    ledger: Ledger,
    plan: ChoicePlan,
    arms: Sequence[Arm],
    times: Deadlines,
    dropped: dict[str, str],
    say: Callable[[str], None],
) -> list[Arm]:
    """Every arm on one fold, by rising cost; what turns out not to fit is dropped.

    Raises:
        RunError: no model could be measured.
    """
    unit, most = (plan.study.config.seed, 0), plan.limits.seconds / 2 / (plan.folds + 1)
    measured: list[Arm] = []
    tried: list[float] = []
    for arm in arms:
        estimated, arm.guess = arm.guess, arm.guess * (median(tried) if tried else 1.0)
        guessed = {"seconds": arm.guess, "memory": 0.0, "latency": 0.0}
        reason = excess(guessed, plan.limits, plan.folds + 1, 0.0)
        if not reason and ledger.spent + arm.guess > times.race:
            reason = "no time was left to measure it"
        if not reason:
            ledger.measure(arm, unit, min(times.tune, ledger.spent + most))
            tried += [arm.seconds[0] / estimated] if estimated >= SHORT else []
            known = {"seconds": arm.cost, "memory": 1e6 * arm.resource("peak_memory_mb"), "latency": arm.latency}
            reason = arm.failure or excess(known, plan.limits, plan.folds + 1, 0.0)
        if reason:
            dropped[arm.candidate.label] = reason
            say(f"{arm.candidate.label} is left out: {reason.rstrip('.')}.")
        else:
            measured.append(arm)
    if all(arm.candidate.control for arm in measured):
        raise RunError(f"no strategy could be measured: {'; '.join(dropped.values())}.")
    return measured


def _finals(
    ledger: Ledger,
    plan: ChoicePlan,
    arms: Sequence[Arm],
    times: Deadlines,
    storage: str,
    say: Callable[[str], None],
) -> tuple[list[Judged], int]:
    """Race, tuning and fresh seeds: the finalists judged, and the number of units they were judged on."""
    first, folds = plan.study.config.seed, plan.folds
    units = [(first + seed, fold) for seed in range(SEEDS) for fold in range(folds)]
    left = race(ledger, arms, units, times.race, times.tune, say)
    if not left:
        raise RunError("no strategy is left after the race; see its failures in the log.")
    done, controls = list(left[0].scores), [arm for arm in arms if arm.candidate.control and not arm.failure]
    tuned = []
    if plan.rows >= FEW_ROWS and len(done) >= folds and ledger.spent < (1 - LEFT_TO_TUNE) * times.end:
        for place, arm in enumerate(left[:TUNED]):
            share = (times.tune - ledger.spent) / (min(TUNED, len(left)) - place)
            tuned += tune(ledger, arm, storage, ledger.spent + share, say)
    floor = _majority(controls)
    safe = [arm for arm in arms if not arm.candidate.control and not arm.failure and arm.mean >= floor] or left
    finalists = list(dict.fromkeys([*left[:FINALISTS], min(safe, key=lambda arm: arm.cost), *tuned]))
    for arm in finalists:  # the cheapest may have left the race early
        for unit in done if not arm.candidate.tuned else ():
            if unit not in arm.scores and not arm.failure:
                ledger.measure(arm, unit, times.cut)
    finalists = [arm for arm in finalists if not arm.failure]
    fresh: list[Unit] = []
    for unit in [(first + HELD_OUT_SEED_OFFSET + seed, fold) for seed in range(FRESH) for fold in range(folds)]:
        last = max(plan.final_seconds(arm.cost, arm.latency) for arm in finalists)
        if ledger.spent + 1.1 * sum(arm.cost for arm in finalists) + last > times.end:
            break
        for arm in [*controls, *finalists]:
            if not arm.failure:
                ledger.measure(arm, unit, times.cut)
        fresh.append(unit)
        finalists = [arm for arm in finalists if not arm.failure]
        if not finalists:
            raise RunError("every finalist failed on fresh seeds; see the failures in the log.")
    if len(fresh) < folds:
        finalists = [arm for arm in finalists if not arm.candidate.tuned]
    used = fresh if any(arm.candidate.tuned for arm in finalists) else [*done, *fresh]
    return judge(finalists, used, folds), len(used)


def _majority(controls: Sequence[Arm]) -> float:
    """Mean of always answering the most frequent label; minus infinity where that was not measured."""
    return max((arm.mean for arm in controls if arm.candidate.control == "majority"), default=float("-inf"))


def _train(ledger: Ledger, plan: ChoicePlan, arm: Arm, target: TrackingTarget, parent: Tracker) -> str:
    """Train the chosen one on all rows, with an out-of-fold estimate where there is time; the id of its run."""
    estimated = ledger.spent + plan.final_seconds(arm.cost, arm.latency) <= plan.limits.seconds
    folds = f"{plan.folds}x1" if estimated else "none"
    config = arm.candidate.config.model_copy(update={"log_model": True, "cross_validation": folds})

    def make() -> str:
        run = prepare(config, ledger.session)
        tags = {**run.tags, "choice": plan.study.name, "mlflow.parentRunId": parent.run_id}
        with tracked(open_tracker(target, run.experiment, f"chosen {run.name}", tags)) as tracker:
            execute(run, tracker, ledger.progress)
            return tracker.run_id

    return str(ledger.once(f"final/{arm.candidate.label}", make))
