"""Optuna's storage is the truth about a study: its finished trials in order, and the results of everything else."""

import hashlib
import json
import os
import socket
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import copy
from datetime import datetime, timedelta
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.artifacts import FileSystemArtifactStore, get_all_artifact_meta, upload_artifact
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from effft.disk import written_whole
from effft.errors import InputError, RunError
from effft.redaction import redact
from effft.search.samplers import DONE
from effft.search.settings import DIRECTIONS, StudyPlan
from effft.search.spaces import Values, distributions, encoded
from effft.strategies.search_space import Dimension
from effft.tracking import postgres
from effft.tracking.sanitize import sentence_of
from effft.tracking.store import sqlite_path

FLAG = "flag --storage"
SIGNATURE, DRIVER = "signature", "driver"
NOTE, NOTE_PIECE = "dashboard:note", 2045  # Keys of a study's note, and characters of one piece of it.
NUMBER = "number"  # A trial's own note of its number, by which a trial that a broken connection wrote twice is known.


class StoredStudy:
    """What a study has measured: its finished trials in the order of their numbers, and other results by name.

    One process at a time has it (`open_study`). Every write may be made again without harm, so that it can wait for a
    database server that restarts.
    """

    def __init__(self, study: Study, storage: RDBStorage, lock: "FileLock | postgres.AdvisoryLock") -> None:
        self._study, self._storage, self._lock = study, storage, lock
        self.results: dict[str, Any] = postgres.retry(lambda: study.user_attrs)
        self.trials = self._read()

    def _read(self) -> list[FrozenTrial]:
        trials: list[FrozenTrial] = []
        for trial in postgres.retry(lambda: self._study.get_trials(deepcopy=False)):
            if trial.user_attrs.get(NUMBER) == len(trials):
                trials.append(copy(trial))
                trials[-1].number = len(trials) - 1
        return trials

    def add(self, trial: FrozenTrial) -> None:
        """Keep a finished trial; its number must be the next one."""
        if isinstance(self._lock, postgres.AdvisoryLock) and not self._lock.acquire():
            raise RunError("the database was away, and another process has taken the study over meanwhile.")

        def write() -> None:
            if len(self._read()) == trial.number:
                self._study.add_trial(trial)

        postgres.retry(write)
        self.trials.append(trial)

    def record(
        self, space: Mapping[str, Dimension], values: Values, score: float | None, seconds: float, **notes: object
    ) -> FrozenTrial:
        """Keep a single measurement as a trial, which failed where it has no score.

        Args:
            space: The study's space.
            values: A value for each of its names.
            score: The objective.
            seconds: How long it took, until now.
            notes: User attributes.
        """
        number = len(self.trials)
        state = TrialState.FAIL if score is None else TrialState.COMPLETE
        trial = create_trial(
            state=state, params=encoded(values, space), distributions=distributions(space), value=score,
            user_attrs={**notes, NUMBER: number},
        )  # fmt: skip
        trial.number, trial.datetime_start = number, datetime.now() - timedelta(seconds=seconds)
        self.add(trial)
        return trial

    def keep(self, name: str, value: object) -> Any:
        """Keep a result under a name; returns it as it will be read again."""
        postgres.retry(lambda: self._study.set_user_attr(name, value))
        self.results[name] = json.loads(json.dumps(value))
        return self.results[name]

    def write_note(self, text: str) -> None:
        """Set the note of the study, Markdown that optuna-dashboard shows above its trials, in the dashboard's keys."""
        pieces = [text[start : start + NOTE_PIECE] for start in range(0, len(text), NOTE_PIECE)]

        def write() -> None:
            study = self._storage.get_study_id_from_name(self._study.study_name)
            known = self._storage.get_study_system_attrs(study)
            old = sum(name.startswith(f"{NOTE}_str:") for name in known)
            for place, piece in enumerate([*pieces, *[""] * (old - len(pieces))]):
                self._storage.set_study_system_attr(study, f"{NOTE}_str:{place}", piece)
            self._storage.set_study_system_attr(study, f"{NOTE}_ver", int(known.get(f"{NOTE}_ver", 0)) + 1)

        postgres.retry(write)

    def show(self, files: Mapping[str, str]) -> None:
        """Give the study files (name -> text) that optuna-dashboard shows; a file of a known name is replaced.

        They lie in a folder beside the storage's file: `--artifact-dir optuna.db-artifacts`; for a server in the
        working directory. MLflow has them too, so where the folder cannot be written the study goes without.
        """
        path = sqlite_path(self._storage.url) or Path("optuna")
        folder = path.with_name(f"{path.name}-artifacts")
        with warnings.catch_warnings(), tempfile.TemporaryDirectory() as drafts, suppress(OSError):
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            folder.mkdir(exist_ok=True)
            store = FileSystemArtifactStore(folder)
            known = postgres.retry(lambda: get_all_artifact_meta(self._study))
            numbers = {meta.filename: meta.artifact_id for meta in known}
            for name, text in files.items():
                if name in numbers:
                    store.write(numbers[name], BytesIO(text.encode()))
                    continue
                draft = Path(drafts) / name
                draft.write_text(text, encoding="utf-8")
                give = partial(upload_artifact, artifact_store=store, study_or_trial=self._study)
                postgres.retry(partial(give, file_path=str(draft)))

    @property
    def done(self) -> list[FrozenTrial]:
        """The trials that are complete or pruned."""
        return [trial for trial in self.trials if trial.state in DONE]

    @property
    def complete(self) -> list[FrozenTrial]:
        """The complete trials, best validation first; equal ones by number."""
        trials = [trial for trial in self.trials if trial.state == TrialState.COMPLETE]
        return sorted(trials, key=lambda trial: (-trial.values[0], trial.number))


def open_storage(url: str) -> RDBStorage:
    """Any SQLAlchemy URL."""
    if postgres.is_postgres(url):
        url = postgres.with_driver(url)
        with postgres.sole_builder(url, "optuna", FLAG):
            return RDBStorage(url, engine_kwargs={"pool_pre_ping": True, "connect_args": postgres.options_of(url)})
    try:
        return _sqlite(url) if url.startswith("sqlite") else RDBStorage(url)
    except (SQLAlchemyError, ImportError, ValueError, OSError, RuntimeError) as error:
        sentence = redact(" ".join(str(error).split("\n")[0].split()))[:200]
        raise InputError(
            f"storage {redact(url)} cannot be opened: {sentence} (flag --storage; sqlite:///optuna.db is usual)."
        ) from None


def check_storage(url: str) -> None:
    """What can be said of a storage at once, and before anything is made.

    Raises:
        InputError: PostgreSQL does not let us in, or lacks its driver; a password that `mlflow run` would keep.
    """
    if postgres.is_postgres(url):
        if "MLFLOW_RUN_ID" in os.environ and postgres.has_password(url):
            raise InputError(
                "storage: `mlflow run` prints parameters and keeps them with the run, so this password is in both now; "
                "delete that run, change the password, and give the new one in PGPASSWORD or ~/.pgpass."
            )
        postgres.connect(postgres.with_driver(url), FLAG).close()


def _sqlite(url: str) -> RDBStorage:
    """A new file is made beside its place under a lock and appears whole, so that no process finds half of one."""
    if path := sqlite_path(url):
        if not path.parent.is_dir():
            raise ValueError(f"there is no folder {path.parent}")
        with FileLock(f"{path}.lock"):
            if not path.exists():
                with written_whole(path) as new:
                    RDBStorage(f"sqlite:///{new}").engine.dispose()
    return RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 60}})


@contextmanager
def said_plainly() -> Iterator[None]:
    """While open, a storage that does not take what it is told (a full disk) is a RunError in a sentence."""
    try:
        yield
    except (optuna.exceptions.StorageInternalError, SQLAlchemyError) as error:
        said = sentence_of(error.__cause__ or error, 200)
        raise RunError(f"the study's storage: {said}; when that is mended, the same command goes on.") from error


@contextmanager
def open_study(url: str, plan: StudyPlan) -> Iterator[StoredStudy]:
    """The study of this name, new or as it was left; no other process can open it until this one is done or dies.

    Raises:
        InputError: another process has it; it was made with another strategy, space, setting, data or weights.
    """
    storage, lock = open_storage(url), _lock_of(url, plan.name)
    try:
        taken = lock.acquire()
    except Timeout:
        taken = False
    try:
        study = _load(storage, plan)
        if not taken:
            raise InputError(
                f"study {plan.name!r} is driven by {study.user_attrs.get(DRIVER, 'another process')}; watch it in "
                "`effft ui`, end that process to go on here, or give another name (--study NAME)."
            )
        stored = StoredStudy(study, storage, lock)
        _check_signature(stored, plan)
        _name_objectives(study, plan)
        now = datetime.now().astimezone().isoformat(" ", "seconds")
        stored.keep(DRIVER, f"process {os.getpid()} on {socket.gethostname()} since {now}")
        yield stored
    finally:
        lock.release()


def _lock_of(url: str, name: str) -> "FileLock | postgres.AdvisoryLock":
    """A lock that ends with its process: of the server, of a file beside an sqlite file, else of this machine."""
    if postgres.is_postgres(url):
        return postgres.AdvisoryLock(postgres.with_driver(url), f"effft study {name}", FLAG)
    path = sqlite_path(url) or Path(tempfile.gettempdir()) / f"effft-{hashlib.sha256(url.encode()).hexdigest()[:16]}"
    return FileLock(f"{path}.{hashlib.sha256(name.encode()).hexdigest()[:8]}.lock", timeout=0)


def _load(storage: RDBStorage, plan: StudyPlan) -> Study:
    directions = [DIRECTIONS[name] for name in plan.settings.objectives]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            return postgres.retry(
                lambda: optuna.create_study(
                    storage=storage, study_name=plan.name, load_if_exists=True, directions=directions
                )
            )
        except SQLAlchemyError as error:
            raise InputError(f"storage: {' '.join(str(error).split())[:200]} (flag --storage).") from None


def _name_objectives(study: Study, plan: StudyPlan) -> None:
    """Tell what reads the storage, such as optuna-dashboard, what the values of a trial are."""
    names = [name.replace("_", " ") for name in plan.settings.objectives]
    names[0] = f"validation {plan.metric}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if postgres.retry(lambda: study.metric_names) != names:
            postgres.retry(lambda: study.set_metric_names(names))


def _check_signature(stored: StoredStudy, plan: StudyPlan) -> None:
    known = stored.results.get(SIGNATURE)
    if known is None:
        if stored.results or stored.trials:
            raise InputError(f"study {plan.name!r} exists and was not made by effft; give another --study NAME.")
        stored.keep(SIGNATURE, plan.signature)
    elif known != plan.signature:
        raise InputError(_difference(plan, known, plan.signature))


def _difference(plan: StudyPlan, old: Mapping[str, str], new: Mapping[str, str]) -> str:
    keys = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    start = "give the study another name to start anew (--study NAME; of a tuned comparison, take another folder)"
    changed = [key.removeprefix("data.") for key in keys if key.startswith("data.")]
    if changed and "task" not in keys:
        return (
            f"study {plan.name!r} was made with other data: the record or the files of task {plan.task!r} have changed "
            f"({', '.join(changed)}); {start}, or put the old files back."
        )
    key = keys[0]
    if key == "weights":
        return (
            f"study {plan.name!r} was made with other weights: those of {plan.config.model!r} have other content; "
            f"{start}, or put the old files back."
        )
    if key == "space":
        before, after = json.loads(old.get(key, "{}")), json.loads(new.get(key, "{}"))
        key = next(k for k in sorted({*before, *after}) if before.get(k) != after.get(k))
        return (
            f"study {plan.name!r} exists with another space: {key} was {before.get(key, 'fixed')}, not "
            f"{after.get(key, 'fixed')}; {start}, or give the same space."
        )
    return (
        f"study {plan.name!r} exists with {key}={old.get(key, 'none')}, not {new.get(key, 'none')}; {start}, or give "
        "the same settings."
    )
