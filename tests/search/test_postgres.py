"""Studies on a real PostgreSQL server: several drivers at once, a restart in the middle, and what is refused."""

import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from random import Random
from threading import Event

import optuna
import pytest
from mlflow import MlflowClient
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import create_engine, text

from effft.cli.exit_codes import run_command_line
from effft.errors import InputError, RunError
from effft.runs.session import Session
from effft.search.planning import plan_study
from effft.search.settings import Settings, StudyPlan
from effft.search.storage import NUMBER, open_storage, open_study, said_plainly
from effft.tracking import postgres
from effft.tracking.postgres import with_driver
from tests.database import PASSWORD, Postgres
from tests.database import postgres as running
from tests.place import make_place
from tests.reliability.lives import life, wait
from tests.runs import runs_in

SMALL = (
    "--per-label 8 --folds 2 --reseeds 1 --seeds 1 --bootstrap 0 --epochs 2 --sampler random --pruner none "
    "--threads 1 --precision fp32 --evaluation-limit 20"
).split()


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with running() as found:
        found.create("studies", "runs", "other", "away")
        yield found


def told(log: Path, count: int) -> None:
    end = time.monotonic() + 240
    while not log.exists() or log.read_text().count("effft: trial ") < count:
        assert time.monotonic() < end, log.read_text() if log.exists() else "no log"
        time.sleep(0.1)


@pytest.mark.slow
def test_four_drivers_outlive_a_restart(server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All four find both databases empty, and make the tables of both at the same time."""
    monkeypatch.chdir(tmp_path)
    place, trials, names = make_place(tmp_path, "gpt2"), 6, [f"study-{number}" for number in range(4)]
    words = ["search", "--task", str(place / "task.yaml"), "--model", str(place / "gpt2"), "--trials", str(trials)]
    words += [*SMALL, "--storage", server.url("studies"), "--tracking-uri", server.url("runs")]
    lives = {n: life([*words, "--study", n, "--seed", n[-1]], tmp_path / f"{n}.log") for n in names}
    try:
        for how, count in ((signal.SIGINT, 2), (signal.SIGQUIT, 4)):
            for name in names:
                told(tmp_path / f"{name}.log", count)
            server.stop(how)
            time.sleep(1.5)
            server.start()
    finally:
        codes = {name: wait(pid) for name, pid in lives.items()}
    logs = {name: (tmp_path / f"{name}.log").read_text() for name in names}
    assert set(codes.values()) == {0}, logs
    runs = runs_in(with_driver(server.url("runs")), words="tags.kind != 'final'")
    for name in names:
        study = optuna.load_study(study_name=name, storage=open_storage(server.url("studies")))
        assert [t.state for t in study.trials] == [TrialState.COMPLETE] * trials, name
        assert Counter(t.user_attrs.get("guess") for t in study.trials).most_common()[-1][1] == 1
        own = [run.info.status for run in runs if run.data.tags.get("study") == name]
        assert own == ["FINISHED"] * (trials + 1), name  # and the study's own
        assert PASSWORD not in logs[name]
    assert not [run for run in runs if PASSWORD in str(run.data.params) + str(run.data.tags)]


def finished(number: int) -> FrozenTrial:
    x = {"x": optuna.distributions.FloatDistribution(0, 99)}
    trial = create_trial(params={"x": number}, distributions=x, value=number, user_attrs={NUMBER: number})
    trial.number = number
    return trial


@pytest.fixture(scope="module")
def plan() -> StudyPlan:
    return plan_study({"strategy": "probe", "per_label": "4"}, {}, Settings(folds=2), "s", Session())


@pytest.mark.slow
def test_connections_cut_at_any_time_change_nothing(server: Postgres, plan: StudyPlan) -> None:
    """Cut every 2 to 50 ms: in reads, in flushes, in commits, between two statements of one transaction."""
    server.create("cut")
    ended, cuts, random = Event(), [0], Random(0)
    own = create_engine(with_driver(server.url("cut")), isolation_level="AUTOCOMMIT")
    others = "from pg_stat_activity where datname = 'cut' and pid <> pg_backend_pid()"

    def cutting() -> None:
        with own.connect() as connection:
            while not ended.wait(random.uniform(0.002, 0.05)):
                cuts[0] += connection.execute(text(f"select count(pg_terminate_backend(pid)) {others}")).scalar_one()

    with ThreadPoolExecutor(1) as executor, open_study(server.url("cut"), plan) as study:
        cutter = executor.submit(cutting)
        try:
            for number in range(20):
                study.add(finished(number))
                study.keep(f"result {number}", number)
        finally:
            ended.set()
        cutter.result()
    assert cuts[0] > 20
    with open_study(server.url("cut"), plan) as study:
        assert [(t.number, t.value, t.params["x"]) for t in study.trials] == [(n, n, n) for n in range(20)]
        assert [study.results[f"result {number}"] for number in range(20)] == list(range(20))


@pytest.mark.slow
def test_a_second_driver_is_refused_also_after_a_restart(server: Postgres, plan: StudyPlan) -> None:
    with open_study(server.url("away"), plan) as study:
        with pytest.raises(InputError, match="is driven by process"), open_study(server.url("away"), plan):
            pass
        server.stop()
        server.start()
        study.add(finished(0))
        with pytest.raises(InputError, match="is driven by process"), open_study(server.url("away"), plan):
            pass
    with open_study(server.url("away"), plan) as study:
        assert len(study.trials) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("database", "password", "said"),
    [
        ("studies2", PASSWORD, "does not exist; make it (`createdb`)"),
        ("other", f"{PASSWORD}/x", "password authentication failed"),
        ("other", "", "password"),
    ],
)
@pytest.mark.parametrize("flag", ["--storage", "--tracking-uri"])
def test_what_the_server_refuses_is_a_sentence(
    flag: str,
    database: str,
    password: str,
    said: str,
    server: Postgres,
    tracking_uri: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    began = time.monotonic()
    words = ["search", "--per-label", "4", "--trials", "1", "--tracking-uri", tracking_uri]
    assert run_command_line([*words, flag, server.url(database, password)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert flag in error
    assert error.count("\n") == 1
    assert PASSWORD not in error
    assert time.monotonic() - began < 15
    assert not (tmp_path / "optuna.db").exists()
    assert not MlflowClient(tracking_uri).search_experiments(filter_string="name LIKE 'effft%'")


@pytest.mark.slow
def test_a_server_that_stays_away_ends_the_study_in_a_sentence(
    server: Postgres, plan: StudyPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "MAX_DOWNTIME", 0.5)
    with open_study(server.url("away"), replace(plan, name="x")) as study:
        server.stop()
        try:
            with pytest.raises(RunError, match="the same command goes on") as raised, said_plainly():
                study.keep("x", 1)
        finally:
            server.start()
        assert PASSWORD not in str(raised.value)
        assert study.keep("x", 2) == 2


@pytest.mark.slow
def test_optuna_and_mlflow_need_a_database_each(server: Postgres, capsys: pytest.CaptureFixture[str]) -> None:
    open_storage(server.url("other"))
    words = ["search", "--per-label", "4", "--trials", "1", "--storage", server.url("other")]
    assert run_command_line([*words, "--tracking-uri", server.url("other")]) == 2
    assert "is the database of optuna, and mlflow needs one of its own" in capsys.readouterr().err


def test_a_server_that_is_down_is_a_sentence(tracking_uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("psycopg")
    for flag in ("--storage", "--tracking-uri"):
        words = ["search", "--per-label", "4", "--tracking-uri", tracking_uri]
        assert run_command_line([*words, flag, f"postgresql://u:{PASSWORD}@127.0.0.1:9/db"]) == 2
        error = capsys.readouterr().err
        assert "Connection refused" in error
        assert "start the server, or name another" in error
        assert PASSWORD not in error


def test_a_driver_that_is_missing_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    for url in ("postgresql://u:SECRET1@h/db", "postgresql+psycopg://u:SECRET1@h/db"):
        with pytest.raises(InputError, match=r"pip install '\.\[postgres\]'") as raised:
            with_driver(url)
        assert "SECRET1" not in str(raised.value)
    assert with_driver("postgresql+pg8000://h/db") == "postgresql+pg8000://h/db"
    assert with_driver("sqlite:///postgresql.db") == "sqlite:///postgresql.db"


def test_a_password_that_mlflow_run_was_given_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    assert run_command_line(["search", "--storage", f"postgresql://u:{PASSWORD}@127.0.0.1:9/db"]) == 2
    error = capsys.readouterr().err
    assert "PGPASSWORD" in error
    assert PASSWORD not in error


def test_a_trial_that_arrived_without_an_answer_counts_once(tmp_path: Path, plan: StudyPlan) -> None:
    """The connection broke after the server had committed, before it said so, and the trial was sent again."""
    with open_study(f"sqlite:///{tmp_path}/o.db", plan) as study:
        study.add(finished(0))
        raw = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/o.db")
        raw.add_trial(finished(0))
        study.add(finished(1))
        study.add(finished(1))
    with open_study(f"sqlite:///{tmp_path}/o.db", plan) as study:
        assert [(trial.number, trial.value) for trial in study.trials] == [(0, 0.0), (1, 1.0)]
