"""A comparison under one tracked run for each task, with the tables of what came out."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from effft.config import TrackingTarget
from effft.errors import InputError
from effft.progress import ProgressCallback, say, silent
from effft.reports.csv_files import outcomes_csv
from effft.reports.disagreement import Disagreement, disagreement_csv, disagreements
from effft.reports.page import markdown_blocks
from effft.reports.results import ResultsTable, outcomes_table
from effft.runs.compare import Outcome, PlannedComparison, ResultsFile
from effft.tracking import open_tracker
from effft.tracking.tracker import Tracker, tracked

if TYPE_CHECKING:
    from effft.search.tuned import TunedComparison


@dataclass(frozen=True)
class TaskOutcomes:
    """What the runs of a comparison gave on one task; `parent` is the tracked run above them."""

    name: str
    parent: Tracker
    outcomes: Sequence[Outcome]
    table: ResultsTable
    disagreements: Sequence[Disagreement]

    @property
    def failed(self) -> bool:
        """Whether a run failed."""
        return any(outcome.failure for outcome in self.outcomes)

    def json(self) -> dict[str, Any]:
        """The table, and for sets without labels how often two strategies differ, as values for JSON."""
        sets = {one.name: [[*pair, share] for pair, share in one.pairs.items()] for one in self.disagreements}
        return self.table.json() | ({"disagreement": sets} if sets else {})


@contextmanager
def track_comparison(
    job: "TunedComparison | PlannedComparison",
    target: TrackingTarget,
    show: Callable[[TaskOutcomes], None],
    on_run: ProgressCallback = silent,
) -> Iterator[list[TaskOutcomes]]:
    """Work off a comparison under a parent run for each task, which stays open while the block runs.

    Args:
        job: The comparison, checked.
        target: Where runs are kept.
        show: Called with what came out for each task, also where the comparison is interrupted.
        on_run: Called with (name of a run, runs that are over, runs in all).

    Raises:
        InputError: Another process works on this comparison in this folder.
    """
    path = None if target.disabled else job.results_path
    outcomes: dict[int, Outcome] = {}
    by_task: list[TaskOutcomes] = []
    with ExitStack() as stack:
        stack.enter_context(_alone(path))
        file = ResultsFile(path)
        if file.results:
            say(f"{len(file.results)} runs are taken from {path}; remove it to run them again.")
        say(job.announcement())
        parents = {task: stack.enter_context(tracked(_open_parent(job, task, target, file))) for task in job.tasks}
        os.environ.pop("MLFLOW_EXPERIMENT_ID", None)  # `mlflow run` chose it for the parents alone
        try:
            outcomes.update(job.outcomes(parents, target, file, on_run))
        finally:
            for task in job.tasks:
                if own := [outcome for _, outcome in sorted(outcomes.items()) if outcome.config.task == task]:
                    by_task.append(_keep_outcomes(job, task, own, parents[task]))
                    show(by_task[-1])
        if not any(task.failed for task in by_task) and not job.left_out:
            file.remove()
        yield by_task
        for task_outcomes in by_task:
            if task_outcomes.failed:
                task_outcomes.parent.close("FAILED")


@contextmanager
def _alone(path: Path | None) -> Iterator[None]:
    """Keep other processes from the same comparison in this folder, whose runs they would make once more."""
    if path is None:
        yield
        return
    lock = FileLock(f"{path}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(
            f"another process works on this comparison in this folder ({path}); wait for it, or stop it: the same "
            "command then goes on with what is left."
        ) from None
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _keep_outcomes(
    job: "TunedComparison | PlannedComparison", task: str, outcomes: Sequence[Outcome], parent: Tracker
) -> TaskOutcomes:
    """The tables of one task, kept with the parent run."""
    table, differing = outcomes_table(outcomes), list(disagreements(outcomes))
    parent.text("comparison.md", table.markdown())
    parent.text("comparison.csv", outcomes_csv(outcomes))
    parent.metrics(table.metrics())
    if differing:
        config = outcomes[0].config
        splits = {one.name: job.session.split(config, one.name).examples for one in differing}
        texts = {name: {e.index: e.texts for e in examples} for name, examples in splits.items()}
        parent.text("disagreement.csv", disagreement_csv(differing, texts))
        parent.text("disagreement.md", markdown_blocks([one.table() for one in differing]))
    parent.flush()
    return TaskOutcomes(job.tasks[task], parent, outcomes, table, differing)


def _open_parent(
    job: "TunedComparison | PlannedComparison", task: str, target: TrackingTarget, file: ResultsFile
) -> Tracker:
    """The tracked run of one task: a new one, or that of the comparison that was interrupted."""
    name, tags, params = job.describe(task)
    experiment = target.experiment or f"effft/{job.tasks[task]}"
    if task in file.parents:
        from effft.tracking.study_runs import open_parent as continue_run

        parent: Tracker = continue_run(experiment, name, tags, target.uri, file.parents[task])
    else:
        parent = open_tracker(target, experiment, name, tags)
    file.add("parents", task, parent.run_id)
    parent.params(params)
    return parent
