"""Opening an MLflow store safely: a fresh sqlite file is built apart, once, under a lock, and moved into place."""

import logging
import os
import socket
import sqlite3
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.request import getproxies, proxy_bypass

from effft.errors import InputError, RunError
from effft.tracking.postgres import check_login, has_table, is_postgres, sole_builder, with_driver
from effft.tracking.sanitize import sentence_of

DEFAULT = "sqlite:///mlflow.db"
SECONDS_TO_CONNECT = 3.0
SECONDS_TO_BUILD = 300.0
FLAG = "flag --tracking-uri"
PORTS = {"http": 80, "https": 443, "mysql": 3306, "mssql": 1433}


def quiet_mlflow() -> None:
    """No migration lines on the user's screen, and no traceback of what we say in a sentence."""
    for name in ("mlflow", "alembic", "alembic.runtime.migration"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def resolve_uri(uri: str = "") -> str:
    """The URI given, that of MLFLOW_TRACKING_URI, or MLflow's default file in the current folder.

    Raises:
        InputError: PostgreSQL without a driver.
    """
    return with_driver(uri or os.environ.get("MLFLOW_TRACKING_URI", "") or DEFAULT)


def sqlite_path(uri: str) -> Path | None:
    """The file of an sqlite URI, read as SQLAlchemy reads it ('%20' is a space); None for any other store."""
    if not uri.startswith("sqlite:///"):
        return None
    from sqlalchemy.engine import make_url

    name = make_url(uri).database
    return Path(name) if name and name != ":memory:" else None


def check_place(uri: str) -> None:
    """What can be said of a store before anything heavy is imported.

    Raises:
        InputError: an sqlite path that cannot be a database; a PostgreSQL server that does not let us in.
    """
    path = sqlite_path(uri)
    if path is not None:
        _must_be_usable(path)
    elif is_postgres(uri):
        check_login(uri, FLAG)


def prepare_store(uri: str) -> None:
    """Make the store ready for any number of processes; milliseconds when it already is.

    Several processes that open a fresh sqlite store at once corrupt it for good, and so does a kill in the middle of
    its migration. The first process builds it beside its place while the others wait at a file lock; it appears
    whole. Write-ahead logging, set last, marks it ready and lets readers (the UI) and a writer work together.

    Raises:
        InputError: the sqlite path cannot be a database; the server address is not one; PostgreSQL refuses us.
        RunError: the server does not answer; the file cannot be written.
    """
    if is_postgres(uri):
        _build_once(uri)
        return
    path = sqlite_path(uri)
    if path is None:
        _must_answer(uri)
        return
    _must_be_usable(path)
    if _is_ready(path):
        return
    from filelock import FileLock, Timeout

    try:
        with FileLock(f"{path}.lock", timeout=SECONDS_TO_BUILD):
            if not _is_ready(path):
                _make_ready(path)
    except Timeout:
        raise RunError(f"tracking store {path}: another process holds {path}.lock; end it, or name another.") from None


@cache
def _build_once(uri: str) -> None:
    """On PostgreSQL: the first process of any machine makes the tables; the others wait. Each asks once."""
    with sole_builder(uri, "mlflow", FLAG) as connection:
        if not has_table(connection, "alembic_version"):
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
    said = f"tracking store {path}"
    if path.is_dir():
        raise InputError(f"{said}: it is a folder; name a file (flag --tracking-uri sqlite:///FILE).")
    if not path.parent.is_dir():
        raise InputError(f"{said}: its folder {path.parent} does not exist (flag --tracking-uri).")
    if not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise InputError(f"{said}: no permission to write there (flag --tracking-uri).")


def _is_empty(path: Path) -> bool:
    return not path.exists() or not path.stat().st_size


def _is_ready(path: Path) -> bool:
    """Whether it was migrated to the end: write-ahead logging is switched on after that."""
    if _is_empty(path):
        return False
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=30)) as connection:
            names = {name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}
            mode = connection.execute("pragma journal_mode").fetchone()[0]
    except sqlite3.OperationalError as error:
        raise RunError(f"tracking store {path}: {error}.") from None
    except sqlite3.DatabaseError as error:
        raise InputError(f"tracking store {path}: it is no sqlite database ({error}); name another file.") from None
    return mode == "wal" and {"alembic_version", "experiments"} <= names


def _make_ready(path: Path) -> None:
    """Build a store that is not there yet; bring one that something else made to where ours are."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    draft = path.with_name(path.name + ".draft")
    try:
        if _is_empty(path):
            _remove(draft)  # of a process that was killed
            _migrate(draft)
            _write_ahead(draft)
            os.replace(draft, path)
        else:
            _migrate(path)
            _write_ahead(path)
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError) as error:
        said = sentence_of(error, 200)
        raise RunError(f"tracking store {path}: it could not be made ready ({said}); name another file.") from None
    finally:
        _remove(draft)


def _migrate(path: Path) -> None:
    name = str(path).replace("%", "%25").replace("?", "%3F")
    _make_tables(f"sqlite:///{name}")


def _make_tables(uri: str) -> None:
    from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    quiet_mlflow()
    store: Any = SqlAlchemyStore
    store(uri, DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH).engine.dispose()


def _write_ahead(path: Path) -> None:
    with closing(sqlite3.connect(path, timeout=30)) as connection:
        connection.execute("pragma journal_mode=wal")


def _remove(path: Path) -> None:
    for ending in ("", "-journal", "-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
