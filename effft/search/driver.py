"""The one writer: asks, has the units measured, tells Optuna first and the log second."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

import optuna
from optuna.study import Study
from optuna.trial import Trial, TrialState

from effft.errors import RunError
from effft.progress import ProgressCallback
from effft.search.jobs import Executor, JobResult, StreamingExecutor, TrainingJob
from effft.search.mlflow_log import Logbook
from effft.search.samplers import EPOCHS, epoch_thresholds, reseed
from effft.search.settings import StudyPlan
from effft.search.spaces import Values, decoded, distributions
from effft.search.storage import complete, done

MOST_FAILURES = 5
"""Failed trials in a row after which a study stops."""

MOST_PRUNED = 3
"""A study ends with fewer complete trials than asked for when it has finished this many times as many, pruned ones
counted."""


@dataclass
class InFlight:
    """A trial that was asked for and is not told yet."""

    trial: Trial
    values: Values
    units: list[TrainingJob]
    scores: list[float] = field(default_factory=list)
    resources: list[dict[str, float]] = field(default_factory=list)
    curves: list[tuple[float, ...]] = field(default_factory=list)


class Driver:
    """Runs trials until as many are complete as were asked for; pruned and failed ones do not count."""

    def __init__(
        self, study: Study, plan: StudyPlan, executor: Executor, logbook: Logbook, announce: ProgressCallback
    ) -> None:
        self.study, self.plan, self.executor, self.logbook, self.announce = study, plan, executor, logbook, announce
        self.distributions = distributions(plan.space)
        self.failed_in_a_row = 0

    def run(self) -> None:
        """Go on to the number asked for.

        Raises:
            RunError: five trials failed one after another.
        """
        asked = self.plan.settings.trials
        if isinstance(self.executor, StreamingExecutor):
            self.stream(self.executor)
        else:
            while room := self._room():
                self.work([self.ask() for _ in range(room)])
        self.announce("trials", asked, asked)

    def _room(self, flying: int = 0) -> int:
        """Trials to ask for now, besides those in flight; 0 where the study ends."""
        asked, whole, ended = self.plan.settings.trials, len(complete(self.study)), len(done(self.study))
        room = min(asked - whole, self.executor.width) - flying
        if room > 0 and ended >= MOST_PRUNED * asked:
            if not flying:
                self.logbook.say(
                    f"{ended} trials are finished and only {whole} of the {asked} asked for are "
                    "complete, the rest pruned: the study ends here (--pruner none prunes nothing)."
                )
            return 0
        return max(0, room)

    def stream(self, executor: StreamingExecutor) -> None:
        """Keep the executor full: whoever ends or is pruned makes room for the next trial at once."""
        flights: dict[Hashable, InFlight] = {}
        while True:
            for _ in range(self._room(len(flights))):
                flight = self.ask()
                flights[flight.trial.number] = flight
                executor.submit(flight.trial.number, self._watched(flight.units[0], 0))
            if not flights:
                return
            number, found = executor.next_result()
            flight, step = flights[number], len(flights[number].scores)
            if self._goes_on(flight, found, step):
                executor.submit(number, self._watched(flight.units[step + 1], step + 1))
            else:
                del flights[number]

    def ask(self) -> InFlight:
        """The next trial, with its run in the log."""
        settings = self.plan.settings
        reseed(self.study, settings.sampler, self.plan.config.seed, self.executor.width)
        trial = self.study.ask(self.distributions)
        values = decoded(trial.params)
        self.logbook.start(trial.number, values)
        self.announce(f"trial {trial.number}{self.logbook.standing}", len(complete(self.study)), settings.trials)
        return InFlight(trial, values, self.plan.units(values, self.plan.config.seed, settings.inner_seeds))

    def work(self, batch: Sequence[InFlight]) -> None:
        """Measure the trials of a batch unit by unit, side by side; the order of telling is the order of asking."""
        live = list(batch)
        for step in range(len(batch[0].units)):
            results = self.executor.run([self._watched(flight.units[step], step) for flight in live])
            live = [flight for flight, found in zip(live, results, strict=True) if self._goes_on(flight, found, step)]
            if not live:
                return

    def _watched(self, unit: TrainingJob, step: int) -> TrainingJob:
        settings = self.plan.settings
        if settings.pruner != EPOCHS or len(settings.objectives) > 1:
            return unit
        return replace(unit, epoch_thresholds=epoch_thresholds(done(self.study), step))

    def _goes_on(self, flight: InFlight, found: JobResult, step: int) -> bool:
        if found.failure:
            self._end(flight, TrialState.FAIL, found.failure)
            return False
        flight.scores.append(found.value)
        flight.resources.append(found.resources)
        flight.curves.append(found.curve)
        several = len(self.plan.settings.objectives) > 1
        if not several:
            flight.trial.report(found.value, step)
        if found.stopped:
            self._end(flight, TrialState.PRUNED)
            return False
        if step + 1 == len(flight.units):
            self._end(flight, TrialState.COMPLETE)
            return False
        if not several and flight.trial.should_prune():
            self._end(flight, TrialState.PRUNED)
            return False
        return True

    def _end(self, flight: InFlight, state: TrialState, failure: str = "") -> None:
        trial, resources = flight.trial, mean_resources(flight.resources)
        attributes: dict[str, object] = {"scores": flight.scores, "resources": resources}
        if any(flight.curves):
            attributes["curves"] = flight.curves
        trial.set_user_attr("measured", attributes)
        if failure:
            trial.set_user_attr("failure", failure)
        values = self._values(flight.scores, resources) if state == TrialState.COMPLETE else None
        for name, most in self.plan.settings.constraints:
            if state == TrialState.COMPLETE:
                trial.set_constraint(name, resources[name] - most)
        frozen = self.study.tell(trial, values, state=None if state == TrialState.COMPLETE else state)
        self.logbook.finish(frozen)
        self.failed_in_a_row = self.failed_in_a_row + 1 if failure else 0
        if self.failed_in_a_row >= MOST_FAILURES:
            raise RunError(f"{MOST_FAILURES} trials failed one after another; the last said: {failure}")

    def _values(self, scores: Sequence[float], resources: dict[str, float]) -> list[float]:
        own = {
            "validation": fmean(scores),
            "peak_memory": 1e6 * resources.get("peak_memory_mb", 0.0),
            "train_seconds": resources.get("train_seconds", 0.0),
            "trainable_parameters": resources.get("trainable_parameters", 0.0),
        }
        return [own[name] for name in self.plan.settings.objectives]


def mean_resources(found: Sequence[dict[str, float]]) -> dict[str, float]:
    """Means over the units; of the memory, the highest."""
    if not found:
        return {}
    both = set.intersection(*map(set, found))  # a unit that ran alone has no company to tell of
    means = {name: fmean(one[name] for one in found) for name in found[0] if name in both}
    return means | {"peak_memory_mb": max(one["peak_memory_mb"] for one in found)}


optuna.logging.set_verbosity(optuna.logging.ERROR)
