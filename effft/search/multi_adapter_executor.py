"""An executor whose trials share the passes over one frozen backbone (docs/packed.md)."""

import logging
from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from effft.search.jobs import JobResult, TrainingJob, below_threshold, failed_result, measure

if TYPE_CHECKING:
    from effft.multi_adapter.runs import MultiAdapterRuns, Scored
    from effft.runs.plan import Plan
    from effft.runs.session import Session


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Given:
    """A unit in hand; curve: what its pace was told, when it asks for bars."""

    unit: TrainingJob
    curve: list[float]

    def pace(self, epoch: int, value: float) -> bool:
        """As `measure` has it; epoch 1 begins anew (where memory was short a pack starts again)."""
        if epoch == 1:
            self.curve.clear()
        self.curve.append(value)
        return below_threshold(self.unit.epoch_thresholds or (), epoch, value)


class MultiAdapterExecutor:
    """Measures up to `width` units side by side; what cannot share passes (vanilla, top layers) is measured alone.

    `give` a unit and `take` what ends next, so that a trial that ends or is pruned makes room for another at once.
    The order is a function of the units alone.
    """

    def __init__(self, session: "Session", width: int) -> None:
        self.session, self.width = session, width
        self._given: dict[Hashable, _Given] = {}
        self._ready: deque[tuple[Hashable, JobResult]] = deque()
        self._alone: deque[Hashable] = deque()
        self._packs: dict[tuple[object, ...], MultiAdapterRuns] = {}
        self._refused: set[tuple[object, ...]] = set()

    def run(self, units: Sequence[TrainingJob]) -> list[JobResult]:
        """The results in the order of the units; a single one is measured as in process."""
        if len(units) == 1 and not self._given:
            return [measure(units[0], self.session)]
        for place, unit in enumerate(units):
            self.submit(place, unit)
        found = dict(self.next_result() for _ in units)
        return [found[place] for place in range(len(units))]

    def submit(self, key: Hashable, unit: TrainingJob) -> None:
        """Take a unit in hand."""
        from effft.multi_adapter.runs import kind_of, packable
        from effft.runs.plan import prepare_validation

        self._given[key] = given = _Given(unit, [])
        try:
            plan = prepare_validation(unit.config, self.session, unit.fold)
            if not packable(plan) or (kind := kind_of(plan)) in self._refused:
                self._alone.append(key)
                return
            self._pack(kind, plan).enter(key, plan, given.pace if unit.epoch_thresholds is not None else None)
        except Exception as error:
            self._ready.append((key, failed_result(error)))

    def _pack(self, kind: tuple[object, ...], plan: "Plan") -> "MultiAdapterRuns":
        from effft.multi_adapter.runs import MultiAdapterRuns, working

        if kind not in self._packs:
            self._packs[kind] = MultiAdapterRuns(working(plan), self.width)
        return self._packs[kind]

    def next_result(self) -> tuple[Hashable, JobResult]:
        """The next unit that ends, with its key."""
        while not self._ready:
            if self._alone:
                key = self._alone.popleft()
                self._ready.append((key, measure(self._given[key].unit, self.session)))
                continue
            self._advance(next(kind for kind, pack in self._packs.items() if len(pack)))
        key, found = self._ready.popleft()
        del self._given[key]
        return key, found

    def _advance(self, kind: tuple[object, ...]) -> None:
        """One step of a pack; one that cannot work (a model that calls its maps in its own way) is given up."""
        pack = self._packs[kind]
        try:
            self._ready += [(one.key, self._measured(one)) for one in pack.advance()]
        except Exception as error:
            log.warning("effft: the pack failed (%s: %s); its trials are measured alone.", type(error).__name__, error)
            self._alone += pack.abandon()
            self._refused.add(kind)

    def _measured(self, one: "Scored") -> JobResult:
        if one.failure is not None:
            return failed_result(one.failure)
        given = self._given[one.key]
        stopped = bool(given.curve) and below_threshold(
            given.unit.epoch_thresholds or (), len(given.curve), given.curve[-1]
        )
        return JobResult(one.value, one.resources, "", tuple(given.curve), stopped)

    def close(self) -> None:
        """Let the packs go."""
        for pack in self._packs.values():
            pack.close()
        self._packs.clear()
