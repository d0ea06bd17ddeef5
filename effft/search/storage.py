"""Optuna's storage is the truth about trials: opening it, and putting it in order after any kind of end."""

import json
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import optuna
from filelock import FileLock
from optuna.storages import RDBStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError

from effft.errors import InputError, RunError
from effft.redaction import redact
from effft.search.postgres_storage import FLAG, RetryingStorage
from effft.search.samplers import pruner_of
from effft.search.settings import StudyPlan
from effft.tracking.postgres import check_login, has_password, is_postgres, with_driver
from effft.tracking.sanitize import sentence_of
from effft.tracking.store import sqlite_path

DONE = (TrialState.COMPLETE, TrialState.PRUNED)
"""Finished: it said what it had to say. Failed and interrupted trials did not."""

DEFAULT = 0
"""The guess that is the default configuration: the first of `spaces.first_guesses`."""

DIRECTIONS = {
    "validation": StudyDirection.MAXIMIZE,
    "peak_memory": StudyDirection.MINIMIZE,
    "train_seconds": StudyDirection.MINIMIZE,
    "trainable_parameters": StudyDirection.MINIMIZE,
}
"""Objectives by name."""


def open_storage(url: str) -> RDBStorage:
    """Any SQLAlchemy URL.

    Raises:
        InputError: it cannot be opened.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if is_postgres(url):
        return RetryingStorage.at(with_driver(url))
    sqlite = url.startswith("sqlite")
    options = {"connect_args": {"timeout": 60}}
    try:
        storage = _locked(url, options) if sqlite else RDBStorage(url)
    except (SQLAlchemyError, ImportError, ValueError, OSError, RuntimeError) as error:
        sentence = redact(" ".join(str(error).split("\n")[0].split()))[:200]
        raise InputError(
            f"storage {redact(url)} cannot be opened: {sentence} (flag --storage; sqlite:///optuna.db is usual)."
        ) from None
    if sqlite:
        _make_light(storage)
    return storage


def check_storage(url: str) -> None:
    """What can be said of a storage at once, and before anything is made.

    Raises:
        InputError: PostgreSQL does not let us in, or lacks its driver; a password that `mlflow run` would keep.
    """
    if is_postgres(url):
        if "MLFLOW_RUN_ID" in os.environ and has_password(url):
            raise InputError(
                "storage: `mlflow run` prints parameters and keeps them with the run, so this password is in both now; "
                "delete that run, change the password, and give the new one in PGPASSWORD or ~/.pgpass."
            )
        check_login(with_driver(url), FLAG)


def _locked(url: str, options: dict[str, dict[str, int]]) -> RDBStorage:
    """An sqlite file is made beside its place under a lock and appears whole: no race, and no half of one."""
    path = sqlite_path(url)
    if path is None:
        return RDBStorage(url, engine_kwargs=options)
    if not path.parent.is_dir():
        raise ValueError(f"there is no folder {path.parent}")
    with FileLock(f"{path}.lock"):
        if not path.exists():
            new = path.with_name(f"{path.name}.new")
            new.unlink(missing_ok=True)
            RDBStorage(f"sqlite:///{new}", engine_kwargs=options).engine.dispose()
            new.replace(path)
        return RDBStorage(url, engine_kwargs=options)


@contextmanager
def said_plainly() -> Iterator[None]:
    """While open, a storage that does not take what it is told (a full disk) is a RunError in a sentence."""
    try:
        yield
    except (optuna.exceptions.StorageInternalError, SQLAlchemyError) as error:
        said = sentence_of(error.__cause__ or error, 200)
        raise RunError(f"the study's storage: {said}; when that is mended, the same command goes on.") from error


def _make_light(storage: RDBStorage) -> None:
    """Write-ahead log; no wait for the disk at every commit (a killed process loses nothing by that)."""

    def tune(connection: object, _record: object) -> None:
        cursor = connection.cursor()  # type: ignore[attr-defined]
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.close()

    event.listen(storage.engine, "connect", tune)
    storage.engine.dispose()


def open_study(storage: RDBStorage, plan: StudyPlan) -> Study:
    """The study of this name, new or as it was left.

    Raises:
        InputError: it exists with another strategy, space or setting.
    """
    directions = [DIRECTIONS[name] for name in plan.settings.objectives]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            study = optuna.create_study(
                storage=storage, study_name=plan.name, load_if_exists=True,
                directions=directions, pruner=pruner_of(plan.settings.pruner),
            )  # fmt: skip
        except SQLAlchemyError as error:
            raise InputError(f"storage: {' '.join(str(error).split())[:200]} (flag --storage).") from None
    known = study.user_attrs.get("signature")
    if known is None:
        if study.get_trials(deepcopy=False):
            raise InputError(f"study {plan.name!r} exists and was not made by effft; give another --study.")
        study.set_user_attr("signature", plan.signature)
    elif known != plan.signature:
        raise InputError(_difference(plan.name, known, plan.signature))
    return study


def _difference(name: str, old: Mapping[str, str], new: Mapping[str, str]) -> str:
    key = next(k for k in sorted({*old, *new}) if old.get(k) != new.get(k))
    if key == "space":
        before, after = json.loads(old.get(key, "{}")), json.loads(new.get(key, "{}"))
        key = next(k for k in sorted({*before, *after}) if before.get(k) != after.get(k))
        return (
            f"study {name!r} exists with another space: {key} was {before.get(key, 'fixed')}, not "
            f"{after.get(key, 'fixed')}; give another --study name or the same space."
        )
    return (
        f"study {name!r} exists with {key}={old.get(key, 'none')}, not {new.get(key, 'none')}; give another --study "
        "name or the same settings."
    )


def enqueue_guesses(study: Study, guesses: Iterable[Mapping[str, object]]) -> None:
    """Put the first guesses at the head of the queue, each once, whatever happened before."""
    there = {t.user_attrs.get("guess") for t in study.get_trials(deepcopy=False)}
    for place, guess in enumerate(guesses):
        if place not in there:
            study.enqueue_trial(dict(guess), user_attrs={"guess": place})


def requeue(study: Study) -> list[int]:
    """Give back to the queue what an earlier process had in flight; return the numbers of its trials.

    First enqueued, then ended, each noted: a kill in between is made good by the next start.
    """
    trials = study.get_trials(deepcopy=False)
    again = {t.user_attrs.get("requeue_of") for t in trials}
    lost = [t for t in trials if t.state == TrialState.RUNNING]
    for trial in lost:
        if trial.number not in again and trial.params and "failure" not in trial.user_attrs:
            kept = {k: v for k, v in trial.user_attrs.items() if k == "guess"}
            study.enqueue_trial(trial.params, user_attrs={**kept, "requeue_of": trial.number})
        study.tell(trial.number, state=TrialState.FAIL)
    return [trial.number for trial in lost]


def interrupted(study: Study) -> set[int]:
    """Numbers of the trials that a process left in flight when it ended: no failures of their own."""
    return {
        t.number for t in study.get_trials(deepcopy=False, states=(TrialState.FAIL,)) if "failure" not in t.user_attrs
    }


def done(study: Study) -> list[FrozenTrial]:
    """The finished trials, complete or pruned."""
    return study.get_trials(deepcopy=False, states=DONE)


def complete(study: Study) -> list[FrozenTrial]:
    """The complete trials, best validation first; equal ones by number."""
    found = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return sorted(found, key=lambda t: (-t.values[0], t.number))
