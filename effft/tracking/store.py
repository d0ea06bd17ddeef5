"""Opening an MLflow store safely: a new sqlite file is built beside its place, by one process, and moved there."""

import logging
import os
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit
from urllib.request import getproxies, proxy_bypass

from effft.disk import check_regular
from effft.errors import EffftError, InputError, RunError
from effft.tracking.postgres import connect, is_postgres, retry, sole_builder, with_driver
from effft.tracking.provenance import is_dead
from effft.tracking.sanitize import sentence_of

if TYPE_CHECKING:
    from mlflow import MlflowClient

DEFAULT = "sqlite:///mlflow.db"
SECONDS_TO_CONNECT = 3.0
SECONDS_TO_BUILD = 300.0
FLAG = "flag --tracking-uri"
PORTS = {"http": 80, "https": 443, "mysql": 3306, "mssql": 1433}
HTTP_LIMITS = {"MAX_RETRIES": "2", "BACKOFF_FACTOR": "1", "BACKOFF_JITTER": "0", "TIMEOUT": "15"}
"""MLflow's limits for a server that does not answer: three attempts in 48 s instead of half an hour."""


def configure_mlflow() -> None:
    """Keep MLflow's own log lines off the screen, and give up on a silent server within a minute.

    Limits that the user has set in the environment stay. SQLAlchemy's pool would print a traceback for each write that
    Ctrl-C interrupts; what goes wrong in the pool is raised where a connection is used.
    """
    for name in ("mlflow", "alembic", "alembic.runtime.migration", "urllib3.connectionpool"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for name in ("mlflow.store.db.utils", "sqlalchemy.pool"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    for name, value in HTTP_LIMITS.items():
        os.environ.setdefault(f"MLFLOW_HTTP_REQUEST_{name}", value)


def resolve_uri(uri: str = "") -> str:
    """The given URI, else that of MLFLOW_TRACKING_URI, else MLflow's default file in the current folder."""
    return with_driver(uri or os.environ.get("MLFLOW_TRACKING_URI", "") or DEFAULT)


def open_client(uri: str = "") -> "MlflowClient":
    """A client of the store in use. Runs whose process has died are ended as KILLED.

    Raises:
        InputError: The store cannot be opened. RunError: The tracking server does not answer.
    """
    configure_mlflow()
    uri = resolve_uri(uri)
    prepare_store(uri)
    with store_errors():
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        retry(lambda: close_orphaned_runs(client))
        return client


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn whatever opening a store raises (a refused login, an answer that is no JSON) into an InputError."""
    try:
        yield
    except EffftError:
        raise
    except Exception as error:
        raise InputError(f"tracking store: {sentence_of(error).rstrip('.')} ({FLAG}).") from error


def close_orphaned_runs(client: "MlflowClient") -> int:
    """End the RUNNING runs of dead processes of this host as KILLED; return how many."""
    running = f"attributes.status = 'RUNNING' and tags.`effft.host` = '{socket.gethostname()}'"
    experiments = [experiment.experiment_id for experiment in every(client.search_experiments)]
    orphans = [run.info.run_id for run in search_all_runs(client, experiments, running) if is_dead(run.data.tags)]
    for run_id in orphans:
        client.set_terminated(run_id, "KILLED")
    return len(orphans)


def search_all_runs(client: "MlflowClient", experiments: list[str], words: str) -> Iterator[Any]:
    """All runs of the experiments that match a filter."""
    if experiments:
        yield from every(client.search_runs, experiment_ids=experiments, filter_string=words, max_results=1000)


def every(search: Callable[..., Any], **asked: Any) -> Iterator[Any]:
    """All that a search of a client finds, page by page: the first alone has 100 models or 1,000 experiments."""
    token = None
    while True:
        page = search(**asked, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def sqlite_path(uri: str) -> Path | None:
    """The file of an sqlite URI, read as SQLAlchemy reads it ('%20' is a space); None for any other store."""
    if not uri.startswith("sqlite:///"):
        return None
    from sqlalchemy.engine import make_url

    name = make_url(uri).database
    return Path(name) if name and name != ":memory:" else None


def check_place(uri: str) -> None:
    """Check what can be checked of a store before anything heavy is imported."""
    path = sqlite_path(uri)
    if path is not None:
        _must_be_usable(path)
    elif is_postgres(uri):
        connect(uri, FLAG).close()


def prepare_store(uri: str) -> None:
    """Make the store ready for any number of processes; takes milliseconds when it already is.

    Several processes that open a fresh sqlite store at once corrupt it for good, and so does a kill in the middle of
    its migration. The first process therefore builds it under another name while the others wait at a file lock, and
    renames it when it is complete. Write-ahead logging, which is set last, marks a complete store and lets readers
    (the UI) and a writer work together.

    Raises:
        InputError: The path cannot be a database, the address is none, or PostgreSQL refuses the login.
        RunError: The server does not answer, or the file cannot be written.
    """
    if is_postgres(uri):
        _build_once(uri)
        return
    path = sqlite_path(uri)
    if path is None:
        _must_answer(uri)
        return
    _must_be_usable(path)
    if is_ready(path):
        return
    from filelock import FileLock, Timeout

    try:
        with FileLock(f"{path}.lock", timeout=SECONDS_TO_BUILD):
            if not is_ready(path):
                _make_ready(path)
    except Timeout:
        raise RunError(f"tracking store {path}: another process holds {path}.lock; end it, or name another.") from None


@cache
def _build_once(uri: str) -> None:
    """On PostgreSQL the first process of any machine creates the tables while the others wait."""
    with sole_builder(uri, "mlflow", FLAG):
        _make_tables(uri)


def _must_answer(uri: str) -> None:
    try:
        parts = urlsplit(uri)
        scheme, host = parts.scheme.split("+")[0], parts.hostname
        port = parts.port or PORTS.get(scheme)
    except ValueError:
        raise InputError("tracking_uri: the port is no number (flag --tracking-uri).") from None
    if scheme not in PORTS or not host or (scheme in getproxies() and not proxy_bypass(host)):
        return
    try:
        socket.create_connection((host, port or 0), timeout=SECONDS_TO_CONNECT).close()
    except OSError as error:
        raise RunError(
            f"the tracking server {parts.scheme}://{host}:{port} does not answer ({error}); start it, or "
            "take a file: --tracking-uri sqlite:///mlflow.db."
        ) from None


def _must_be_usable(path: Path) -> None:
    store = f"tracking store {path}"
    if path.is_dir():
        raise InputError(f"{store}: it is a folder; name a file (flag --tracking-uri sqlite:///FILE).")
    if os.path.lexists(path):
        check_regular(path)
    if not path.parent.is_dir():
        raise InputError(f"{store}: its folder {path.parent} does not exist (flag --tracking-uri).")
    if not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise InputError(f"{store}: no permission to write there (flag --tracking-uri).")


def _is_empty(path: Path) -> bool:
    return not path.exists() or not path.stat().st_size


def is_ready(path: Path) -> bool:
    """Whether an sqlite store was migrated to the end: write-ahead logging is switched on after that."""
    if _is_empty(path):
        return False
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=30)) as connection:
            tables = connection.execute("select count(*) from sqlite_master where name = 'experiments'").fetchone()[0]
            mode = connection.execute("pragma journal_mode").fetchone()[0]
    except sqlite3.OperationalError as error:
        raise RunError(f"tracking store {path}: {error}.") from None
    except sqlite3.DatabaseError as error:
        raise InputError(f"tracking store {path}: it is no sqlite database ({error}); name another file.") from None
    return bool(mode == "wal" and tables)


def _make_ready(path: Path) -> None:
    """Build a store that does not exist yet; bring one that something else made up to date."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    _remove_drafts(path)  # of processes that were killed
    draft = path.with_name(f"{path.name}.draft-{os.getpid()}") if _is_empty(path) else path
    try:
        _make_tables("sqlite:///" + str(draft).replace("%", "%25").replace("?", "%3F"))
        with closing(sqlite3.connect(draft, timeout=30)) as connection:
            connection.execute("pragma journal_mode=wal")
        if draft != path:
            os.replace(draft, path)
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError) as error:
        reason = sentence_of(error, 200)
        raise RunError(f"tracking store {path}: it could not be made ready ({reason}); name another file.") from None
    finally:
        _remove_drafts(path)


def _make_tables(uri: str) -> None:
    """A client creates the tables of an empty database; `mlflow db upgrade` takes only one that has them."""
    from mlflow import MlflowClient

    configure_mlflow()
    MlflowClient(tracking_uri=uri).search_experiments(max_results=1)


def _remove_drafts(path: Path) -> None:
    for file in path.parent.iterdir():
        if file.name.startswith(f"{path.name}.draft-"):
            file.unlink(missing_ok=True)
