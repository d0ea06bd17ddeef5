"""Several processes do what one does: the same weights, the same metrics, one MLflow run."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.distributed.float64_runs import CASES, everything
from tests.distributed.launching import launched
from tests.runs import runs_in

KINDS = ("llama", "gpt_neox", "qwen3", "bert", "opt", "gpt2", "bart")

pytestmark = [pytest.mark.slow, pytest.mark.alone]


@pytest.fixture(scope="module")
def alone(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process gives."""
    out = tmp_path_factory.mktemp("alone")
    everything(place, out)
    return out


@pytest.mark.parametrize("configuration", ["ddp", "fsdp2"])
def test_two_processes_reach_the_weights_and_metrics_of_one(
    configuration: str, place: Path, alone: Path, tmp_path: Path
) -> None:
    done = launched(configuration, "tests.distributed.float64_runs", str(place), str(tmp_path), cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    for strategy in CASES:
        one, two = load_file(alone / f"{strategy}.safetensors"), load_file(tmp_path / f"{strategy}.safetensors")
        assert one.keys() == two.keys()
        for name, weights in one.items():
            assert weights.dtype == torch.float64
            torch.testing.assert_close(two[name], weights, rtol=0, atol=1e-8, msg=f"{strategy}: {name}")
        histories = [json.loads((out / f"{strategy}.json").read_text())["history"] for out in (alone, tmp_path)]
        for (step, expected), (also, found) in zip(*histories, strict=True):
            assert (step, expected.keys()) == (also, found.keys())
            kept = {k: v for k, v in expected.items() if not k.startswith("resources/") or "parameters" in k}
            assert {k: found[k] for k in kept} == pytest.approx(kept, abs=1e-6, nan_ok=True), strategy
    seeds = [json.loads((tmp_path / f"seed{rank}.json").read_text()) for rank in (0, 1)]
    assert seeds[0] == json.loads((alone / "seed0.json").read_text())
    assert seeds[0] != seeds[1]


def run_words(place: Path, uri: str) -> list[str]:
    words = ["run", "lora", "--task", str(place / "task.yaml"), "--model", str(place / "llama"), "--tracking-uri", uri]
    return [*words, "--per-label", "5", "--epochs", "2", "--bootstrap", "0", "--device", "cpu"]


def test_the_command_makes_one_run_of_two_processes(place: Path, tracking_uri: str, tmp_path: Path) -> None:
    done = launched("ddp", "effft", *run_words(place, tracking_uri), "--log-model", "true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("effft · lora") == 1
    (found,) = runs_in(tracking_uri)
    assert found.info.status == "FINISHED"
    assert found.data.params["processes"] == "2, data parallel"
    assert found.outputs.model_outputs


@pytest.mark.parametrize(
    ("first", "said", "status"),
    [("silence", "process 0 of 2 lost another one", "FAILED"), ("signal", "stopped by SIGTERM", "KILLED")],
)
def test_the_death_of_one_process_ends_the_run(
    first: str, said: str, status: str, place: Path, tracking_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIRST", first)
    done = launched("ddp", "tests.distributed.dying_process", *run_words(place, tracking_uri), cwd=tmp_path)
    assert done.returncode != 0
    assert f"effft: {said}" in done.stderr
    assert [run.info.status for run in runs_in(tracking_uri)] == [status]
