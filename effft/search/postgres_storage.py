"""Optuna's storage on PostgreSQL: it waits for a server that restarts, and does nothing twice.

One study has one driver (`effft.search.driver`), so whatever appeared during a call is its own.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState

from effft.tracking.postgres import options_of, retry, sole_builder

FLAG = "flag --storage"


class RetryingStorage(RDBStorage):
    """An RDBStorage whose every call waits for the server and may be made again without harm."""

    _number: int | None = None
    """That of the trial which is being made, from the first try on."""

    @staticmethod
    def at(url: str) -> "RetryingStorage":
        """The storage of a URL; its tables are made by one process.

        Raises:
            InputError: it cannot be opened, or is another's database. RunError: another process holds it.
        """
        with sole_builder(url, "optuna", FLAG):
            return RetryingStorage(url, engine_kwargs={"pool_pre_ping": True, "connect_args": options_of(url)})

    def _create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> FrozenTrial:
        self._number = None
        make = super()._create_new_trial
        return retry(lambda: make(study_id, template_trial))

    def _get_prepared_new_trial(self, study_id: int, template_trial: FrozenTrial | None, session: Any) -> Any:
        if self._number is not None:  # an earlier try: it may have arrived, and only its answer was lost
            made = session.query(models.TrialModel).filter_by(study_id=study_id, number=self._number).one_or_none()
            if made is not None:
                return made
        trial = super()._get_prepared_new_trial(study_id, template_trial, session)
        self._number = int(str(trial.number))
        return trial

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Told once, even where the answer of the first telling was lost."""
        tell, told = super().set_trial_state_values, list[bool]()

        def once() -> bool:
            if told and self.get_trial(trial_id).state == state:
                return True
            told.append(True)
            return tell(trial_id, state, values)

        return retry(once)


REPEATABLE = (
    "get_study_id_from_name", "get_study_name_from_id", "get_study_directions", "get_study_user_attrs",
    "get_study_system_attrs", "get_all_studies", "get_trial", "_get_trials", "_get_best_trial_id",
    "get_trial_id_from_study_id_trial_number", "set_study_user_attr", "set_study_system_attr", "_set_trial_param",
    "set_trial_intermediate_value", "set_trial_user_attr", "set_trial_system_attr",
)  # fmt: skip
"""Reads, and writes that end the same however often they are made: what Optuna's cache calls, beside the above."""


def _waiting(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(*values: Any, **named: Any) -> Any:
        return retry(lambda: method(*values, **named))

    return call


for _name in REPEATABLE:
    setattr(RetryingStorage, _name, _waiting(getattr(RDBStorage, _name)))
