"""Minutes as a budget: what a study has spent, in all of its processes, and whether something still fits."""

import time

from effft.search.storage import StoredStudy

SPENT = "spent_seconds"


class Clock:
    """Tells the time that a study has taken.

    Args:
        stored: Keeps it, so that a later process counts on.
        seconds: What the study may take.
        began: When this process began to work on the study, as `time.monotonic` tells it; now, where not given.
    """

    def __init__(self, stored: StoredStudy, seconds: float, began: float | None = None) -> None:
        self.stored, self.seconds = stored, seconds
        self.earlier = float(stored.results.get(SPENT, 0.0))
        self._began = time.monotonic() if began is None else began

    @property
    def spent(self) -> float:
        """Seconds, those of earlier processes included."""
        return self.earlier + time.monotonic() - self._began

    def fits(self, seconds: float) -> bool:
        """Whether work of so many seconds would end in time."""
        return self.spent + seconds <= self.seconds

    def note(self) -> None:
        """Keep what is spent."""
        self.stored.keep(SPENT, self.spent)
