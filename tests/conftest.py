"""Fast and offline by default; one migrated tracking store, copied for every test that wants one."""

import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import hypothesis
import pytest
import torch

if TYPE_CHECKING:
    from mlflow import MlflowClient

torch.set_num_threads(1)
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a job in the background has it, and what the tests start
    signal.signal(signal.SIGINT, signal.default_int_handler)
hypothesis.settings.register_profile("untimed", deadline=None)  # nothing is timed in tests
hypothesis.settings.load_profile("untimed")
SHARED = Path(__file__).parent.parent.parent / "shared"


FAULTS = (
    "reliability/", "search/test_kill", "search/test_postgres", "test_runs_on_postgres",
    "test_ray.py::test_a_study_survives", "test_choose.py::test_a_killed",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the slow tests that kill, fill and cut: the table of docs/reliability.md, one command of its own."""
    for item in items:
        if item.get_closest_marker("slow") and any(name in item.nodeid for name in FAULTS):
            item.add_marker("faults")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip the slow tests that CI has no time left for."""
    if item.get_closest_marker("slow") and time.time() > float(os.environ.get("SLOW_TESTS_UNTIL", "inf")):
        pytest.skip("the time for slow tests is over (.ci/run)")


@pytest.fixture(scope="session")
def template_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty sqlite store."""
    from effft.tracking.store import prepare_store

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path.parent)  # the default experiment keeps its artifacts where the store was made
        prepare_store(f"sqlite:///{path}")
    return path


@pytest.fixture
def tracking_uri(template_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store of the test's own, in its own folder (artifacts go there too)."""
    for name in ("MLFLOW_RUN_ID", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    shutil.copy(template_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture
def client(tracking_uri: str) -> "MlflowClient":
    """Of that store."""
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri)


@pytest.fixture
def home(client: "MlflowClient") -> str:
    """Id of an experiment for the runs of the small task."""
    return str(client.create_experiment("effft/dogs"))


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small task with tiny backbones beside it: those that the module's `KINDS` names, else a Llama."""
    from tests.place import make_place

    return make_place(tmp_path_factory.mktemp("place"), *getattr(request.module, "KINDS", ["llama"]))


@pytest.fixture(autouse=True)
def own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading a model from MLflow puts the code beside it on the path, where no other test may find it."""
    monkeypatch.setattr("sys.path", list(sys.path))


@pytest.fixture
def shared() -> Path:
    """Real data and models beside the project; tests that need them skip where they are absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the real data lie in ../shared, which is absent here")
    return SHARED
