"""PostgreSQL by its URL: the driver that is installed, a server that lets us in, one builder of tables at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from effft.errors import InputError, RunError
from effft.redaction import redact
from effft.tracking.sanitize import sentence_of

if TYPE_CHECKING:
    from sqlalchemy import Connection

SCHEMES = ("postgresql", "postgres")
DRIVERS = ("psycopg", "psycopg2")
"""Those we know, the best first."""

CONNECTING = {
    "connect_timeout": 5,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
"""Options of libpq: a server that is not there, or is there no more, is noticed (its own defaults are hours)."""

BUILDING = "5min"
"""How long one process waits for another to make its tables."""

OWNERS = {"optuna": "version_info", "mlflow": "experiments"}
"""Who keeps things in a database -> a table that only he has. Both would write their version into `alembic_version`."""


def is_postgres(url: str) -> bool:
    """Whether the URL names a PostgreSQL database, whatever the driver."""
    return url.partition("://")[0].partition("+")[0] in SCHEMES and "://" in url


def with_driver(url: str) -> str:
    """'postgresql://...' with the driver that is installed; any other URL as it is.

    Raises:
        InputError: no driver is installed.
    """
    if not is_postgres(url):
        return url
    scheme, _, rest = url.partition("://")
    _, _, named = scheme.partition("+")
    if named and (named not in DRIVERS or find_spec(named)):
        return f"postgresql+{named}://{rest}"
    found = next((driver for driver in DRIVERS if find_spec(driver)), "")
    if not found or named:
        raise InputError(
            f"{redact(url)}: PostgreSQL needs a driver, and {named or DRIVERS[0]} is not installed: "
            "pip install '.[postgres]' (psycopg 3, for a URL postgresql://...)."
        )
    return f"postgresql+{found}://{rest}"


def has_password(url: str) -> bool:
    """Whether the URL itself tells a password."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        own = make_url(url)
    except ArgumentError:
        return True  # whatever it is, it is not to be kept
    return bool(own.password or own.query.get("password"))


def options_of(url: str) -> dict[str, object]:
    """What to tell the driver when it connects, the URL's own options left out."""
    from sqlalchemy.engine import make_url

    own = make_url(url)
    return {k: v for k, v in CONNECTING.items() if own.get_driver_name() in DRIVERS and k not in own.query}


def check_login(url: str, flag: str) -> None:
    """Log in once, so that whatever is wrong is said before anything is made.

    Raises:
        InputError: the server is down, does not know us, or has no such database.
    """
    with _connected(url, flag):
        pass


@contextmanager
def sole_builder(url: str, owner: str, flag: str) -> "Iterator[Connection]":
    """While open, no other process of any machine is in here for this database: tables are made by one.

    Raises:
        InputError: as `check_login`; or the database is another's. RunError: another process does not leave.
    """
    from sqlalchemy import text
    from sqlalchemy.exc import OperationalError

    with _connected(url, flag) as connection:
        try:
            connection.execute(text(f"set lock_timeout = '{BUILDING}'"))
            connection.execute(text("select pg_advisory_lock(hashtext('effft'))"))
        except OperationalError as error:
            raise RunError(
                f"{redact(url)}: another process has been making its tables for {BUILDING}: {sentence_of(error, 120)}"
            ) from None
        connection.commit()  # the lock is the session's, and stays; no transaction is left open beside it
        _must_be_ours(connection, url, owner, flag)
        try:
            yield connection
        finally:
            connection.rollback()
            connection.execute(text("select pg_advisory_unlock_all()"))


def has_table(connection: "Connection", name: str) -> bool:
    """Whether the search path has a table of this name."""
    from sqlalchemy import text

    found = connection.execute(text("select to_regclass(:name)"), {"name": name}).scalar() is not None
    connection.commit()
    return found


def _must_be_ours(connection: "Connection", url: str, owner: str, flag: str) -> None:
    others = [name for name, table in OWNERS.items() if name != owner and has_table(connection, table)]
    if others:
        raise InputError(
            f"{redact(url)} is the database of {others[0]}, and {owner} needs one of its own: `createdb NAME` "
            f"on the same server makes it ({flag})."
        )


@contextmanager
def _connected(url: str, flag: str) -> "Iterator[Connection]":
    from sqlalchemy import create_engine
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
    from sqlalchemy.pool import NullPool

    try:
        engine = create_engine(url, poolclass=NullPool, connect_args=options_of(url))
        connection = engine.connect()
    except (NoSuchModuleError, ArgumentError, ImportError, ValueError) as error:
        raise InputError(f"{redact(url)} is no database URL: {sentence_of(error, 200)} ({flag}).") from None
    except SQLAlchemyError as error:
        raise InputError(refusal(url, sentence_of(error, 2000), flag)) from None
    with connection:
        yield connection


REMEDIES = (
    ("password", "give the password in PGPASSWORD or ~/.pgpass"),
    ("authentication", "give the user's own password in PGPASSWORD or ~/.pgpass"),
    ("role", "make the user (`createuser`), or name another"),
    ("does not exist", "make it (`createdb`), or name another"),
    ("too many", "let it take more (max_connections), or run fewer drivers"),
)
"""A word of what the server says -> what to do."""


def refusal(url: str, said: str, flag: str) -> str:
    """Why the server did not let us in, and what to do about it, in one sentence."""
    said = said.rpartition("FATAL: ")[2].strip() if "FATAL: " in said else said.split(") ", 1)[-1]
    remedy = next((r for word, r in REMEDIES if word in said), "start the server, or name another")
    return f"{redact(url)} cannot be opened: {said[:200].rstrip(' .')}; {remedy} ({flag})."
