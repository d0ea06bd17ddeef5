"""Tuning inside of a choice: the existing search, its trials alone, for a strategy that leads the race."""

from collections.abc import Callable

from effft.choice.candidates import Candidate
from effft.choice.ledger import Arm, Ledger
from effft.config import RunConfig
from effft.errors import EffftError
from effft.runs.runner import Runner
from effft.search.budget import Clock
from effft.search.driver import Driver
from effft.search.jobs import measure
from effft.search.mlflow_log import Logbook
from effft.search.planning import NothingToSearchError, plan_study, split_searched
from effft.search.settings import Settings
from effft.search.spaces import decoded
from effft.search.storage import open_study
from effft.strategies.strategy import compose
from effft.tracking.tracker import MemoryTracker

TRIALS = 20  # Trials at most.
FEWEST = 5  # Trials that must fit for tuning to begin.


def tune(ledger: Ledger, storage: str, say: Callable[[str], None], arm: Arm, deadline: float) -> list[Arm]:
    """An arm with the best configuration that a study finds; none where there is nothing to search, or no time.

    deadline: seconds of the choice at which no further trial begins.
    """
    folds, candidate = ledger.plan.settings.folds, arm.candidate
    if ledger.spent + FEWEST * folds * arm.cost > deadline:
        return []

    def make() -> dict[str, object]:
        given = {k: v for k, v in candidate.config.model_dump(exclude_unset=True).items() if v is not None}
        values, fixed = split_searched(compose(candidate.config.strategy), given)
        settings, name = Settings(trials=TRIALS, folds=folds), f"{ledger.plan.name}/{candidate.name}"
        try:
            study = plan_study(values, fixed, settings, name, ledger.session)
            with open_study(storage, study) as stored:
                clock = Clock(stored, deadline - ledger.now())
                runner = Runner(measure, 1, ledger.session)
                log = Logbook(MemoryTracker(), study)
                log.reconcile(stored.trials)
                Driver(stored, study, runner, log, ledger.progress, clock).run()
                ledger.add_earlier(clock.earlier)
                best = stored.complete[0]
                say(f"{candidate.label}: {len(stored.complete)} trials; {log.best_so_far.removeprefix(' · ')}.")
        except NothingToSearchError:
            return {}
        except EffftError as error:
            say(f"{candidate.label} was not tuned: {error}")
            return {}
        return study.config_of(decoded(best.params)).model_dump(mode="json", exclude_unset=True)

    found = ledger.once(f"tuned/{candidate.name}", make)
    if not found:
        return []
    return [Arm(Candidate(candidate.name, RunConfig(**found), tuned=True), arm.cost, seconds=[arm.cost])]
