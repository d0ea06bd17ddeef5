"""An executor whose trials share the passes over one frozen backbone (docs/packed.md)."""

import logging
from collections import deque
from collections.abc import Hashable
from typing import TYPE_CHECKING

from effft.search.jobs import JobResult, TrainingJob, below_threshold, failed_result, measure

if TYPE_CHECKING:
    from effft.multi_adapter.runs import MultiAdapterRuns, RunResult
    from effft.runs.session import Session

log = logging.getLogger(__name__)


class MultiAdapterExecutor:
    """Measures up to `width` jobs side by side; a job that cannot share passes (vanilla, top layers) is measured alone.

    The order of the results depends on the jobs alone.
    """

    def __init__(self, session: "Session", width: int) -> None:
        self.session, self.width = session, width
        self._jobs: dict[Hashable, TrainingJob] = {}
        self._curves: dict[Hashable, list[float]] = {}
        self._ready: deque[tuple[Hashable, JobResult]] = deque()
        self._alone: deque[Hashable] = deque()
        self._groups: dict[tuple[object, ...], MultiAdapterRuns] = {}
        self._broken: set[tuple[object, ...]] = set()

    def submit(self, key: Hashable, job: TrainingJob) -> None:
        """Queue a job."""
        from effft.multi_adapter.runs import MultiAdapterRuns, can_share_passes, group_key, shared_backbone
        from effft.runs.plan import prepare_validation

        self._jobs[key], self._curves[key] = job, []
        try:
            plan = prepare_validation(job.config, self.session, job.fold)
            if not can_share_passes(plan) or (group := group_key(plan)) in self._broken:
                self._alone.append(key)
                return
            if group not in self._groups:
                self._groups[group] = MultiAdapterRuns(shared_backbone(plan), self.width)
            should_stop = None if job.epoch_thresholds is None else lambda e, v: self._should_stop(key, e, v)
            self._groups[group].enter(key, plan, should_stop)
        except Exception as error:
            self._ready.append((key, failed_result(error)))

    def _should_stop(self, key: Hashable, epoch: int, value: float) -> bool:
        """As in `measure`; epoch 1 starts the curve anew, as trials do where memory was short."""
        self._curves[key] = [*(self._curves[key] if epoch > 1 else ()), value]
        return below_threshold(self._jobs[key].epoch_thresholds or (), epoch, value)

    def next_result(self) -> tuple[Hashable, JobResult]:
        """The next job that ends, with its key."""
        while not self._ready:
            if self._alone:
                key = self._alone.popleft()
                self._ready.append((key, measure(self._jobs[key], self.session)))
            else:
                self._advance(next(group for group, runs in self._groups.items() if len(runs)))
        key, result = self._ready.popleft()
        del self._jobs[key], self._curves[key]
        return key, result

    def _advance(self, group: tuple[object, ...]) -> None:
        """One update of a group; one that fails for no trial's own fault is given up."""
        runs = self._groups[group]
        try:
            self._ready += [(result.key, self._job_result(result)) for result in runs.advance()]
        except Exception as error:
            log.warning("effft: packing failed (%s: %s); its trials are measured alone.", type(error).__name__, error)
            self._alone += runs.abandon()
            self._broken.add(group)

    def _job_result(self, result: "RunResult") -> JobResult:
        if result.failure is not None:
            return failed_result(result.failure)
        curve, thresholds = self._curves[result.key], self._jobs[result.key].epoch_thresholds or ()
        stopped = bool(curve) and below_threshold(thresholds, len(curve), curve[-1])
        return JobResult(result.value, result.resources, "", tuple(curve), stopped)

    def close(self) -> None:
        """Let all groups go."""
        for runs in self._groups.values():
            runs.close()
        self._groups.clear()
