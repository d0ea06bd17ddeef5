"""A choice from its limits to the model: the decision, what more labels would change, the final training."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from effft.choice.answer import Judged, sentences, table
from effft.choice.average import Average, average_of, log_average
from effft.choice.candidates import Candidate
from effft.choice.decision import HELD, Decision, decide, fitting
from effft.choice.ledger import Arm, Ledger
from effft.choice.outlook import outlook
from effft.choice.page import answer_page
from effft.choice.plan import SAVING, ChoicePlan
from effft.choice.tuning import tune
from effft.config import TrackingTarget
from effft.errors import DivergedError, RunError
from effft.evaluation.metric_keys import CROSS_VALIDATED
from effft.progress import ProgressCallback
from effft.reports.blocks import Table
from effft.reports.page import markdown_blocks
from effft.runs.experiment import execute
from effft.runs.plan import prepare
from effft.runs.session import Session
from effft.search.storage import open_study, said_plainly
from effft.search.study import open_study_run, register_once
from effft.tracking import open_tracker
from effft.tracking.tracker import Tracker, tracked

OVER = 1.1  # A choice ends within its minutes times this.


@dataclass(frozen=True)
class Answer:
    """What to use, and how sure that is.

    candidate: what is recommended, with its configuration; judged: the finalists, the best first; table: of all
    candidates; run_id: of the final run, '' where nothing is tracked; average: what the model is the mean of, and the
    weights: the recommended one alone, where not all finalists were to be averaged.
    """

    candidate: Candidate
    sentences: list[str]
    judged: list[Judged]
    table: Table
    run_id: str
    average: dict[str, float]

    def json(self) -> dict[str, Any]:
        """The answer as values for JSON."""
        finalists = [
            {"candidate": one.arm.candidate.label, "mean": one.mean, "interval": (one.low, one.high),
             "p_best": one.best, "regret": one.regret, "within_noise": one.within_noise}
            for one in self.judged
        ]  # fmt: skip
        settings = self.candidate.config.model_dump(mode="json", exclude_unset=True)
        return {"use": self.candidate.label, "settings": settings, "sentences": self.sentences, "finalists": finalists,
                "run_id": self.run_id, "average": self.average}  # fmt: skip


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
        ledger, metric = Ledger(stored, plan.study, session, began, progress), plan.study.metric
        arms, dropped = fitting(ledger, plan, say)
        parent = open_study_run(stored, plan.study, target, "choice", f"choose {plan.study.task}")
        with tracked(parent):
            parent.params({**vars(plan.limits), "rows": plan.rows, "folds": plan.folds})
            task = session.task(plan.study.config)
            made = decide(ledger, plan, arms, dropped, partial(tune, ledger, storage, say), task, say)
            more = outlook(ledger, plan, made.best.arm, made.judged, parent)
            best, run_id, last = _train_best(ledger, plan, made, target, parent)
            average, value = Average([best]), best.mean
            if plan.average and run_id:
                average, run_id, said = _average(ledger, plan, made, (best, run_id), target, parent)
                last += said
                value = average.judged(task, metric)[0] if len(average.members) > 1 else value
            elif not plan.average and len((mean := average_of(ledger, plan, made.judged)[0]).members) > 1:
                more.append(f"{mean.told(task, metric)}: --average makes it the model.")
            use, *why = sentences(made.judged, best, made.controls, plan.rows, metric, made.units)
            found = [use, *last, *why, *more]
            if run_id:
                told = register_once(stored, run_id, plan.study.name, target, value, CROSS_VALIDATED)
                found += [line[:1].upper() + line[1:] for line in told]
            overview = table(made.arms, made.judged, dropped, metric)
            parent.text("answer.md", markdown_blocks([found, overview]))
            lead = f"{plan.rows} rows, {plan.folds} folds, {plan.limits.seconds / 60:g} minutes"
            shown = answer_page(f"Choose: {plan.study.task}", lead, found, overview, made.arms, made.judged)
            parent.text("answer.html", shown)
            parent.metrics({"best": best.best, "regret": best.regret, f"choice/{metric}": best.mean})
            parent.note("\n\n".join(found))
            parent.flush()
    shares = {one.arm.candidate.label: weight for one, weight in zip(average.members, average.weights, strict=True)}
    return Answer(best.arm.candidate, found, made.judged, overview, run_id, shares)


def _train_best(
    ledger: Ledger, plan: ChoicePlan, made: Decision, target: TrackingTarget, parent: Tracker
) -> tuple[Judged, str, list[str]]:
    """Train the recommended one on all rows or, where that diverges, the next finalist; it, its run, and sentences."""
    said, failure = list[str](), RunError()
    for one in sorted(made.judged, key=lambda one: one is not made.best):
        try:
            run_id, late = _train(ledger, plan, one.arm, target, parent)
        except DivergedError as error:
            failure = error
            said.append(_diverged(one, error))
        else:
            return one, run_id, [*said, *late]
    raise failure


def _diverged(one: Judged, error: DivergedError) -> str:
    return f"{one.arm.candidate.label} is left out, as its training on all rows diverged: {error}"


def _average(
    ledger: Ledger,
    plan: ChoicePlan,
    made: Decision,
    trained: tuple[Judged, str],
    target: TrackingTarget,
    parent: Tracker,
) -> tuple[Average, str, list[str]]:
    """Train the other finalists too, as far as there is time, and log the mean; of one it is the model itself.

    trained: the recommended one, and its run.
    """
    average, said = average_of(ledger, plan, made.judged)
    runs, mean_seconds = list[tuple[Judged, str]](), plan.mean_seconds([one.arm for one in average.members])
    for one in average.members:
        if one is trained[0]:
            runs.append(trained)
        elif ledger.spent + plan.final_seconds(one.arm, False) + mean_seconds > plan.limits.seconds:
            said.append(f"{one.arm.candidate.label} is left out of the mean, as no time is left to train it.")
        else:
            try:
                run_id, late = _train(ledger, plan, one.arm, target, parent)
            except DivergedError as error:
                said.append(_diverged(one, error))
            else:
                runs += [(one, run_id)] if run_id else []
                said += late if run_id else [f"{one.arm.candidate.label} is left out of the mean, as its time was up."]
    alone, last = (Average([trained[0]]), trained[1]), OVER * plan.limits.seconds - SAVING
    if len(runs) < 2:
        return *alone, said
    average = Average([one for one, _ in runs])
    try:
        run_id = log_average(ledger, plan, average, [run_id for _, run_id in runs], target, parent, last)
    except RunError:
        if ledger.now() <= last:
            raise
        return *alone, [*said, "The mean was not evaluated within the minutes; more --minutes go on with it."]
    told = average.told(ledger.session.task(plan.study.config), plan.study.metric)
    return average, run_id, [*said, f"{told}: it is the model."]


def _train(
    ledger: Ledger, plan: ChoicePlan, arm: Arm, target: TrackingTarget, parent: Tracker
) -> tuple[str, list[str]]:
    """Train the chosen one on all rows: a soup, and with an out-of-fold estimate, as far as there is time for these.

    Returns:
        The id of its run, and a sentence about a soup; or '', and a sentence, where it would end too long after the
        minutes.
    """
    estimated, soup = plan.final_way(arm, ledger.once(HELD, float), ledger.spent)
    settings = {"log_model": True, "cross_validation": f"{plan.folds}x1" if estimated else "none"}
    settings |= {"soup": soup} if soup > 1 else {}
    name, last = f"final/{arm.candidate.label}", OVER * plan.limits.seconds - SAVING
    name += f"/soup {soup}" if soup > 1 else ""
    config = arm.candidate.config.model_copy(update=settings)

    def make() -> str:
        run = prepare(config, ledger.session)
        tags = {**run.tags, "choice": plan.study.name, "mlflow.parentRunId": parent.run_id}
        ledger.progress("final training", 0, 0)
        with tracked(open_tracker(target, run.experiment, f"chosen {run.name}", tags)) as tracker:
            execute(run, tracker, ledger.until(last))
            return tracker.run_id

    try:
        run_id = str(ledger.once(name, make))
    except RunError:
        if ledger.now() <= last:
            raise
        late = "The final training did not end within the minutes, so there is no model; more --minutes go on with it."
        return "", [late]
    made = f"{arm.candidate.label} is the mean of the weights of {soup} trainings on all rows (a soup)"
    made += "; the scores are of single ones."
    return run_id, [made] if run_id and soup > 1 else []
