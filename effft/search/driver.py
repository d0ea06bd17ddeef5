"""The one writer of a study: proposes trials, has their units measured, and keeps each trial when it has ended."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from optuna.trial import FrozenTrial, Trial, TrialState

from effft.errors import RunError
from effft.progress import ProgressCallback
from effft.search.budget import Clock
from effft.search.jobs import Executor, JobResult, TrainingJob, next_result
from effft.search.mlflow_log import Logbook
from effft.search.samplers import EPOCHS, epoch_thresholds, propose
from effft.search.settings import StudyPlan
from effft.search.spaces import decoded
from effft.search.storage import NUMBER, StoredStudy

MOST_FAILURES = 5  # Failed trials in a row after which a study stops.

MOST_PRUNED = 3
"""A study ends with fewer complete trials than asked for when it has finished this many times as many, pruned ones
counted."""


@dataclass
class InFlight:
    """A trial that was proposed and is not kept yet. known: the finished trials that it may look at."""

    trial: Trial
    known: list[FrozenTrial]
    units: list[TrainingJob]
    begun: float = field(default_factory=time.monotonic)
    state: TrialState = TrialState.RUNNING
    failure: str = ""
    scores: list[float] = field(default_factory=list)
    resources: list[dict[str, float]] = field(default_factory=list)
    curves: list[list[float]] = field(default_factory=list)


class Driver:
    """Runs trials until as many are complete as were asked for; pruned and failed ones do not count.

    At most `executor.workers` trials are not kept yet, and they are kept in the order of their numbers. What was in
    flight when a process ended is proposed again by the next one: the same trial under the same number.

    clock: no trial is asked for that would not end in its time, but for the first.
    """

    def __init__(
        self,
        stored: StoredStudy,
        plan: StudyPlan,
        executor: Executor,
        logbook: Logbook,
        progress: ProgressCallback,
        clock: Clock | None = None,
    ) -> None:
        self.stored, self.plan, self.executor, self.logbook = stored, plan, executor, logbook
        self.progress, self.clock = progress, clock
        self.flights: dict[int, InFlight] = {}
        self.failed_in_a_row = 0

    def run(self) -> None:
        """Go on to the number asked for."""
        while True:
            while self._has_room():
                self._ask()
            if not self.flights:
                return
            number, result = next_result(self.executor)
            flight = self.flights[int(str(number))]
            self._take(flight, result)
            if flight.state == TrialState.RUNNING:
                self._submit(flight)
            for first in list(self.flights.values()):
                if first.state == TrialState.RUNNING:
                    break
                self._keep(self.flights.pop(first.trial.number))

    def _has_room(self) -> bool:
        """Whether another trial is to be asked for now; those in flight are taken to complete."""
        wanted, flying = self.plan.settings.trials, len(self.flights)
        complete, done = len(self.stored.complete), len(self.stored.done)
        if complete + flying >= wanted or flying >= self.executor.workers or not self._in_time():
            return False
        if done + flying < MOST_PRUNED * wanted:
            return True
        if not flying:
            self.logbook.say(
                f"{done} trials are finished and only {complete} of the {wanted} asked for are "
                "complete, the rest pruned: the study ends here (--pruner none prunes nothing)."
            )
        return False

    def _in_time(self) -> bool:
        """Whether a trial as long as those before would end in time."""
        measured = [trial.user_attrs["measured"] for trial in self.stored.complete if self.clock]
        took = [one["seconds"] for one in measured if "seconds" in one]
        return self.clock is None or not took or self.clock.fits_trial(fmean(took))

    def _ask(self) -> None:
        settings = self.plan.settings
        flying = [flight.trial.study.get_trials(deepcopy=False)[-1] for flight in self.flights.values()]
        earlier = [*self.stored.trials, *flying]
        trial = propose(self.plan, earlier, self.executor.workers)
        values = decoded(trial.params)
        self.logbook.start(trial.number, values)
        self.progress(f"trial {trial.number}{self.logbook.best_so_far}", len(self.stored.complete), settings.trials)
        units = self.plan.units(values, self.plan.config.seed, settings.inner_seeds)
        known = [other for other in trial.study.get_trials(deepcopy=False) if other.state.is_finished()]
        self.flights[trial.number] = InFlight(trial, known, units)
        self._submit(self.flights[trial.number])

    def _submit(self, flight: InFlight) -> None:
        settings, step = self.plan.settings, len(flight.scores)
        unit = flight.units[step]
        if settings.pruner == EPOCHS and len(settings.objectives) == 1:
            unit = replace(unit, epoch_thresholds=epoch_thresholds(flight.known, step))
        self.executor.submit(flight.trial.number, unit)

    def _take(self, flight: InFlight, result: JobResult) -> None:
        """Note what a unit measured, and whether the trial ends with it."""
        if result.failure:
            flight.state, flight.failure = TrialState.FAIL, result.failure
            return
        step, several = len(flight.scores), len(self.plan.settings.objectives) > 1
        flight.scores.append(result.value)
        flight.resources.append(result.resources)
        flight.curves.append(list(result.curve))
        if not several:
            flight.trial.report(result.value, step)
        if result.stopped:
            flight.state = TrialState.PRUNED
        elif step + 1 == len(flight.units):
            flight.state = TrialState.COMPLETE
        elif not several and flight.trial.should_prune():
            flight.state = TrialState.PRUNED

    def _keep(self, flight: InFlight) -> None:
        trial, resources = flight.trial, mean_resources(flight.resources)
        measured: dict[str, object] = {"scores": flight.scores, "resources": resources}
        if any(flight.curves):
            measured["curves"] = flight.curves
        if self.clock:
            measured["seconds"] = time.monotonic() - flight.begun
        attributes = {"measured": measured, NUMBER: trial.number}
        for name, value in (attributes | ({"failure": flight.failure} if flight.failure else {})).items():
            trial.set_user_attr(name, value)
        complete = flight.state == TrialState.COMPLETE
        for name, most in self.plan.settings.constraints if complete else ():
            trial.set_constraint(name, resources[name] - most)
        values = self._values(flight.scores, resources) if complete else None
        frozen = trial.study.tell(trial, values, state=flight.state)
        self.stored.add(frozen)
        if self.clock:
            self.clock.note()
        self.logbook.finish(frozen)
        self.failed_in_a_row = self.failed_in_a_row + 1 if flight.failure else 0
        if self.failed_in_a_row >= MOST_FAILURES:
            raise RunError(f"{MOST_FAILURES} trials failed one after another; the last said: {flight.failure}")

    def _values(self, scores: Sequence[float], resources: dict[str, float]) -> list[float]:
        own = {
            "validation": fmean(scores),
            "peak_memory": 1e6 * resources.get("peak_memory_mb", 0.0),
            "train_seconds": resources.get("train_seconds", 0.0),
            "trainable_parameters": resources.get("trainable_parameters", 0.0),
        }
        return [own[name] for name in self.plan.settings.objectives]


def mean_resources(units: Sequence[dict[str, float]]) -> dict[str, float]:
    """Means over the units; of the memory, the highest."""
    if not units:
        return {}
    means = {name: fmean(one[name] for one in units) for name in units[0]}
    return means | {"peak_memory_mb": max(one["peak_memory_mb"] for one in units)}
