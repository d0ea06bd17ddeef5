import sqlite3
from pathlib import Path

import pytest
from mlflow import MlflowClient

from effft.errors import RunError
from effft.tracking.reading import RunReader
from effft.tracking.registry import versions
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


def test_others_experiments_and_models_hide_none_of_ours(tracking_uri: str) -> None:
    """A server that a company shares has more of both than one answer of MLflow's holds."""
    client = MlflowClient(tracking_uri)
    client.create_experiment("effft/first")
    client.create_registered_model("effft-zebras")
    client.create_model_version("effft-zebras", "nowhere")
    with sqlite3.connect(tracking_uri.removeprefix("sqlite:///")) as connection:
        rows = [(f"other {n}", 4_000_000_000_000) for n in range(1001)]
        words = "insert into experiments (name, last_update_time, lifecycle_stage) values (?, ?, 'active')"
        connection.executemany(words, rows)
        connection.executemany("insert into registered_models (name, last_updated_time) values (?, ?)", rows[:101])
        connection.executemany("insert into registered_models (name) values (?)", [(f"effft-{n}",) for n in range(101)])
    assert len(RunReader(client).experiments()) == 1003
    assert [version.name for version in versions(client, "zebras")] == ["effft-zebras"]
