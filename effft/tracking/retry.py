"""Waiting for a database that is away for a moment: a restart of the server in the middle of the work."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE = 120.0
"""Seconds that a server may be away in the middle of the work."""

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
AWAY = ("08", "53300", "57P")
"""Beginnings of PostgreSQL's error codes: no connection, too many connections, shut down or starting."""
CUT = "8s2b"
"""SQLAlchemy's code for a connection found cut inside a transaction (Optuna's bulk read tries once more in there)."""

log = logging.getLogger(__name__)
T = TypeVar("T")


def is_away(error: BaseException | None) -> bool:
    """Whether a PostgreSQL server is gone or going (no fault of what was asked); looks through what wraps the error."""
    from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, PendingRollbackError

    while error is not None and not isinstance(error, DBAPIError):
        if isinstance(error, PendingRollbackError) and error.code == CUT:
            return True
        error = error.__cause__
    if error is None or not type(error.orig).__module__.startswith("psycopg"):
        return False
    code = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)
    if error.connection_invalidated or (code or "").startswith(AWAY):
        return True
    return code is None and isinstance(error, OperationalError | InterfaceError)


def retry(call: Callable[[], T]) -> T:
    """Call until the server takes it, with growing pauses, for PATIENCE at most; then what it raised is raised."""
    end, pause, said = time.monotonic() + PATIENCE, FIRST_PAUSE, False
    while True:
        try:
            return call()
        except Exception as error:
            if not is_away(error) or time.monotonic() + pause > end:
                raise
        if not said:
            log.warning("effft: the database is away; waiting for it, %.0f s at most.", PATIENCE)
            said = True
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
