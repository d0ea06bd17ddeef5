"""PostgreSQL by its URL: the installed driver, the login, one process that makes the tables, waiting for a restart."""

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, TypeVar

from effft.errors import InputError, RunError
from effft.redaction import redact, remember
from effft.tracking.sanitize import sentence_of

if TYPE_CHECKING:
    from sqlalchemy import Connection

log = logging.getLogger(__name__)
T = TypeVar("T")

SCHEMES = ("postgresql", "postgres")
DRIVER = "psycopg"  # Psycopg 3, which the extra `postgres` installs.

CONNECT_OPTIONS = {
    "connect_timeout": 5,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
"""Options of libpq that detect a server that is down within a minute (the defaults take hours)."""

LOCK_TIMEOUT = "5min"  # How long one process waits for another to create the tables.

MARKER_TABLES = {"optuna": "version_info", "mlflow": "experiments"}
"""Owner of a database -> a table that only it has: both would write their version into `alembic_version`.

Neither library offers a public test for its own database; `tests/search/test_postgres.py` fails if a name changes.
"""

MAX_DOWNTIME = 120.0  # Seconds that a server may be down in the middle of the work.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
DOWN_CODES = ("08", "53300", "57P")
"""Beginnings of PostgreSQL's error codes: no connection, too many connections, shutting down or starting."""
CUT_CONNECTION = "8s2b"
"""SQLAlchemy's code for a connection that was cut inside a transaction (Optuna's bulk read retries inside one)."""


def is_postgres(url: str) -> bool:
    """Whether the URL names a PostgreSQL database, whatever the driver."""
    return url.partition("://")[0].partition("+")[0] in SCHEMES and "://" in url


def with_driver(url: str) -> str:
    """'postgresql://...' with its driver, any other URL as it is; a password in it is masked from now on."""
    if not is_postgres(remember(url)):
        return url
    scheme, _, rest = url.partition("://")
    driver = scheme.partition("+")[2] or DRIVER
    if driver == DRIVER and not find_spec(DRIVER):
        raise InputError(
            f"{redact(url)}: PostgreSQL needs a driver, and {DRIVER} is not installed: pip install '.[postgres]'."
        )
    return f"postgresql+{driver}://{rest}"


def has_password(url: str) -> bool:
    """Whether the URL itself contains a password; True for what cannot be read as a URL."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
    except ArgumentError:
        return True
    return bool(parsed.password or parsed.query.get("password"))


def options_of(url: str) -> dict[str, object]:
    """Connection options for the driver, without those that the URL sets itself."""
    from sqlalchemy.engine import make_url

    parsed = make_url(url)
    return {k: v for k, v in CONNECT_OPTIONS.items() if parsed.get_driver_name() == DRIVER and k not in parsed.query}


@contextmanager
def sole_builder(url: str, owner: str, flag: str) -> "Iterator[Connection]":
    """Hold a lock on the database, so that only one process on any machine creates tables.

    Raises:
        InputError: As `connect`, or the database belongs to the other library.
        RunError: Another process keeps the lock.
    """
    from sqlalchemy import text
    from sqlalchemy.exc import OperationalError

    with connect(url, flag) as connection:
        try:
            connection.execute(text(f"set lock_timeout = '{LOCK_TIMEOUT}'"))
            connection.execute(text("select pg_advisory_lock(hashtext('effft'))"))
        except OperationalError as error:
            raise RunError(
                f"{redact(url)}: another process has been making its tables for {LOCK_TIMEOUT}: "
                f"{sentence_of(error, 120)}"
            ) from None
        connection.commit()  # the lock belongs to the session and outlives the transaction
        _must_be_ours(connection, url, owner, flag)
        try:
            yield connection
        finally:
            connection.rollback()
            connection.execute(text("select pg_advisory_unlock_all()"))


def _must_be_ours(connection: "Connection", url: str, owner: str, flag: str) -> None:
    from sqlalchemy import inspect

    others = [name for name, table in MARKER_TABLES.items() if name != owner and inspect(connection).has_table(table)]
    connection.rollback()
    if others:
        raise InputError(
            f"{redact(url)} is the database of {others[0]}, and {owner} needs one of its own: `createdb NAME` "
            f"on the same server makes it ({flag})."
        )


def connect(url: str, flag: str) -> "Connection":
    """A connection outside of any pool.

    Raises:
        InputError: The address is none; the server is down (its cause tells `retry`), refuses the user, or has no such
            database.
    """
    from sqlalchemy import create_engine
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
    from sqlalchemy.pool import NullPool

    try:
        return create_engine(url, poolclass=NullPool, connect_args=options_of(url)).connect()
    except (NoSuchModuleError, ArgumentError, ImportError, ValueError) as error:
        raise InputError(f"{redact(url)} is no database URL: {sentence_of(error, 200)} ({flag}).") from None
    except SQLAlchemyError as error:
        raise InputError(refusal(url, sentence_of(error, 2000), flag)) from error


REMEDIES = (
    ("password", "give the password in PGPASSWORD or ~/.pgpass"),
    ("authentication", "give the user's own password in PGPASSWORD or ~/.pgpass"),
    ("role", "make the user (`createuser`), or name another"),
    ("does not exist", "make it (`createdb`), or name another"),
    ("too many", "let it take more (max_connections), or run fewer drivers"),
)
"""A word of the server's message -> what to do."""


def refusal(url: str, message: str, flag: str) -> str:
    """Why the server refused the login and what to do about it, in one sentence."""
    reason = message.rpartition("FATAL: ")[2].strip() if "FATAL: " in message else message.split(") ", 1)[-1]
    remedy = next((remedy for word, remedy in REMEDIES if word in reason), "start the server, or name another")
    return f"{redact(url)} cannot be opened: {reason[:200].rstrip(' .')}; {remedy} ({flag})."


def is_down(error: BaseException | None) -> bool:
    """Whether an error, or one that it wraps, says that a PostgreSQL server is down, starting or shutting down."""
    from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, PendingRollbackError

    while error is not None and not isinstance(error, DBAPIError):
        if isinstance(error, PendingRollbackError) and error.code == CUT_CONNECTION:
            return True
        error = error.__cause__
    if error is None or not type(error.orig).__module__.startswith(DRIVER):
        return False
    code = getattr(error.orig, "sqlstate", None)
    if error.connection_invalidated or (code or "").startswith(DOWN_CODES):
        return True
    return code is None and isinstance(error, OperationalError | InterfaceError)


def retry(call: Callable[[], T], seconds: float | None = None) -> T:
    """Call again, with growing pauses, while the database is down; raise its error after `seconds` (MAX_DOWNTIME)."""
    seconds = MAX_DOWNTIME if seconds is None else seconds
    deadline, pause = time.monotonic() + seconds, FIRST_PAUSE
    while True:
        try:
            return call()
        except Exception as error:
            if not is_down(error) or time.monotonic() + pause > deadline:
                raise
        if pause == FIRST_PAUSE:
            log.warning("effft: the database is down; waiting for it, %.0f s at most.", seconds)
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


class AdvisoryLock:
    """A lock of the server that ends with the connection, so with this process; one process at a time has it.

    flag: the one that gave the URL, for error sentences.
    """

    def __init__(self, url: str, name: str, flag: str) -> None:
        self._url, self._flag = url, flag
        self._key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
        self._connection: Connection | None = None

    def acquire(self) -> bool:
        """Take the lock, or take it again after the server was away; False where another process has it."""
        return retry(self._try)

    def _try(self) -> bool:
        from sqlalchemy import func, select

        if self._connection is None:
            self._connection = connect(self._url, self._flag).execution_options(isolation_level="AUTOCOMMIT")
        try:
            return bool(self._connection.scalar(select(func.pg_try_advisory_lock(self._key))))
        except Exception:
            self.release()
            raise

    def release(self) -> None:
        """Let it go."""
        if self._connection is not None:
            self._connection.invalidate()
            self._connection.close()
            self._connection = None
