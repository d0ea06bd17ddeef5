"""Results in the forms of others: what their readers ask for is there, and what PEFT wrote becomes rows."""

import csv
import io
import json
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from runs import InMemory, stored

from effft.cli.exit_codes import run_command_line
from effft.errors import InputError
from effft.reports.exchange import exported, imported
from effft.reports.report import build

PEFT_READS = {
    "run_info": ("created_at", "total_time", "experiment_name", "peft_branch", "train_config", "peft_config"),
    "train_info": (
        "accelerator_memory_reserved_avg", "accelerator_memory_max", "accelerator_memory_reserved_99th", "train_time",
        "file_size", "status", "metrics",
    ),
    "meta_info": ("package_info", "system_info"),
}  # fmt: skip
"""What method_comparison/processing.py of huggingface/peft reads from every file; the last of `metrics` has LAST."""
LAST = ("test accuracy", "train loss", "train samples", "train total tokens")
PACKAGES = ("peft", "transformers", "datasets", "torch", "bitsandbytes")

WRITTEN_BY_PEFT: dict[str, Any] = {
    "run_info": {
        "created_at": "2025-06-19T19:15:35+00:00", "total_time": 1993.49, "experiment_name": "lora/llama-3.2-3B-rank32",
        "peft_branch": "main", "error_msg": "",
        "train_config": {
            "model_id": "meta-llama/Llama-3.2-3B", "dtype": "bfloat16", "batch_size": 4, "max_steps": 5000, "seed": 0,
            "optimizer_kwargs": {"lr": 0.0001, "weight_decay": 0.1}, "attn_implementation": None,
        },
        "peft_config": {"task_type": "CAUSAL_LM", "peft_type": "LORA", "r": 32},
    },
    "train_info": {
        "cuda_memory_reserved_avg": 11868689976, "cuda_memory_max": 22273851392,
        "cuda_memory_reserved_99th": 17710763212, "train_time": 1796.19, "file_size": 36715216,
        "num_trainable_params": 9175040, "num_total_params": 3221924864, "status": "success",
        "metrics": [
            {"step": 4750, "valid accuracy": 0.46, "train loss": 0.59976, "train samples": 19000},
            {"step": 5000, "valid accuracy": 0.5, "train loss": 0.60691, "train samples": 20000},
            {"step": 5000, "test accuracy": 0.482, "train loss": 0.60691, "train samples": 20000,
             "train total tokens": 4198051},
        ],
    },
    "meta_info": {"package_info": {"peft-version": "0.15.2.dev0"}, "system_info": {"system": "Linux"}},
}  # fmt: skip
"""A file of method_comparison/MetaMathQA/results, shortened."""


def runs() -> InMemory:
    return InMemory([stored(name, seed, draw) for name in ("lora", "pbft") for seed in (0, 1) for draw in (0, 1)])


def write(place: Path, record: object) -> Path:
    place.write_text(json.dumps(record))
    return place


def test_peft_reads_every_run_and_it_comes_back_as_it_was(tmp_path: Path) -> None:
    data = build(runs(), "dogs").data
    files = exported(data, "peft")
    assert len(files) == 8
    for name, text in files.items():
        record = json.loads(text)
        assert all(key in record[part] for part, keys in PEFT_READS.items() for key in keys), name
        assert all(key in record["train_info"]["metrics"][-1] for key in LAST)
        assert all(f"{package}-version" in record["meta_info"]["package_info"] for package in PACKAGES)
        assert all(type(record["train_info"][key]) is int for key in PEFT_READS["train_info"][:3])
        write(tmp_path / name, record)
    back = imported(tmp_path, "dogs")
    ours = {(run.tags["strategy"], run.tags["seed"], run.tags["data_seed"]): run for run in runs().stored}
    for run in back:
        strategy, _, place = run.tags["strategy"].partition("/")
        own = ours[strategy, run.tags["seed"], run.tags["data_seed"]].metrics
        assert place == "m-8"
        for key in ("in_domain/accuracy", "validation/accuracy", "train/loss", "resources/train_seconds"):
            assert run.metrics[key] == own[key]
    assert len(back) == 8


def test_runs_that_differ_in_their_demonstrations_alone_get_a_file_each(tmp_path: Path) -> None:
    one, other = stored("icl", 0), stored("icl", 0, in_domain__accuracy=0.9)
    asked = [replace(run, given={"demo_seed": str(demo)}) for demo, run in ((0, one), (1, other))]
    files = exported(build(InMemory(asked), "dogs").data, "peft")
    records = [json.loads(text) for text in files.values()]
    assert [record["run_info"]["train_config"]["demo_seed"] for record in records] == ["0", "1"]
    for name, text in files.items():
        path = tmp_path / name.replace("/", "-")
        path.write_text(text)
    assert [run.given for run in imported(tmp_path, "dogs")] == [{"demo_seed": "0"}, {"demo_seed": "1"}]


def test_every_eval_ever_has_what_its_schema_requires() -> None:
    data = build(runs(), "dogs").data
    for name, text in exported(data, "eee").items():
        record = json.loads(text)
        assert name.startswith("data/dogs/effft/m/")
        required = {"schema_version", "evaluation_id", "retrieved_timestamp", "source_metadata", "model_info"}
        assert required | {"eval_library", "evaluation_results"} <= set(record)
        for result in record["evaluation_results"]:
            assert {"evaluation_name", "source_data", "metric_config", "score_details"} <= set(result)
            low, high = (
                result["score_details"]["uncertainty"]["confidence_interval"][end] for end in ("lower", "upper")
            )
            assert low <= result["score_details"]["score"] <= high
        assert all(type(value) is str for value in record["model_info"]["additional_details"].values())


@pytest.mark.network
def test_every_eval_evers_own_schema_takes_it(tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    words = "pip download -q --no-deps --python-version 3.13 --only-binary=:all: every-eval-ever".split()
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    if done.returncode:
        pytest.skip(f"every-eval-ever is not to be had: {done.stderr[-200:]}")
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        schema = json.loads(wheel.read("every_eval_ever/schemas/eval.schema.json"))
    for text in exported(build(runs(), "dogs").data, "eee").values():
        jsonschema.Draft7Validator(schema).validate(json.loads(text))


def test_results_of_peft_become_rows_of_a_report(tracking_uri: str, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    write(folder / "lora.json", WRITTEN_BY_PEFT)
    failed = {**WRITTEN_BY_PEFT["train_info"], "status": "failed"}
    write(folder / "failed.json", {**WRITTEN_BY_PEFT, "train_info": failed})
    words = ["report", "--task", "gsm8k", "--import", str(folder), "--export", "peft", "--out", str(tmp_path / "out")]
    assert run_command_line([*words, "--tracking-uri", tracking_uri, "--no-tracking"]) == 0
    (row,) = csv.DictReader(io.StringIO((tmp_path / "out" / "results.csv").read_text()))
    assert (row["strategy"], row["per_label"]) == ("lora/llama-3.2-3B-rank32", "20000 rows")
    assert float(row["mean"]) == 0.482
    assert "1 run imported from files" in (tmp_path / "out" / "report.md").read_text()
    (again,) = imported(tmp_path / "out" / "peft", "gsm8k")
    assert again.metrics["resources/peak_memory_mb"] == 22273.851392


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ([], "TypeError"),
        ({"run_info": {}}, "'train_info'"),
        ({**WRITTEN_BY_PEFT, "train_info": {"status": "success", "metrics": [{"step": 1}]}}, "'test accuracy'"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, record: object, why: str) -> None:
    with pytest.raises(InputError, match=f"no result of PEFT's method comparison.*{why}"):
        imported(write(tmp_path / "one.json", record), "dogs")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no file"):
        imported(tmp_path / "empty", "dogs")


@pytest.mark.slow
def test_a_run_without_a_seed_or_a_beginning_is_written_too() -> None:
    first, second = stored("lora", 0), stored("lora", 1)
    bare = replace(first, started=None, tags={k: v for k, v in first.tags.items() if not k.endswith("seed")})
    assert len(exported(build(InMemory([bare, second]), "dogs").data, "peft")) == 2
