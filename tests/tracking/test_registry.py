"""Models in a real store: logged, loaded by pyfunc, registered; the champion by validation alone."""

import math
import os
import shutil
import subprocess
import sys
import warnings
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from place import Copying, go

from effft.errors import InputError
from effft.evaluation.metric_keys import headlines
from effft.runs.experiment import Result
from effft.strategies.strategy import NAMED
from effft.tracking import pyfunc
from effft.tracking.mlflow_tracker import MlflowTracker
from effft.tracking.models import fetch
from effft.tracking.registry import Version, reason_against, register, versions
from effft.tracking.store import open_client
from effft.tracking.tracker import tracked

PROBABILITIES = ["probability_without", "probability_with_dog"]


def logged(place: Path, uri: str, strategy: str, **values: object) -> tuple[str, Result]:
    tracker = MlflowTracker.open("effft/dogs", strategy, {"study": "s1"}, uri)
    with tracked(tracker):
        result = go(place, tracker, strategy, **values)
    return tracker.run_id, result


def softmaxed(result: Result) -> np.ndarray:
    table = result.tables["in_domain"]
    scores = np.exp(np.array([table["score_without"], table["score_with_dog"]]).T)
    return np.asarray(scores / scores.sum(axis=1, keepdims=True))


QUICK = ("lora", "vanilla", "icl")


@pytest.mark.parametrize("strategy", [s if s in QUICK else pytest.param(s, marks=pytest.mark.slow) for s in NAMED])
def test_pyfunc_answers_what_the_run_logged(
    place: Path, tracking_uri: str, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"teacher_shots": 4} if "distill" in strategy else {"shots": 4} if strategy == "icl" else {}
    run_id, result = logged(place, tracking_uri, strategy, **values)
    version = register(run_id, tracking_uri)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)  # set_tracking_uri would outlive the test
    model = mlflow.pyfunc.load_model(f"models:/{version.name}/{version.number}")
    answers = model.predict(pd.DataFrame({"text": result.tables["in_domain"]["text"]}))
    np.testing.assert_allclose(answers[PROBABILITIES].to_numpy(), softmaxed(result), atol=1e-6, rtol=0)
    assert list(answers["label_name"]) == result.tables["in_domain"]["answer"]
    assert model.metadata.signature.inputs.input_names() == ["text"]
    assert model.metadata.signature.outputs.input_names() == ["label", "label_name", *PROBABILITIES]


def test_mlflow_has_nothing_to_warn_of(place: Path, tmp_path: Path) -> None:
    go(place, Copying(to=tmp_path / "saved"), "lora", epochs=1)
    own = spec_from_file_location("loaded_again", pyfunc.__file__)  # MLflow warns when the class is made
    assert own is not None
    assert own.loader is not None
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        again = module_from_spec(own)
        own.loader.exec_module(again)
        with again.pyfunc_folder(tmp_path / "saved", "m-1", "r-1") as folder:
            assert (folder / "input_example.json").is_file()
    assert [str(w.message) for w in told if issubclass(w.category, (UserWarning, FutureWarning))] == []


@pytest.mark.slow
def test_another_folder_and_process_without_this_project(place: Path, tracking_uri: str, tmp_path: Path) -> None:
    run_id, result = logged(place, tracking_uri, "lora")
    client = open_client(tracking_uri)
    saved = fetch(f"runs:/{run_id}/model", client)
    (away := tmp_path / "away").mkdir()
    shutil.copytree(saved.parent.parent, away / "model")
    assert not list(saved.rglob("*.pkl"))
    text = result.tables["in_domain"]["text"][0]
    code = (
        "import sys, mlflow, pandas\nsys.path = [p for p in sys.path if p]\n"
        "m = mlflow.pyfunc.load_model('model')\nimport effft\nprint(effft.__file__)\n"
        f"print(m.predict(pandas.DataFrame({{'text': [{text!r}]}}))['probability_without'][0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=away, text=True, capture_output=True, check=True, timeout=120,
        env={**os.environ, "PYTHONPATH": ""},
    )  # fmt: skip
    file, value = done.stdout.split()[-2:]
    assert str(away) in file
    assert float(value) == pytest.approx(softmaxed(result)[0, 0], abs=1e-5)


def test_versions_have_tags_a_card_and_one_champion(place: Path, tracking_uri: str) -> None:
    one, result = logged(place, tracking_uri, "lora")
    two, _ = logged(place, tracking_uri, "probe")
    first = register(one, tracking_uri, validation=0.5)
    second = register(two, tracking_uri, study="probe-20", validation=0.4)
    client = open_client(tracking_uri)
    assert [v.number for v in versions(client, "dogs")] == [2, 1]
    assert first.aliases == ("champion",)
    assert second.aliases == ()
    assert second.tags["study"] == "probe-20"
    assert first.tags["study"] == "s1"
    assert float(first.tags["ood/far"]) == pytest.approx(result.metrics["ood/far/mcc"], abs=1e-6)
    assert {"strategy", "backbone", "per_label", "validation", "in_domain", "metric", "task", "task_digest"} <= set(
        first.tags
    )
    card = client.get_model_version("effft-dogs", "1").description
    assert "lora r8 · 8/label" in card
    assert "| ood/far |" in card
    third = register(two, tracking_uri, validation=0.6)
    assert third.aliases == ("champion",)
    assert client.get_model_version_by_alias("effft-dogs", "champion").version == 3
    logged_model = client.get_logged_model(client.get_run(one).outputs.model_outputs[0].model_id)
    found = {(m.key, m.dataset_name) for m in logged_model.metrics}
    assert (
        client.get_run(one).data.metrics.keys()
        >= {key for key, _ in found}
        == {key for key in headlines(result.metrics, "mcc") if not key.startswith("resources/")}
    ), "MLflow shows a model's metrics among those of its run"
    assert {("in_domain/mcc", "dogs/in_domain"), ("ood/far/mcc", "dogs/ood/far")} <= found


def version(validation: str, **other: str) -> Version:
    return Version("effft-x", 1, (), {"metric": "mcc", "validation": validation, **other})


def test_ood_never_makes_a_champion() -> None:
    poor = version("0.5", **{"ood/far": "0.1", "in_domain": "0.1"})
    rich = version("0.5", **{"ood/far": "0.9", "in_domain": "0.9"})
    assert reason_against(rich, poor)
    assert not reason_against(version("0.51"), poor)
    assert reason_against(version("nan"), None)
    assert not reason_against(poor, None)


def test_champions_are_compared_within_one_metric_and_one_content_of_the_task() -> None:
    old = version("0.5", task_digest="a")
    assert "another metric" in reason_against(version("0.9", metric="accuracy", task_digest="a"), old)
    assert "other content" in reason_against(version("0.9", task_digest="b"), old)
    assert not reason_against(version("0.9", task_digest="a"), old)


@pytest.mark.slow
def test_what_is_not_there_is_a_sentence(place: Path, tracking_uri: str) -> None:
    run_id, _ = logged(place, tracking_uri, "zero_shot", log_model=False)
    with pytest.raises(InputError, match="logged no model; run it with --log-model true"):
        register(run_id, tracking_uri)
    with pytest.raises(InputError, match="run 'nothing'"):
        register("nothing", tracking_uri)
    client = open_client(tracking_uri)
    with pytest.raises(InputError, match="Nothing is registered"):
        fetch("models:/effft-dogs@champion", client)
    probe = logged(place, tracking_uri, "probe")[0]
    assert "there is no champion yet" in register(probe, tracking_uri, validation=math.nan).verdict
    register(probe, tracking_uri)
    with pytest.raises(InputError, match="Did you mean 'effft-dogs'"):
        fetch("models:/effft-dogz@champion", client)
    with pytest.raises(InputError, match="lists the versions"):
        fetch("models:/effft-dogs/7", client)
    with pytest.raises(InputError, match="no such folder, and no URI"):
        fetch("effft-dogs", client)
    with pytest.raises(InputError, match="tasks that have one: dogs"):
        versions(client, "cats")
