"""Using a saved model: files in, answers out, plain folders, and a real server."""

import csv
import io
import json
import os
import re
import resource
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from place import Copying, go

from effft.cli.app import app
from effft.data.files import open_table
from effft.errors import InputError
from effft.evaluation.metrics import softmax
from effft.runs.experiment import Result
from effft.serving.manifest import read_manifest
from effft.serving.model_card import card
from effft.tracking.mlflow_tracker import MlflowTracker
from effft.tracking.registry import register
from effft.tracking.tracker import tracked

KINDS = ("llama", "bert", "opt")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def lora(place: Path) -> tuple[Path, Result]:
    result = go(place, Copying(to=place / "lora-model"), "lora")
    return place / "lora-model", result


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl"])
def test_a_file_is_answered_in_its_own_format(lora: tuple[Path, Result], tmp_path: Path, ending: str) -> None:
    folder, result = lora
    texts = [str(t) for t in result.tables["in_domain"]["text"]]
    lines = [f"{n},{t}" for n, t in enumerate(texts)] if ending == "csv" else [f"{n}\t{t}" for n, t in enumerate(texts)]
    head = "label,text" if ending == "csv" else "label\ttext"
    content = "\n".join([head, *lines]) + "\n"
    if ending == "jsonl":
        content = "".join(json.dumps({"label": n, "text": t}) + "\n" for n, t in enumerate(texts))
    source, out = tmp_path / f"in.{ending}", tmp_path / f"out.{ending}"
    source.write_text(content)
    done = CliRunner().invoke(app, ["predict", "--model", str(folder), "--input", str(source), "--output", str(out)])
    assert done.exit_code == 0, done.output
    if ending == "jsonl":
        rows = [json.loads(line) for line in out.read_text().splitlines()]
    else:
        rows = list(csv.DictReader(io.StringIO(out.read_text()), delimiter="," if ending == "csv" else "\t"))
    assert [row["predicted_label_name"] for row in rows] == result.tables["in_domain"]["answer"]
    assert [int(row["label"]) for row in rows] == list(range(len(texts)))  # the file's own column stays
    scores = np.array([result.tables["in_domain"][f"score_{n}"] for n in ("without", "with_dog")]).T
    found = [float(row["predicted_probability_with_dog"]) for row in rows]
    np.testing.assert_allclose(found, softmax(scores)[:, 1], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "", "the file is empty"),
        ("a.csv", "text\n", "a header and no rows"),
        ("a.csv", "texts\nx\n", r"no column 'text'; .*Did you mean 'texts'"),
        ("a.csv", 'text,b\nx,"y\nz",1\n', "line 2: 3 columns where 2 are expected"),
        ("a.csv", "id,text,id\n7,a dog,8\n", "column 'id' stands there twice"),
        ("a.jsonl", '{"text": "a dog"}\n{"text": [5]}\n', r"line 2: column 'text' holds \[5\], no text"),
        ("a.jsonl", '{"text": "a dog"}\n{"text": null}\n', "line 2: column 'text' holds None, no text"),
        ("a.jsonl", '{"text": "a dog"}\nnothing\n', r"line 2: no JSON"),
        ("a.jsonl", "[1]\n", "line 1: each line must be an object"),
        ("a.jsonl", "{}\n", "no column 'text'"),
        ("a.tsv", "text\tb\n\udcff\tx\n", "line 2: no UTF-8"),
    ],
)
def test_a_bad_row_is_a_sentence_and_the_old_answers_stay(
    lora: tuple[Path, Result], tmp_path: Path, name: str, content: str, said: str
) -> None:
    source, out = tmp_path / name, tmp_path / f"out{Path(name).suffix}"
    source.write_bytes(content.encode(errors="surrogateescape"))
    out.write_text("the answers of yesterday")
    done = CliRunner().invoke(app, ["predict", "--model", str(lora[0]), "--input", str(source), "--output", str(out)])
    assert isinstance(done.exception, InputError)
    assert re.search(said, str(done.exception))
    assert out.read_text() == "the answers of yesterday"
    assert {path.name for path in tmp_path.iterdir()} == {source.name, out.name}


def test_no_column_is_lost_and_no_name_stands_for_two_things(lora: tuple[Path, Result], tmp_path: Path) -> None:
    rows = [
        {"text": "a dog", "label": "good", "predicted_label": 7},
        {"text": "a cat", "kind": [1, 2]},
        {"text": " x "},
    ]
    source = tmp_path / "in.jsonl"
    source.write_text("\n".join(map(json.dumps, rows)))
    for suffix in ("jsonl", "csv", "tsv"):
        out = tmp_path / f"out.{suffix}"
        words = ["predict", "--model", str(lora[0]), "--input", str(source), "--output", str(out)]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
        table = list(open_table(out))
        assert [row.values["text"] for row in table] == ["a dog", "a cat", " x "]
        assert str(table[0].values["predicted_label"]) == "7"
        assert all("predicted_predicted_label_name" in row.values for row in table)
        assert "label" not in table[1].values or table[1].values["label"] == ""
    source.write_text(json.dumps({"text": "a dog", "two\twords": 1}))
    assert "in.jsonl: a column's name holds a tab" in str(CliRunner().invoke(app, words).exception)
    words[words.index("--output") + 1] = str(tmp_path / "nowhere" / "out.csv")
    assert "make it first" in str(CliRunner().invoke(app, words).exception)


def test_the_card_shows_labels_as_they_are_called(lora: tuple[Path, Result]) -> None:
    record = read_manifest(lora[0])
    names = ["_bad_", "[good](http://other.example)"]
    shown = card(record.model_copy(update={"task": {**record.task, "labels": names}}))
    assert r"0 = \_bad\_, 1 = \[good\](http://other.example)." in shown


@pytest.mark.slow
def test_a_disk_that_fills_leaves_the_old_answers(lora: tuple[Path, Result], tmp_path: Path) -> None:
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("text\n" + "a dog runs\n" * 2000)
    out.write_text("the answers of yesterday")
    words = ["predict", "--model", str(lora[0]), "--input", str(source), "--output", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "effft", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000)),
    )
    assert done.returncode == 1
    assert "cannot be written" in done.stderr or "could not be written" in done.stderr
    assert out.read_text() == "the answers of yesterday"
    assert {path.name for path in tmp_path.iterdir()} == {"in.csv", "out.csv"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give one of the two"),
        (["--input", "x.pdf"], "unknown file format"),
        (["--input", "x.csv"], "x.csv: cannot be read: No such file"),
    ],
)
def test_what_predict_needs(lora: tuple[Path, Result], words: list[str], said: str) -> None:
    done = CliRunner().invoke(app, ["predict", "--model", str(lora[0]), *words])
    assert isinstance(done.exception, InputError)
    assert said in str(done.exception)


@pytest.fixture
def registered(place: Path, tracking_uri: str) -> tuple[str, Result]:
    tracker = MlflowTracker.open("effft/dogs", "lora", {}, tracking_uri)
    with tracked(tracker):
        result = go(place, tracker, "lora")
    register(tracker.run_id, tracking_uri)
    return tracking_uri, result


@pytest.mark.slow
def test_models_and_predict_by_name(registered: tuple[str, Result]) -> None:
    uri, result = registered
    listed = CliRunner().invoke(app, ["models", "--tracking-uri", uri])
    assert "models:/effft-dogs/1" in listed.output
    assert "champion" in listed.output
    assert f"{result.metrics['ood/far/mcc']:.3f}" in listed.output
    words = ["predict", "--model", "models:/effft-dogs@champion", "--text", "a dog", "--tracking-uri", uri]
    done = CliRunner().invoke(app, words)
    assert json.loads(done.output)["label_name"] in ("without", "with_dog")
    gone = CliRunner().invoke(app, ["predict", "--model", "models:/effft-cats/1", "--text", "x", "--tracking-uri", uri])
    assert isinstance(gone.exception, InputError)


def free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return int(place.getsockname()[1])


def post(port: int, record: object) -> tuple[int, str]:
    data = json.dumps(record).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/invocations", data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.slow
def test_the_real_server_answers(registered: tuple[str, Result], tmp_path: Path) -> None:
    uri, result = registered
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/effft-dogs@champion"]
    command += ["--env-manager", "local", "--port", str(port)]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, "PATH": path, "PYTHONPATH": ""}
    server = subprocess.Popen(command, env=environment, cwd=tmp_path, start_new_session=True)
    try:
        for _ in range(180):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5)
                break
            except OSError:
                assert server.poll() is None
                time.sleep(0.5)
        texts = [str(t) for t in result.tables["in_domain"]["text"][:5]]
        status, body = post(port, {"dataframe_split": {"columns": ["text"], "data": [[t] for t in texts]}})
        assert status == 200, body
        rows = json.loads(body)["predictions"]
        assert [row["label_name"] for row in rows] == result.tables["in_domain"]["answer"][:5]
        scores = np.array([result.tables["in_domain"][f"score_{n}"][:5] for n in ("without", "with_dog")]).T
        np.testing.assert_allclose([r["probability_with_dog"] for r in rows], softmax(scores)[:, 1], atol=1e-6)
        status, body = post(port, {"dataframe_split": {"columns": ["texts"], "data": [["a dog"]]}})
        assert status == 400
        assert "text" in body
        status, body = post(port, {"dataframe_split": {"columns": ["text"], "data": [[5]]}})
        assert status == 200, body  # a number is a text, as in the files of a task
    finally:
        os.killpg(server.pid, 15)
        server.wait(timeout=30)
