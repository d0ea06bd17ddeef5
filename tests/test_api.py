"""The interface for Python gives what the command line gives."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

import effft
from effft.config import make_config
from effft.errors import InputError
from effft.runs.experiment import run
from effft.runs.session import Session
from effft.tracking.tracker import MemoryTracker
from tests.runs import runs_in

SHORT = {"per_label": 8, "epochs": 1, "bootstrap": 20, "no_tracking": True}


@pytest.fixture(scope="module")
def frames(place: Path) -> dict[str, pd.DataFrame]:
    return {name: pd.read_csv(place / f"{name}.csv") for name in ("train", "test", "far")}


@pytest.mark.slow
def test_a_data_frame_gives_what_its_file_gives(place: Path, frames: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    flags = {**SHORT, "model": str(place / "llama")}
    made = effft.adapt("probe", frames["train"], test=frames["test"], ood={"far": frames["far"]}, **flags)
    files = {"data": place / "train.csv", "test": place / "test.csv", "ood": place / "far.csv"}
    values = {**{k: v for k, v in flags.items() if k != "no_tracking"}, **{k: str(v) for k, v in files.items()}}
    direct = run(make_config({**values, "strategy": "probe"}), MemoryTracker(), Session(keep=False))
    timed = ("seconds", "memory_mb", "bytes", "per_second", "share")
    same = {key for key in direct.metrics if not key.endswith(timed)}
    assert {key: made.metrics[key] for key in same} == {key: direct.metrics[key] for key in same}
    assert made.run_id == ""
    answers = made.predict(list(frames["test"]["text"]))
    assert answers == direct.tables["in_domain"]["answer"]
    chances = made.predict_proba(frames["test"])
    assert np.allclose(chances.sum(axis=1), 1)
    again = effft.load(made.save(tmp_path / "saved"))
    assert np.array_equal(again.predict_proba(frames["test"]), chances)
    assert again.predict([]) == []
    with pytest.raises(InputError, match="there already"):
        made.save(tmp_path / "saved")
    with pytest.raises(InputError, match="a list of texts"):
        made.predict("one text")
    with pytest.raises(InputError, match="row 0: 2 texts where 1"):
        made.predict([("a", "b")])


def test_several_texts_and_labels_of_any_kind(place: Path, tracking_uri: str) -> None:
    rows = {"a": ["the cat runs"] * 8, "b": [f"old dogs see {n}" for n in range(8)], "👍": [1, 0] * 4}
    frame = pd.DataFrame(rows)
    made = effft.adapt(
        "probe", frame, test=frame, text=["a", "b"], label="👍", name="pairs", model=str(place / "llama"),
        per_label=2, steps=1, bootstrap=0, tracking_uri=tracking_uri,
    )  # fmt: skip
    assert made.labels == ("0", "1")
    assert len(made.predict(frame)) == len(made.predict(np.array([("a", "b")] * 8))) == 8
    for row in ("ab", {"a": "x", "b": "y"}):  # which was read as two letters, and as two keys
        with pytest.raises(InputError, match="row 0: 1 texts where 2 are read"):
            made.predict([row])
    from effft.tracking.store import open_client

    client = open_client(tracking_uri)
    found = client.get_run(made.run_id)
    assert client.get_experiment(found.info.experiment_id).name == "effft/pairs"
    assert found.info.status == "FINISHED"


def test_what_the_command_line_refuses_is_refused(place: Path) -> None:
    with pytest.raises(InputError, match="Did you mean 'per_label'"):
        effft.adapt("lora", place / "train.csv", per_lable=3)
    with pytest.raises(InputError, match="unique"):
        effft.adapt("lora", pd.DataFrame([["a", "b"]], columns=["text", "text"]), no_tracking=True)
    for rows in (["a text"], pd.Series(["a text"]), {"text": ["a text"]}):
        with pytest.raises(InputError, match=f"data: this is a {type(rows).__name__}; give a DataFrame, a path"):
            effft.adapt("lora", rows, no_tracking=True)
    with pytest.raises(InputError, match="'icl' trains nothing, so --epochs has no meaning; leave it out"):
        effft.adapt("icl", place / "train.csv", epochs=3, rank=None, model=str(place / "llama"), no_tracking=True)
    with pytest.raises(InputError, match="strategy: a choice is among all of them"):
        effft.choose(place / "train.csv", strategy="icl", minutes=0.001, model=str(place / "llama"), no_tracking=True)
    with pytest.raises(InputError, match="log_model: a choice decides this itself"):
        effft.choose(place / "train.csv", log_model=True, minutes=1, model=str(place / "llama"), no_tracking=True)
    with pytest.raises(InputError, match="log_model=true: without tracking no model is kept"):
        effft.compare("lora", place / "train.csv", log_model=True, model=str(place / "llama"), no_tracking=True)
    with pytest.raises(AttributeError):
        _ = effft.adopt


def small(text: str, rows: int) -> pd.DataFrame:
    return pd.DataFrame({"text": [f"the {text} runs {n}" for n in range(rows)], "label": ["no", "yes"] * (rows // 2)})


FEW = {"bootstrap": 0, "cross_validation": "none", "threads": 1, "no_tracking": True}


def test_a_set_out_of_domain_is_called_as_its_key_and_is_not_the_data(
    place: Path, frames: dict[str, pd.DataFrame]
) -> None:
    model = str(place / "llama")
    made = effft.adapt("probe", small("cat", 12), ood={"data": small("dog", 6)}, model=model, **FEW)
    assert made.metrics["resources/labels_used"] == 12
    assert "ood/data/accuracy" in made.metrics
    for key, value in {"books": place / "far.csv", "a/b": frames["far"], "a, b": frames["far"]}.items():
        with pytest.raises(InputError, match=f"ood={key}: this set would be called"):
            effft.adapt("probe", small("cat", 12), ood={"test": frames["far"], key: value}, model=model, **FEW)


def test_a_model_finds_its_files_and_columns(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = small("cat", 12).set_axis([0, 1], axis=1)
    frame[1] = pd.to_datetime(["2024-01-31", "2024-02-01"] * 6)
    made = effft.adapt("probe", frame, name="mine/or yours", model=str(place / "llama"), **FEW)
    assert [label[:10] for label in made.labels] == ["2024-01-31", "2024-02-01"]
    answers = made.predict(frame)
    made.save(tmp_path / "saved")
    monkeypatch.chdir(tmp_path)
    again = effft.load("saved")
    monkeypatch.chdir("/")
    assert again.predict(frame) == answers == made.predict([*frame[0]])
    with pytest.raises(InputError, match="two columns '0'"):
        made.predict(pd.concat([frame, frame], axis=1))


def test_importing_the_package_is_quick() -> None:
    code = "import sys, json, effft; print(json.dumps([dir(effft), sorted(sys.modules)]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names, modules = json.loads(done.stdout)
    assert {"adapt", "load"} <= set(names)
    assert [name for name in ("torch", "pandas", "mlflow", "sklearn", "effft.api") if name in modules] == []


def test_a_comparison_is_a_data_frame_and_says_where_strategies_disagree(
    place: Path, frames: dict[str, pd.DataFrame], tracking_uri: str
) -> None:
    far = frames["far"].drop(columns="label")
    table = effft.compare(
        ["lora", "zero_shot"], frames["train"], test=frames["test"], ood={"far": frames["far"], "blank": far}, seeds=2,
        model=str(place / "llama"), per_label=8, epochs=1, bootstrap=0, tracking_uri=tracking_uri,
        pattern=None, label_words="No,Yes",
    )  # fmt: skip
    assert set(table["strategy"]) == {"lora", "zero_shot"}
    assert {"in_domain", "in_domain_sd", "ood/far", "gap", "peak_memory_mb"} <= set(table.columns)
    assert not [column for column in table.columns if "blank" in column]  # no score without labels
    assert dict(zip(table["strategy"], table["runs"], strict=True)) == {"lora": 2, "zero_shot": 1}
    (parent,) = runs_in(tracking_uri, "effft/data", "tags.kind = 'comparison'")
    lines = pd.read_csv(MlflowClient(tracking_uri).download_artifacts(parent.info.run_id, "disagreement.csv"))
    assert list(lines.columns) == ["set", "row", "disagreement", "text", "lora", "zero_shot"]
    assert set(lines["set"]) <= {"ood/blank"}
    assert lines["disagreement"].is_monotonic_decreasing
    assert [far["text"][row] for row in lines["row"]] == list(lines["text"])
    assert len(lines) <= 50


def test_options_of_an_adapter_are_a_mapping_also_in_a_comparison() -> None:
    with pytest.raises(InputError, match="the type 'ia3' has no option 'nope'"):
        effft.compare(["ia3"], task="agreement", peft_options={"nope": 1}, no_tracking=True)
    with pytest.raises(InputError, match="the type 'ia3' has no option 'nope'"):  # one name is a list of one
        effft.compare("ia3", task="agreement", peft_options={"nope": 1}, no_tracking=True)


def test_a_model_may_be_a_path(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"model {str(tmp_path / 'no')!r}"):
        effft.adapt("lora", model=tmp_path / "no", no_tracking=True)
