import json
import logging
import os
import signal
import threading
from itertools import count
from pathlib import Path
from random import Random

import pytest
from mlflow import MlflowClient
from plotly.offline import get_plotlyjs

from effft.cli.exit_codes import run_command_line
from effft.errors import EffftError, InputError
from effft.tracking.mlflow_tracker import MlflowTracker
from effft.tracking.recovery import FORMAT
from effft.tracking.store import close_orphaned_runs
from effft.tracking.tracker import MemoryTracker, Tracker, stop_signals, tracked


def test_both_keep_the_protocol(tracking_uri: str) -> None:
    assert isinstance(MemoryTracker(), Tracker)
    tracker = MlflowTracker.open("e", "r", {}, tracking_uri)
    assert isinstance(tracker, Tracker)
    tracker.close()


def test_a_run_keeps_everything(tracking_uri: str) -> None:
    tracker = MlflowTracker.open("effft/small", "lora r8", {"strategy": "lora"}, tracking_uri)
    tracker.params({"resolved.rank": 8, "resolved.words": "é" * 7000})
    for step in range(1200):
        tracker.metrics({"train/loss": 1 / (step + 1)}, step)
    tracker.metrics({"in_domain/mcc": 0.5, "ood/far/slice/a.b/accuracy": 1.0, "broken": float("nan")})
    tracker.dataset("small", "abc", "train", "file x", 12)
    tracker.table("predictions/in_domain", {"row": [0, 1], "text": ["<b>", "é"]})
    tracker.note("**hello**")
    child = tracker.child("one", {"strategy": "icl"})
    child.metrics({"m": 1.0})
    tracker.close()
    client = MlflowClient(tracking_uri)
    run = client.get_run(tracker.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "lora r8"
    assert run.data.params["resolved.rank"] == "8"
    assert len(run.data.params["resolved.words"]) == 6000
    assert run.data.metrics["ood/far/slice/a.b/accuracy"] == 1.0
    assert "broken" not in run.data.metrics
    assert len(client.get_metric_history(tracker.run_id, "train/loss")) == 1200
    assert run.inputs.dataset_inputs[0].dataset.digest == "abc"
    assert run.data.tags["strategy"] == "lora"
    assert run.data.tags["mlflow.note.content"] == "**hello**"
    path = client.download_artifacts(tracker.run_id, "predictions/in_domain.json")
    assert json.loads(Path(path).read_text()) == {"columns": ["row", "text"], "data": [[0, "<b>"], [1, "é"]]}
    nested = client.get_run(child.run_id)
    assert nested.data.tags["mlflow.parentRunId"] == tracker.run_id
    assert nested.info.status == "FINISHED"
    assert client.get_experiment(run.info.experiment_id).name == "effft/small"


@pytest.mark.parametrize(
    ("raised", "status"), [(ValueError("x"), "FAILED"), (KeyboardInterrupt(), "KILLED"), (SystemExit(143), "KILLED")]
)
def test_no_run_stays_running(tracking_uri: str, raised: BaseException, status: str) -> None:
    tracker = MlflowTracker.open("e", "r", {}, tracking_uri)
    with pytest.raises(type(raised)), tracked(tracker):
        tracker.metrics({"measured": 1.0})
        raise raised
    run = MlflowClient(tracking_uri).get_run(tracker.run_id)
    assert run.info.status == status
    assert run.data.metrics == {"measured": 1.0}


@pytest.mark.slow
def test_a_run_that_is_stopped_while_it_writes_is_closed_at_once(
    tracking_uri: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Wherever in a write the signal comes, no cursor that is left behind locks the database for the closing."""
    moments, client = Random(0), MlflowClient(tracking_uri)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it in its background
    try:
        for _ in range(20):
            tracker = MlflowTracker.open("e", "r", {}, tracking_uri)
            stop = threading.Timer(moments.uniform(0.01, 0.1), os.kill, [os.getpid(), signal.SIGINT])
            with pytest.raises(KeyboardInterrupt), stop_signals(), tracked(tracker):
                stop.start()
                for step in count():
                    tracker.metrics({f"train/{key}": 1.0 for key in range(20)}, step)
                    tracker.flush()
            assert (client.get_run(tracker.run_id).info.status, tracker.unsent) == ("KILLED", "")
    finally:
        signal.signal(signal.SIGINT, before)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(("given", "expected"), [(None, "ours"), ("my run", "my run")])
def test_adopts_the_run_of_mlflow_run(
    tracking_uri: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    given: str | None,
    expected: str,
) -> None:
    client = MlflowClient(tracking_uri)
    run = client.create_run("0", run_name=given)
    client.log_param(run.info.run_id, "rank", "08")
    monkeypatch.setenv("MLFLOW_RUN_ID", run.info.run_id)
    tracker = MlflowTracker.open("effft/other", "ours", {}, tracking_uri)
    assert "MLFLOW_RUN_ID" not in os.environ
    tracker.params({"rank": 8, "epochs": 3})
    tracker.close()
    kept = client.get_run(run.info.run_id)
    assert "mlflow run --experiment-name effft/other" in caplog.text
    assert tracker.run_id == run.info.run_id
    assert kept.info.run_name == expected
    assert kept.info.experiment_id == "0"
    assert kept.data.params == {"rank": "08", "resolved.rank": "8", "epochs": "3"}


def test_dead_processes_runs_are_ended_and_living_ones_are_not(tracking_uri: str) -> None:
    living = MlflowTracker.open("e", "living", {}, tracking_uri)
    dead = MlflowTracker.open("e", "dead", {"effft.pid": "999999999"}, tracking_uri)
    foreign = MlflowTracker.open("e", "foreign", {"effft.host": "elsewhere", "effft.pid": "999999999"}, tracking_uri)
    assert close_orphaned_runs(MlflowClient(tracking_uri)) in (0, 1)  # opening `foreign` may have ended it already
    status = {t: MlflowClient(tracking_uri).get_run(t.run_id).info.status for t in (living, dead, foreign)}
    assert list(status.values()) == ["RUNNING", "KILLED", "RUNNING"]


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("sqlite:///{0}", "is a folder"),
        ("sqlite:///{0}/no/where.db", "does not exist"),
        ("sqlite:///{0}/text.db", "no sqlite database"),
        ("http://127.0.0.1:9", "does not answer"),
        ("nonsense://x", "tracking store"),
    ],
)
def test_stores_that_cannot_be_opened(tmp_path: Path, uri: str, said: str) -> None:
    (tmp_path / "text.db").write_text("this is text, and long enough to be none of a database's headers" * 20)
    with pytest.raises(EffftError, match=said):
        MlflowTracker.open("e", "r", {}, uri.format(tmp_path))


def test_a_deleted_experiment_is_a_sentence(tracking_uri: str) -> None:
    client = MlflowClient(tracking_uri)
    client.delete_experiment(client.create_experiment("gone"))
    with pytest.raises(InputError, match="deleted"):
        MlflowTracker.open("gone", "r", {}, tracking_uri)


@pytest.mark.parametrize("name", ["MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID"])
def test_an_id_of_nothing_is_a_sentence(tracking_uri: str, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "777")
    with pytest.raises(
        InputError, match=f"{name}.* {'no such experiment' if 'EXP' in name else 'is not in the store'}"
    ):
        MlflowTracker.open("e", "r", {}, tracking_uri)


def test_children_of_a_run_that_mlflow_put_into_default_belong_to_their_task(
    tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient(tracking_uri)
    elsewhere = client.create_experiment("chosen by the user")
    note = "mlflow.note.content"
    for place, expected in (("0", "effft/small"), (elsewhere, "chosen by the user")):
        monkeypatch.setenv("MLFLOW_RUN_ID", client.create_run(place).info.run_id)
        monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", place)
        with tracked(MlflowTracker.open("effft/small", "compare", {"task": "small"}, tracking_uri)) as parent:
            child = parent.child("lora", {"task": "small"})
        run = client.get_run(child.run_id)
        assert client.get_experiment(run.info.experiment_id).name == expected
        assert run.data.tags["mlflow.parentRunId"] == parent.run_id
        assert run.data.tags["kind"] == "run"
        assert "small" in client.get_experiment(run.info.experiment_id).tags[note]


def test_everything_has_a_kind_and_a_description(tracking_uri: str) -> None:
    tags = {"kind": "study", "task": "small", "strategy": "lora"}
    with tracked(MlflowTracker.open("effft/small", "search lora", tags, tracking_uri)) as study:
        trial = study.child("trial 3", {"kind": "trial", "task": "small", "optuna.trial": "3"})
    client = MlflowClient(tracking_uri)
    notes = [client.get_run(run.run_id).data.tags["mlflow.note.content"] for run in (study, trial)]
    assert notes == ["**study** · task small · strategy lora", "**trial** · task small · optuna.trial 3"]
    assert "small" in client.get_experiment(study.experiment_id).tags["mlflow.note.content"]


@pytest.mark.parametrize(
    "words", [["models"], ["report", "--task", "agreement"], ["register", "y"], ["resend", "file"]]
)
def test_the_next_start_of_anything_ends_orphaned_runs(tracking_uri: str, words: list[str]) -> None:
    tracker = MlflowTracker.open("e", "r", {"effft.pid": "999999999"}, tracking_uri)
    Path("file").write_text(
        json.dumps({"what": FORMAT, "id": "1", "run": "y", "server": "", "process": {"effft.host": ""}})
    )
    assert run_command_line([*words, "--tracking-uri", tracking_uri]) in (0, 1, 2)
    assert MlflowClient(tracking_uri).get_run(tracker.run_id).info.status == "KILLED"


def test_tables_are_listed_as_mlflow_lists_its_own(tracking_uri: str) -> None:
    with tracked(MlflowTracker.open("e", "r", {}, tracking_uri)) as tracker:
        tracker.table("ours", {"row": [0, 1]})
    client = MlflowClient(tracking_uri)
    other = client.create_run(tracker.experiment_id).info.run_id
    client.log_table(other, {"row": [0, 1]}, "ours.json")
    tag, read = "mlflow.loggedArtifacts", []
    for run_id in (tracker.run_id, other):
        path = Path(client.download_artifacts(run_id, "ours.json"))
        read.append((client.get_run(run_id).data.tags[tag], json.loads(path.read_text())))
    assert read[0] == read[1]


def test_code_in_a_page_is_stored_as_it_is(tracking_uri: str) -> None:
    """The filter of secrets once corrupted plotly's script, and no chart was drawn in the MLflow UI."""
    tracker = MlflowTracker.open("e", "r", {}, tracking_uri)
    script = get_plotlyjs()
    tracker.text("report/report.html", f"<script>{script}</script>")
    tracker.text("notes.txt", "read from https://user:password1@host/x")
    tracker.close()
    stored = [
        Path(tracker.client.download_artifacts(tracker.run_id, name)) for name in ("report/report.html", "notes.txt")
    ]
    assert script in stored[0].read_text(encoding="utf-8")
    assert stored[1].read_text() == "read from https://***@host/x"
