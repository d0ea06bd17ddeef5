"""`effft predict` and pyfunc on a run's own evaluation files give the run's own answers, whatever the format."""

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from backbones import save_backbone
from click.testing import CliRunner
from place import Copying

from effft.cli.app import app
from effft.config import make_config
from effft.data.files import open_table
from effft.evaluation.metrics import softmax
from effft.runs.experiment import Result, run
from effft.runs.session import Session

TASK = """
name: skew
fields: [text]
labels: [good, bad, "so, so"]
label_words: {good: " Yes", bad: " No", "so, so": " not good"}
patterns: {minimal: "{text} ?"}
train: train.csv
in_domain: test.csv
ood:
  cr: cr.csv
  semicolons: {file: semicolons.csv.gz, delimiter: ";"}
  tabs: {file: sub/test.tsv, columns: [id, label, text]}
  quoted: {file: quoted.txt, quoting: true}
  lines: {file: lines.jsonl, fields: {text: body}, label: {map: {"1": good, "2": bad}, drop: [""]}}
  lines_gz: {file: more.jsonl.gz}
  table: {file: table.parquet}
  printed: {file: printed.tsv, clean: bytes_repr, where: {kind: a}, rows: [0, 3]}
"""
TEXTS = [
    "  the old cat . ",
    "the dog runs .\r\n",
    "\tno cats",
    "5",
    'old "dogs" , new cat',
    "yes\u00a0",
    "cat " * 40_000,
]
LABELS = ["good", "bad", "so, so", "good", "bad", "so, so", "good"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task whose evaluation files are of every format, with texts that formats and readers treat differently."""
    folder = tmp_path_factory.mktemp("skew")
    (folder / "task.yaml").write_text(TASK)
    frame = pd.DataFrame({"text": TEXTS, "label": LABELS})
    words = ("the cat", "dogs run", "a new dog", "old cats", "is no dog", "yes")
    pool = [
        (f"{word} {end}", label) for word in words for end, label in zip(("good", "bad", "new"), LABELS, strict=False)
    ]
    pd.DataFrame(pool, columns=["text", "label"]).to_csv(folder / "train.csv", index=False)
    frame.to_csv(folder / "test.csv", index=False)
    frame[1:].to_csv(folder / "cr.csv", index=False, lineterminator="\r")
    frame.to_csv(folder / "semicolons.csv.gz", index=False, sep=";")
    (folder / "sub").mkdir()
    flat = [(text.replace("\t", " ").replace("\r\n", " "), label) for text, label in zip(TEXTS, LABELS, strict=True)]
    (folder / "sub" / "test.tsv").write_text(
        "".join(f"{i}\t{label}\t{text}\r\n" for i, (text, label) in enumerate(flat))
    )
    frame.to_csv(folder / "quoted.txt", index=False, sep="\t")
    lines: list[dict[str, object]] = [{"body": 5, "label": 1.0, "text": "no"}, {"label": None, "body": "cat"}]
    lines += [{"body": text, "label": 2, "more": [1]} for text in TEXTS]
    (folder / "lines.jsonl").write_text("\n".join(map(json.dumps, lines)))
    rows = [{"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)]
    (folder / "more.jsonl.gz").write_bytes(gzip.compress("\r".join(map(json.dumps, rows)).encode()))
    pd.DataFrame({"text": [5, 6, 7], "label": LABELS[:3]}).to_parquet(folder / "table.parquet")
    (folder / "printed.tsv").write_text(
        "text\tlabel\tkind\nb'the dog'\tgood\ta\nx\tbad\tb\nb' cats '\tbad\ta\nz\tgood\tc\n"
    )
    save_backbone(folder / "llama", "llama")
    save_backbone(folder / "bert", "bert")
    return folder


def go(folder: Path, to: Path, **values: object) -> Result:
    base = {"task": str(folder / "task.yaml"), "model": str(folder / "llama"), "per_label": 3, "epochs": 2}
    return run(make_config({**base, "bootstrap": 0, "log_model": True, **values}), Copying(to=to), Session(keep=False))


def check_answers(model: Path, source: Path, out: Path, table: dict[str, list[object]], labels: list[str]) -> None:
    """The answers that `predict` writes for a file are those of the run's table of predictions."""
    done = CliRunner().invoke(app, ["predict", "--model", str(model), "--input", str(source), "--output", str(out)])
    assert done.exit_code == 0, done.exception
    answers = [row.values for row in open_table(out)]
    prefix = "predicted_" if "predicted_label" in answers[0] else ""
    chances = softmax(np.array([table[f"score_{label}"] for label in labels], dtype=float).T)
    for row, (number, answer) in enumerate(zip(table["row"], table["answer"], strict=True)):
        given = answers[int(str(number))]
        assert given[f"{prefix}label_name"] == answer
        np.testing.assert_allclose([float(given[f"{prefix}probability_{n}"]) for n in labels], chances[row], atol=1e-5)


@pytest.mark.parametrize("kind", ["llama", pytest.param("bert", marks=pytest.mark.slow)])
@pytest.mark.parametrize("strategy", ["vanilla", "lora", "pbft", "icl"])
def test_kind_3_predict_answers_as_the_run_did(place: Path, tmp_path: Path, strategy: str, kind: str) -> None:
    values = {"shots": 3} if strategy == "icl" else {}
    result = go(place, tmp_path / "model", strategy=strategy, model=str(place / kind), **values)
    names = dict.fromkeys(["in_domain"], "test.csv") | {
        f"ood/{name}": file
        for name, file in [
            ("cr", "cr.csv"), ("semicolons", "semicolons.csv.gz"), ("tabs", "sub/test.tsv"), ("quoted", "quoted.txt"),
            ("lines", "lines.jsonl"), ("lines_gz", "more.jsonl.gz"), ("table", "table.parquet"),
            ("printed", "printed.tsv"),
        ]
    }  # fmt: skip
    assert set(names) == set(result.tables) - {"validation"}
    for split, file in names.items():
        check_answers(
            tmp_path / "model", place / file, tmp_path / "out.jsonl", result.tables[split], ["good", "bad", "so, so"]
        )


@pytest.mark.slow
def test_pyfunc_answers_as_the_run_did(place: Path, tmp_path: Path, tracking_uri: str) -> None:
    import mlflow

    from effft.tracking.pyfunc import pyfunc_folder

    result = go(place, tmp_path / "model", strategy="lora")
    with pyfunc_folder(tmp_path / "model", "m-0", "0" * 32) as folder:
        answers = mlflow.pyfunc.load_model(str(folder)).predict(pd.DataFrame({"text": TEXTS}))
    assert list(answers["label_name"]) == result.tables["in_domain"]["answer"]
    scores = np.array([result.tables["in_domain"][f"score_{n}"] for n in ("good", "bad", "so, so")], dtype=float).T
    np.testing.assert_allclose(answers["probability_bad"], softmax(scores)[:, 1], atol=1e-5)


TREC = """
name: trec
fields: [text]
labels: [abbreviation, description, entity, human, location, number]
patterns: {minimal: "{text} It is a"}
train: trec/train.csv
in_domain: trec/test.csv
"""
FILES = {
    "cola": {"in_domain": "cola/in_domain_dev.tsv", "ood/cola_ood": "cola/out_of_domain_dev.tsv"},
    "mnli": {"in_domain": "mnli/dev_matched.tsv.gz", "ood/hans": "hans/heuristics_evaluation_set.txt.gz"},
    "trec": {"in_domain": "trec/test.csv"},
}
"""Task -> the file of each of its splits."""
EVERY = {"mnli/dev_matched.tsv.gz": 20, "hans/heuristics_evaluation_set.txt.gz": 60}
"""Of a large file, the header and every so many rows are taken."""


def copy_of(data: Path, to: Path) -> Path:
    """The data folder with links to the files, and copies of the large ones with fewer rows."""
    for path in data.rglob("*.*sv*"):
        (to / path.relative_to(data)).parent.mkdir(parents=True, exist_ok=True)
        (to / path.relative_to(data)).symlink_to(path)
    for name, every in EVERY.items():
        (to / name).parent.mkdir(exist_ok=True)
        (to / name).unlink(missing_ok=True)
        with gzip.open(data / name) as source, gzip.open(to / name, "wb") as target:
            header, *rows = source
            target.writelines([header, *rows[::every]])
    return to


@pytest.mark.slow
@pytest.mark.parametrize("task", FILES)
@pytest.mark.parametrize("strategy", ["vanilla", "lora", "pbft", "icl"])
def test_real_files_are_answered_as_in_the_run(tmp_path: Path, shared: Path, strategy: str, task: str) -> None:
    (tmp_path / "trec.yaml").write_text(TREC)
    data, words = (
        copy_of(shared / "data", tmp_path / "data"),
        {"cola": "he,she", "mnli": "he,she", "trec": "he,she,it,they,you and they,you and we"},
    )
    values: dict[str, object] = {
        "task": str(tmp_path / "trec.yaml") if task == "trec" else task,
        "data_dir": str(data),
        "model": str(shared / "models" / "stories260K"),
        "max_length": 60,
        "epochs": 1,
    }
    values |= {"label_words": words[task]} if strategy in ("pbft", "icl") else {}
    values |= {"shots": 2} if strategy == "icl" else {}
    result = go(tmp_path, tmp_path / "model", strategy=strategy, **values)
    labels = [name.removeprefix("score_") for name in result.tables["in_domain"] if name.startswith("score_")]
    assert set(result.tables) == {"validation", *FILES[task]}, "a set of the task is left out"
    for split, file in FILES[task].items():
        check_answers(tmp_path / "model", data / file, tmp_path / "out.jsonl", result.tables[split], labels)
