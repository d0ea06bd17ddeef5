"""A PostgreSQL server of the tests' own: Debian's programs, a folder of its own, 127.0.0.1 alone."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PASSWORD = "hunter2SENTINELxyz"
OWNER = "effft"


def programs() -> Path | None:
    """The folder of `postgres` and `initdb`; Debian keeps them off the path."""
    found = [*Path("/usr/lib/postgresql").glob("*/bin/initdb"), *map(Path, filter(None, [shutil.which("initdb")]))]
    return next((path.resolve().parent for path in sorted(found, reverse=True)), None)


def _somebody() -> str:
    return "postgres" if any(user.pw_name == "postgres" for user in pwd.getpwall()) else "nobody"


class Postgres:
    """A server that can be stopped and started again."""

    def __init__(self, folder: Path, bin_folder: Path) -> None:
        self.folder, self.bin = folder, bin_folder
        self.user = _somebody() if os.geteuid() == 0 else None  # it refuses to run as root
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.process: subprocess.Popen[bytes] | None = None
        (folder / "password").write_text(PASSWORD)
        if self.user:
            shutil.chown(folder / "password", self.user)
            shutil.chown(folder, self.user)
        words = [str(self.bin / "initdb"), "-D", str(folder / "data"), "-U", OWNER, "-A", "scram-sha-256"]
        words += ["--pwfile", str(folder / "password"), "--no-sync", "-E", "UTF8", "--locale", "C"]
        subprocess.run(words, check=True, capture_output=True, user=self.user, cwd=folder)

    def url(self, database: str = "postgres", password: str = PASSWORD) -> str:
        return f"postgresql://{OWNER}:{password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        words = [str(self.bin / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port)]
        for setting in ("listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off"):
            words += ["-c", setting]
        with (self.folder / "log").open("ab") as out:
            self.process = subprocess.Popen(words, stdout=out, stderr=out, user=self.user, cwd=self.folder)
        words = [str(self.bin / "pg_isready"), "-h", "127.0.0.1", "-p", str(self.port), "-t", "1"]
        for _ in range(60):
            if subprocess.run(words, capture_output=True).returncode == 0:
                return
            assert self.process.poll() is None, (self.folder / "log").read_text()
        raise AssertionError((self.folder / "log").read_text())

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: everybody is thrown out; SIGQUIT: as when the machine dies."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(60)
            self.process = None

    def create(self, *databases: str) -> None:
        """Empty databases."""
        from sqlalchemy import create_engine, text

        engine = create_engine(self.url(), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for name in databases:
                connection.execute(text(f"create database {name}"))
        engine.dispose()


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A server that runs; the test is skipped where there is none."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    found = programs()
    if found is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # its user must get in, which pytest's folders forbid
    try:
        server = Postgres(folder, found)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
