"""A choice from its limits to the model: the decision, what more labels would change, the final training."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from effft.choice.answer import Judged, sentences, table
from effft.choice.average import Average, average_of
from effft.choice.candidates import Candidate
from effft.choice.decision import decide, fitting
from effft.choice.final import FinalTraining
from effft.choice.ledger import Ledger
from effft.choice.outlook import outlook
from effft.choice.page import answer_page
from effft.choice.plan import ChoicePlan
from effft.choice.tuning import tune
from effft.config import TrackingTarget
from effft.evaluation.metric_keys import CROSS_VALIDATED
from effft.progress import ProgressCallback
from effft.reports.blocks import Table
from effft.reports.page import markdown_blocks
from effft.runs.session import Session
from effft.search.storage import open_study, said_plainly
from effft.search.study import open_study_run, register_once
from effft.tracking.tracker import tracked


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
            average, left = average_of(ledger, plan, made.judged, made.best)
            several = len(average.members) > 1
            final = FinalTraining(ledger, replace(plan, average=plan.average and several), target, parent)
            best, run_id, last = final.best_of(made)
            value, model = best.mean, Average([best])
            last += left if plan.average else []
            if several and plan.average and run_id:
                model, run_id, said = final.mean_of(average, (best, run_id), task)
                value = model.judged(task, metric)[0] if len(model.members) > 1 else value
                last += said
            elif several:
                how = "nothing is tracked" if plan.average else "--average trains them all, and makes it the model"
                more.append(f"{average.told(task, metric)}: {how}.")
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
    shares = {one.arm.candidate.label: weight for one, weight in zip(model.members, model.weights, strict=True)}
    return Answer(best.arm.candidate, found, made.judged, overview, run_id, shares)
