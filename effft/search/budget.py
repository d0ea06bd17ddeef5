"""Minutes as a budget: what a study has spent, in all of its processes, and whether something still fits."""

import time
from dataclasses import replace
from typing import NamedTuple

from effft.errors import InputError
from effft.search.settings import Settings
from effft.search.storage import StoredStudy

SPENT = "spent_seconds"


class Clock:
    """Tells the time that a study has taken.

    Args:
        stored: Keeps it, so that a later process counts on.
        seconds: What the study may take.
        began: When this process began to work on the study, as `time.monotonic` tells it; now, where not given.

    Attributes:
        trial: Seconds that a trial was expected to take; 0 where nobody knew.
        after: Seconds that what follows the trials was expected to take.
        again, last: Of it, the re-evaluation and the final runs on one seed.
    """

    def __init__(self, stored: StoredStudy, seconds: float, began: float | None = None) -> None:
        self.stored, self.seconds, self.trial, self.after = stored, seconds, 0.0, 0.0
        self.again, self.last = 0.0, 0.0
        self.earlier = float(stored.results.get(SPENT, 0.0))
        self._began = time.monotonic() if began is None else began

    @property
    def spent(self) -> float:
        """Seconds, those of earlier processes included."""
        return self.earlier + time.monotonic() - self._began

    def expect(self, prices: "Prices", settings: Settings, width: int) -> None:
        """Take prices for what will be; width: trials at a time, each of which lasts as long as so many in a row."""
        self.trial, self.after = width * prices.trial, prices.finals(settings)
        self.again, self.last = prices.again, prices.last

    def fits(self, seconds: float) -> bool:
        """Whether work of so many seconds would end in time."""
        return self.spent + seconds <= self.seconds

    def fits_trial(self, seconds: float) -> bool:
        """Whether a trial of so many seconds fits beside what follows, which is as much slower as trials are."""
        slower = max(1.0, seconds / self.trial) if self.trial else 1.0
        return self.fits(seconds + slower * self.after)

    def note(self) -> None:
        """Keep what is spent."""
        self.stored.keep(SPENT, self.spent)


class Prices(NamedTuple):
    """Seconds: of a trial, of the re-evaluation on one fresh seed, of the final runs on one seed and draw."""

    trial: float
    again: float
    last: float

    def finals(self, settings: Settings) -> float:
        """Seconds of all re-evaluations and final runs."""
        return settings.reseeds * self.again + settings.seeds * settings.data_seeds * self.last


def affordable(settings: Settings, prices: Prices) -> Settings:
    """The settings with as many fresh seeds as fit beside a trial, and into the share of the minutes that is theirs.

    Raises:
        InputError: one trial and the least finals do not fit into the minutes.
    """
    seconds = 60 * settings.minutes

    def too_long(settings: Settings) -> bool:
        return prices.trial + prices.finals(settings) > seconds

    while too_long(settings) or prices.finals(settings) > settings.finals_share * seconds:
        again, last = settings.reseeds * prices.again, settings.seeds * settings.data_seeds * prices.last
        if settings.reseeds > 1 and (again >= last or settings.seeds * settings.data_seeds == 1):
            settings = replace(settings, reseeds=settings.reseeds - 1)
        elif settings.seeds > 1:
            settings = replace(settings, seeds=settings.seeds - 1)
        elif settings.data_seeds > 1:
            settings = replace(settings, data_seeds=settings.data_seeds - 1)
        else:
            break
    if too_long(settings):
        least = (prices.trial + prices.finals(settings)) / 60
        raise InputError(
            f"minutes={settings.minutes:g}: one trial, its re-evaluation and the final runs take about {least:.1f} "
            "minutes; raise --minutes, or lower --epochs or --folds."
        )
    return settings
