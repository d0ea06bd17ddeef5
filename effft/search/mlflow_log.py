"""MLflow's copy of a study: a child run for every trial, made whole again from Optuna after a kill."""

from collections import Counter
from collections.abc import Callable, Mapping
from statistics import fmean

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from effft.search.settings import StudyPlan
from effft.search.spaces import decoded
from effft.search.storage import interrupted
from effft.tracking.tracker import MemoryTracker, Status, Tracker

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
        self.best = float("-inf")
        self.best_line = ""
        self.best_words = ""
        self.ended: Counter[str] = Counter()

    @property
    def standing(self) -> str:
        """' · 5 complete, 2 pruned · best 0.8300 (trial 3: rank=8)', for whoever shows where the study is."""
        counts = ", ".join(f"{count} {state}" for state, count in sorted(self.ended.items()))
        best = f" · best {self.best:.4f} ({self.best_line}: {self.best_words})" if self.best_line else ""
        return (f" · {counts}" if counts else "") + best

    def start(self, number: int, values: Mapping[str, object]) -> None:
        """The run of a trial that was asked for."""
        config = self.plan.config
        tags = {"optuna.trial": str(number), "study": self.plan.name, "strategy": config.strategy, "kind": "trial"}
        tags |= {"task": self.plan.task, "trial.state": "running"}
        child = self.parent.child(f"trial {number}", tags)
        child.params(values)
        self.open[number] = child

    def finish(self, trial: FrozenTrial) -> None:
        """What Optuna knows of a finished trial."""
        child = self.open.pop(trial.number)
        _tell(child, trial, self.plan.metric)
        child.close(STATUS[trial.state])
        self._speak(trial)

    def _count(self, trial: FrozenTrial) -> None:
        self.ended[trial.state.name.lower()] += 1
        if trial.state == TrialState.COMPLETE and trial.values[0] > self.best:
            self.best, self.best_line, self.best_words = trial.values[0], f"trial {trial.number}", words_of(trial)

    def _speak(self, trial: FrozenTrial) -> None:
        self._count(trial)
        words = words_of(trial)
        if trial.state == TrialState.COMPLETE:
            said = f"{trial.values[0]:.4f}"
        else:
            said = trial.state.name.lower() + (f" ({trial.user_attrs['failure']})" if self._failure(trial) else "")
        best = f"; best {self.best:.4f} ({self.best_line})" if self.best_line else ""
        self.say(f"trial {trial.number}: {said}{best}; {words}")

    def _failure(self, trial: FrozenTrial) -> bool:
        return "failure" in trial.user_attrs

    def reconcile(self, study: Study) -> None:
        """After a start: every finished trial has its run, told in full; interrupted ones are KILLED."""
        trials, lost = study.get_trials(deepcopy=False), interrupted(study)
        for trial in trials:
            if trial.state in STATUS and trial.number not in lost:
                self._count(trial)
        if isinstance(self.parent, MemoryTracker):
            return
        from effft.tracking import study_runs as studies
        from effft.tracking.mlflow_tracker import MlflowTracker

        assert isinstance(self.parent, MlflowTracker)
        runs = studies.trial_runs(self.parent)
        for trial in trials:
            if trial.state not in STATUS:
                continue
            wanted: Status = "KILLED" if trial.number in lost else STATUS[trial.state]
            run_id, status = runs.get(trial.number, ("", ""))
            if status == wanted or (not run_id and trial.number in lost):
                continue
            if not run_id:
                self.start(trial.number, decoded(trial.params))
            else:
                self.open[trial.number] = self.parent.reopen(run_id)
            self._repair(trial, wanted)

    def _repair(self, trial: FrozenTrial, status: Status) -> None:
        child = self.open.pop(trial.number)
        if status != "KILLED":
            _tell(child, trial, self.plan.metric)
        else:
            child.tags({"trial.state": "interrupted"})
        child.close(status)


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
    return ", ".join(f"{name}={shown(value)}" for name, value in decoded(trial.params).items())


def shown(value: object) -> str:
    """A value as a person reads it."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
