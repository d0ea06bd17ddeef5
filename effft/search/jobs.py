"""The work of a trial, cut into units: one training and one validation each. Workers know nothing else."""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

from effft.config import RunConfig
from effft.evaluation.metrics import WORST_SLICE
from effft.progress import ProgressCallback, silent
from effft.redaction import redact
from effft.runs.runner import WorkerDiedError

if TYPE_CHECKING:
    from effft.runs.session import Session

REPORTED_RESOURCES = (
    "peak_memory_mb", "train_seconds", "evaluation_seconds", "trainable_parameters", "tokens_per_second",
    "queries_per_second",
)  # fmt: skip
"""The resources that a unit reports."""

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class TrainingJob:
    """A configuration (seed included) to be validated; fold: (which, of how many, cut by which seed) or None.

    epoch_thresholds: validation score after each epoch below which the training ends early; None: epochs are not
    scored.
    """

    config: RunConfig
    fold: tuple[int, int, int] | None = None
    epoch_thresholds: tuple[float, ...] | None = None


@dataclass(frozen=True)
class JobResult:
    """value: the primary metric on validation; failure: why there is none.

    curve: the metric after every epoch, where the unit has thresholds; stopped: it fell below one. answers: the columns
    row, label and answer of what was validated; where a row has one label, scores (log-probabilities of the labels),
    and rival and share, as `smoothed` tells them; and the slices of each row where the worst one is the metric.
    """

    value: float
    resources: dict[str, float]
    failure: str = ""
    curve: tuple[float, ...] = ()
    stopped: bool = False
    answers: dict[str, list[object]] = field(default_factory=dict)


def measure(unit: TrainingJob, session: "Session", progress: ProgressCallback = silent) -> JobResult:
    """Train and validate. Only the `train` source is opened; whatever goes wrong is a sentence in the result.

    Memory is measured afresh on the first fold alone: it is the highest of a trial's folds that counts.
    """
    import numpy as np

    from effft.evaluation.evaluate import slice_rows
    from effft.evaluation.metrics import softmax
    from effft.evaluation.smoothing import smoothed
    from effft.runs.experiment import execute
    from effft.runs.plan import prepare_validation
    from effft.tracking.tracker import MemoryTracker

    thresholds, curve, stopped = unit.epoch_thresholds or (), list[float](), False

    def should_stop(epoch: int, value: float) -> bool:
        nonlocal stopped
        curve.append(value)
        stopped = epoch <= len(thresholds) and value < thresholds[epoch - 1]
        return stopped

    try:
        plan = prepare_validation(unit.config, session, unit.fold)
        stop = None if unit.epoch_thresholds is None else should_stop
        first = unit.fold is None or unit.fold[0] == 0
        result = execute(plan, MemoryTracker(), progress, stop, afresh=first)
    except Exception as error:
        return failed_result(error)
    resources = {name: result.metrics[f"resources/{name}"] for name in REPORTED_RESOURCES}
    value, table = result.metrics[f"validation/{result.primary}"], result.tables["validation"]
    answers, task = {name: table[name] for name in ("row", "label", "answer")}, plan.task
    held = plan.evaluated["validation"].examples
    if not task.multi_label:
        scores = np.array([table[f"score_{name}"] for name in task.labels]).T
        rivals, shares = smoothed(np.array([example.label for example in held]), scores)
        answers |= {"rival": [task.written(one) for one in rivals.tolist()], "share": shares.round(4).tolist()}
        answers["scores"] = np.log(np.maximum(softmax(scores), 1e-9)).round(4).tolist()
    if result.primary == WORST_SLICE and task.train.slices:
        groups = slice_rows(task.labels, held, task.train.slices).items()
        answers["slices"] = [[str(pairs) for pairs, rows in groups if row in rows] for row in range(len(held))]
    return JobResult(value, resources, "", tuple(curve), stopped, answers)


def failed_result(error: Exception) -> JobResult:
    """What went wrong, as a sentence."""
    said = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
    return JobResult(float("nan"), {}, redact(said))


class Executor(Protocol):
    """Something that measures units, such as a `Runner`; `workers` of them at a time are worth giving."""

    workers: int

    def submit(self, key: Hashable, unit: TrainingJob, /) -> None:
        """Take a unit in hand."""

    def next_result(self) -> tuple[Hashable, JobResult | WorkerDiedError]:
        """A unit that has ended, with its key."""

    def close(self) -> None:
        """Let the workers go."""


def next_result(executor: Executor) -> tuple[Hashable, JobResult]:
    """A unit that has ended, with its key; one that no worker survived is a failed one."""
    key, result = executor.next_result()
    return key, failed_result(result) if isinstance(result, WorkerDiedError) else result


def measure_all(executor: Executor, units: Mapping[Key, TrainingJob]) -> Iterator[tuple[Key, JobResult]]:
    """The results as they come, as many units in hand as the executor takes."""
    waiting, flying = iter(units.items()), 0
    while True:
        for key, unit in islice(waiting, executor.workers - flying):
            executor.submit(key, unit)
            flying += 1
        if not flying:
            return
        yield cast("tuple[Key, JobResult]", next_result(executor))
        flying -= 1
