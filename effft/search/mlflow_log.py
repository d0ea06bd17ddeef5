"""MLflow's copy of a study: a child run for every trial, made whole again from Optuna after a kill."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, cast

from optuna.trial import FrozenTrial, TrialState

from effft.search.settings import StudyPlan
from effft.search.spaces import decoded
from effft.tracking.tracker import MemoryTracker, Status, Tracker

if TYPE_CHECKING:
    from effft.tracking.mlflow_tracker import MlflowTracker

STATUS: dict[TrialState, Status] = {
    TrialState.COMPLETE: "FINISHED",
    TrialState.PRUNED: "FINISHED",
    TrialState.FAIL: "FAILED",
}


class Logbook:
    """Starts and finishes the runs of trials under `parent`; `say` gets one line a finished trial."""

    def __init__(self, parent: Tracker, plan: StudyPlan, say: Callable[[str], None] = lambda line: None) -> None:
        self.parent, self.plan, self.say = parent, plan, say
        self.open: dict[int, Tracker] = {}
        self.known: dict[int, str] = {}
        self.best: FrozenTrial | None = None
        self.ended: Counter[str] = Counter()

    @property
    def best_so_far(self) -> str:
        """' · 5 complete, 2 pruned · best 0.8300 (trial 3: rank=8)', for whoever shows where the study is."""
        counts = ", ".join(f"{count} {state}" for state, count in sorted(self.ended.items()))
        best = (
            f" · best {self.best.values[0]:.4f} (trial {self.best.number}: {words_of(self.best)})" if self.best else ""
        )
        return (f" · {counts}" if counts else "") + best

    def start(self, number: int, values: Mapping[str, object]) -> None:
        """The run of a trial that was proposed."""
        config = self.plan.config
        tags = {"optuna.trial": str(number), "study": self.plan.name, "strategy": config.strategy, "kind": "trial"}
        tags |= {"task": self.plan.task, "trial.state": "running"}
        if number in self.known:
            child: Tracker = cast("MlflowTracker", self.parent).reopen(self.known[number])
            child.tags(tags)
        else:
            child = self.parent.child(f"trial {number}", tags)
        child.params(values)
        self.open[number] = child

    def finish(self, trial: FrozenTrial) -> None:
        """What Optuna knows of a finished trial."""
        self._end(trial)
        self._count(trial)
        if trial.state == TrialState.COMPLETE:
            result = f"{trial.values[0]:.4f}"
        else:
            failure = trial.user_attrs.get("failure")
            result = trial.state.name.lower() + (f" ({failure})" if failure else "")
        best = f"; best {self.best.values[0]:.4f} (trial {self.best.number})" if self.best else ""
        self.say(f"trial {trial.number}: {result}{best}; {words_of(trial)}")

    def _count(self, trial: FrozenTrial) -> None:
        self.ended[trial.state.name.lower()] += 1
        if trial.state == TrialState.COMPLETE and (self.best is None or trial.values[0] > self.best.values[0]):
            self.best = trial

    def reconcile(self, trials: Sequence[FrozenTrial]) -> None:
        """After a start: every finished trial has its run, told in full; the runs of trials in flight are noted."""
        for trial in trials:
            self._count(trial)
        if isinstance(self.parent, MemoryTracker):
            return
        from effft.tracking.study_runs import trial_runs

        runs = trial_runs(cast("MlflowTracker", self.parent))
        self.known = {number: run_id for number, (run_id, _) in runs.items()}
        for trial in trials:
            if runs.get(trial.number, ("", ""))[1] != STATUS[trial.state]:
                self.start(trial.number, decoded(trial.params))
                self._end(trial)
        for number in runs.keys() - {trial.number for trial in trials}:
            child = cast("MlflowTracker", self.parent).reopen(self.known[number])
            child.tags({"trial.state": "interrupted"})
            child.close("KILLED")

    def _end(self, trial: FrozenTrial) -> None:
        child = self.open.pop(trial.number)
        _tell(child, trial, self.plan.metric)
        child.close(STATUS[trial.state])


def _tell(child: Tracker, trial: FrozenTrial, metric: str) -> None:
    measured = trial.user_attrs.get("measured", {})
    scores = measured.get("scores", [])
    for step, score in enumerate(scores):
        child.metrics({f"validation/fold/{metric}": score}, step)
    last = {f"resources/{name}": value for name, value in measured.get("resources", {}).items()}
    if scores and trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
        last[f"validation/{metric}"] = fmean(scores)
    child.metrics(last)
    tags = {"trial.state": trial.state.name.lower()}
    if "failure" in trial.user_attrs:
        tags["trial.failure"] = str(trial.user_attrs["failure"])
    child.tags(tags)


def words_of(trial: FrozenTrial) -> str:
    """'learning_rate=0.001, rank=8'."""
    values = decoded(trial.params).items()
    return ", ".join(f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}" for name, value in values)
