"""The final trainings of a choice, on all rows: of the recommended one, or of all that are averaged."""

from dataclasses import dataclass, field

from effft.choice.answer import Judged
from effft.choice.average import Average, log_average
from effft.choice.decision import HELD, Decision
from effft.choice.ledger import LATE, Arm, Ledger
from effft.choice.plan import SAVING, ChoicePlan
from effft.config import TrackingTarget
from effft.errors import DivergedError, RunError
from effft.runs.experiment import execute
from effft.runs.plan import prepare
from effft.tasks.task import Task
from effft.tracking import open_tracker
from effft.tracking.tracker import Tracker, tracked

OVER = 1.1  # A choice ends within its minutes times this.


@dataclass
class FinalTraining:
    """Trains finalists on all rows, each in a run of its own that logs its model. failed: those that could not be."""

    ledger: Ledger
    plan: ChoicePlan
    target: TrackingTarget
    parent: Tracker
    failed: list[Judged] = field(default_factory=list)

    @property
    def last(self) -> float:
        """Seconds of the choice after which a training is given up."""
        return OVER * self.plan.limits.seconds - SAVING

    def best_of(self, made: Decision) -> tuple[Judged, str, list[str]]:
        """Train the recommended one or, where that diverges, the next finalist; it, its run, and sentences."""
        said, failure = list[str](), RunError()
        for one in sorted(made.judged, key=lambda one: one is not made.best):
            try:
                run_id, late = self.train(one.arm)
            except DivergedError as error:
                failure = error
                self.failed.append(one)
                said.append(f"{one.arm.candidate.label} is left out, as its training on all rows diverged: {error}")
            else:
                return one, run_id, [*said, *late]
        raise failure

    def mean_of(self, average: Average, trained: tuple[Judged, str], task: Task) -> tuple[Average, str, list[str]]:
        """Train the other members too, as far as there is time, and log the mean: what it is of, its run, sentences.

        trained: one of the finalists, and its run, which is the model where nothing else could be trained.
        """
        runs, said = list[tuple[Judged, str]](), list[str]()
        for one in (one for one in average.members if one not in self.failed):
            name, plan = one.arm.candidate.label, self.plan
            needed = plan.final_seconds(one.arm, False) + plan.mean_seconds([one.arm, *(own.arm for own, _ in runs)])
            if one is trained[0]:
                runs.append(trained)
            elif not self._known(one.arm) and self.ledger.spent + needed > plan.limits.seconds:
                said.append(f"{name} is left out of the mean, as no time is left to train it.")
            else:
                try:
                    run_id, late = self.train(one.arm)
                except RunError as error:
                    said.append(f"{name} is left out of the mean, as its training on all rows failed: {error}")
                else:
                    runs += [(one, run_id)] if run_id else []
                    said += late if run_id else [f"{name} is left out of the mean, as its time was up."]
        alone = Average([trained[0]]), trained[1]
        if len(runs) < 2:
            return *alone, said
        average = Average([one for one, _ in runs])
        try:
            run_id = log_average(
                self.ledger, self.plan, average, [run_id for _, run_id in runs], self.target, self.parent, self.last
            )
        except RunError as error:
            if str(error) != LATE:
                raise
            return *alone, [*said, "The mean was not evaluated within the minutes; more --minutes go on with it."]
        return average, run_id, [*said, f"{average.told(task, self.plan.study.metric)}: it is the model."]

    def train(self, arm: Arm) -> tuple[str, list[str]]:
        """Train one on all rows: a soup, and with an out-of-fold estimate, as far as there is time for these.

        Returns:
            The id of its run, and a sentence about a soup; or '', and a sentence, where it would end too long after the
            minutes.
        """
        estimated, soup = self._way(arm)
        settings = {"log_model": True, "cross_validation": f"{self.plan.folds}x1" if estimated else "none"}
        settings |= {"soup": soup} if soup > 1 else {}
        config = arm.candidate.config.model_copy(update=settings)

        def make() -> str:
            run = prepare(config, self.ledger.session)
            tags = {**run.tags, "choice": self.plan.study.name, "mlflow.parentRunId": self.parent.run_id}
            self.ledger.progress(f"final training of {arm.candidate.label}", 0, 0)
            with tracked(open_tracker(self.target, run.experiment, f"chosen {run.name}", tags)) as tracker:
                execute(run, tracker, self.ledger.until(self.last))
                return tracker.run_id

        try:
            run_id = str(self.ledger.once(self._name(arm), make))
        except RunError:
            if self.ledger.now() <= self.last:
                raise
            late = (
                "The final training did not end within the minutes, so there is no model; more --minutes go on with it."
            )
            return "", [late]
        made = f"{arm.candidate.label} is the mean of the weights of {soup} trainings on all rows (a soup)"
        return run_id, [f"{made}; the scores are of single ones."] if run_id and soup > 1 else []

    def _way(self, arm: Arm) -> tuple[bool, int]:
        return self.plan.final_way(arm, self.ledger.once(HELD, float), self.ledger.spent)

    def _name(self, arm: Arm) -> str:
        """What its run is kept under in the ledger."""
        estimated, soup = self._way(arm)
        return f"final/{arm.candidate.label}" + f"/soup {soup}" * (soup > 1) + "/no estimate" * (not estimated)

    def _known(self, arm: Arm) -> bool:
        """Whether an earlier process has trained it."""
        return self._name(arm) in self.ledger.stored.results
