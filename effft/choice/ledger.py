"""Everything that a choice has measured, each thing once, and what time it was then.

The steps of a choice are plain code that asks the ledger for measurements. What the study holds already is answered
from there, together with the time that had passed; so after a kill the same steps are walked again, by the same
decisions, up to the first measurement that is missing.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Protocol

from effft.choice.candidates import CONTROLS, Candidate
from effft.choice.posterior import Answers, Unit
from effft.errors import RunError
from effft.progress import ProgressCallback
from effft.runs.plan import prepare_validation
from effft.runs.session import Session
from effft.search.jobs import JobResult, TrainingJob, failed_result, measure
from effft.search.settings import StudyPlan
from effft.search.spaces import decoded
from effft.search.storage import StoredStudy

LATE = "it did not end within the minutes"


@dataclass(eq=False)
class Arm:
    """A candidate in the race. scores, answers, seconds, resources: one for every unit that was measured.

    guess: seconds of a unit as estimated; failure: why it is not in the race any more.
    """

    candidate: Candidate
    guess: float
    scores: dict[Unit, float] = field(default_factory=dict)
    answers: dict[Unit, Answers] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    resources: list[dict[str, float]] = field(default_factory=list)
    failure: str = ""

    def add(self, unit: Unit, score: float | None, measured: Mapping[str, Any], failure: str = "") -> None:
        """Take in what was measured on a unit. score: None where it failed.

        What the minutes cut off takes out only an arm of which nothing is known yet.
        """
        if failure == LATE and self.scores:
            return
        self.failure = failure
        self.seconds.append(measured["seconds"])
        self.resources.append(measured["resources"])
        if score is not None:
            self.scores[unit], self.answers[unit] = score, measured["answers"]

    @property
    def mean(self) -> float:
        """Mean score over its units."""
        return fmean(self.scores.values())

    @property
    def cost(self) -> float:
        """Seconds that its next unit will take; the first one also loads and compiles."""
        return fmean(self.seconds[1:] or self.seconds or [self.guess])

    def resource(self, name: str) -> float:
        """The highest of a resource over the units: later ones find in the cache what the first computed."""
        return max((one[name] for one in self.resources if name in one), default=0.0)

    @property
    def latency(self) -> float:
        """Milliseconds a query; 0 where it is not known."""
        rates = [one["queries_per_second"] for one in self.resources if one.get("queries_per_second")]
        return 1000 / min(rates) if rates else 0.0


class Measurements(Protocol):
    """What the steps of a choice ask: a `Ledger`, or one that knows it all already. spent: seconds of the choice."""

    spent: float
    progress: ProgressCallback

    def measure(self, arm: Arm, unit: Unit, limit: float, /) -> None:
        """Measure an arm on a unit; a failure takes it out of the race, as passing the limit does on its first unit."""

    def once(self, name: str, make: Callable[[], Any], /) -> Any:
        """What `make` gave under this name."""


class Ledger:
    """Measures, and keeps what it measured in the study.

    Args:
        stored: The study.
        plan: Its plan.
        session: Has models and data.
        began: When this process started to work on the choice, as `time.monotonic` tells it.
        progress: Called with what is measured.
    """

    def __init__(
        self, stored: StoredStudy, plan: StudyPlan, session: Session, began: float, progress: ProgressCallback
    ) -> None:
        self.stored, self.plan, self.session, self.progress = stored, plan, session, progress
        self.spent = 0.0
        self._mark = began
        self._known = {tuple(decoded(trial.params).values()): trial for trial in stored.trials}

    def now(self) -> float:
        """Seconds that the choice has taken at this moment, those of earlier processes included."""
        return self.spent + time.monotonic() - self._mark

    def until(self, limit: float) -> ProgressCallback:
        """A callback that ends what calls it once the choice has taken so many seconds."""

        def guard(stage: str, done: int, total: int) -> None:
            if self.now() > limit:
                raise RunError(LATE)

        return guard

    def measure(self, arm: Arm, unit: Unit, limit: float) -> None:
        """Measure an arm on a unit; a failure takes it out of the race.

        limit: seconds of the choice after which the training is cut off; one that was cut off earlier is made again.
        """
        candidate, (seed, fold) = arm.candidate, unit
        values: dict[str, object] = {
            "strategy": candidate.name, "tuned": "yes" if candidate.tuned else "no", "seed": seed, "fold": fold,
        }  # fmt: skip
        trial = self._known.get(tuple(values.values()))
        if trial is None or trial.user_attrs.get("cut", limit) < limit:
            begun = time.monotonic()
            found = self._train(candidate, unit, limit)
            now, took = self.now(), time.monotonic() - begun
            notes = {
                "measured": {"resources": found.resources, "answers": found.answers, "seconds": took}, "spent": now,
            }  # fmt: skip
            failure = found.failure.removeprefix("RunError: ")
            notes |= ({"failure": failure} if failure else {}) | ({"cut": limit} if failure == LATE else {})
            score = None if found.failure else found.value
            trial = self.stored.record(self.plan.space, values, score, took, **notes)
            self._known[tuple(values.values())] = trial
            self._mark = time.monotonic()
        measured = trial.user_attrs["measured"]
        # More minutes may have made steps before this one that its own clock does not know.
        self.spent = max(trial.user_attrs["spent"], self.spent + measured["seconds"])
        arm.add(unit, trial.value, measured, trial.user_attrs.get("failure", ""))

    def _train(self, candidate: Candidate, unit: Unit, limit: float) -> JobResult:
        seed, fold = unit
        config = candidate.config.model_copy(update={"seed": seed, "bootstrap": 0, "log_model": False})
        place = (fold, self.plan.settings.folds, seed)

        self.progress(f"{candidate.label}, seed {seed}, fold {fold}", 0, 0)
        if not candidate.control:
            return measure(TrainingJob(config, place), self.session, self.until(limit))
        try:
            metrics = CONTROLS[candidate.control](prepare_validation(config, self.session, place))
        except Exception as error:
            return failed_result(error)
        return JobResult(metrics[f"validation/{self.plan.metric}"], {})

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` gave under this name, made now where it is not kept yet."""
        if name not in self.stored.results:
            value = make()
            self.stored.keep(name, {"value": value, "spent": self.now()})
            self._mark = time.monotonic()
        self.spent = max(self.spent, self.stored.results[name]["spent"])
        return self.stored.results[name]["value"]

    def add_earlier(self, seconds: float) -> None:
        """Count what an earlier process spent on a step that it did not end."""
        self.spent += seconds
