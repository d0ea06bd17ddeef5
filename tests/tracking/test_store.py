import sqlite3
from pathlib import Path

import pytest

from effft.errors import RunError
from effft.tracking.store import is_ready, prepare_store, sqlite_path


def half_migrated(path: Path) -> None:
    """What another process leaves in the middle of MLflow's migration."""
    connection = sqlite3.connect(path)
    connection.execute("create table alembic_version (version_num text)")
    connection.execute("insert into alembic_version values ('451aebb31d03')")
    connection.execute("create table experiments (id integer)")
    connection.commit()
    connection.close()


def test_a_prepared_store_is_not_touched_again(tracking_uri: str) -> None:
    path = tracking_uri.removeprefix("sqlite:///")
    with sqlite3.connect(path) as connection:
        assert connection.execute("pragma journal_mode").fetchone() == ("wal",)
    before = Path(path).stat().st_mtime_ns
    prepare_store(tracking_uri)
    assert Path(path).stat().st_mtime_ns == before


def test_a_store_in_the_middle_of_its_migration_is_not_ready(tmp_path: Path) -> None:
    half_migrated(tmp_path / "mlflow.db")
    assert not is_ready(tmp_path / "mlflow.db")


@pytest.mark.slow
def test_a_fresh_store_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    (tmp_path / "mlflow.db.draft-1").write_text("left by a process that was killed")
    prepare_store(f"sqlite:///{path}")
    assert is_ready(path)
    sqlite_files = {"mlflow.db-wal", "mlflow.db-shm"}  # of the readiness check, which reads the file
    assert {file.name for file in tmp_path.iterdir()} - sqlite_files <= {"mlflow.db", "mlflow.db.lock"}


def test_a_failed_migration_leaves_no_draft_and_is_a_sentence(tmp_path: Path) -> None:
    half_migrated(tmp_path / "mlflow.db")
    with pytest.raises(RunError, match="could not be made ready"):
        prepare_store(f"sqlite:///{tmp_path}/mlflow.db")
    assert not list(tmp_path.glob("mlflow.db.draft*"))


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("sqlite:///mlflow.db", "mlflow.db"),
        ("sqlite:////a%20b/é.db", "/a b/é.db"),
        ("sqlite:////a b/x.db?timeout=3", "/a b/x.db"),
        ("sqlite:///:memory:", None),
        ("http://127.0.0.1:5000", None),
    ],
)
def test_the_file_of_a_uri(uri: str, path: str | None) -> None:
    assert sqlite_path(uri) == (None if path is None else Path(path))
