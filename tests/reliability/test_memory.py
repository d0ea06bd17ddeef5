"""Memory that is short, by a limit on the address space: smaller parts, the same update; at last, a sentence."""

import ctypes
import resource
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from effft.models.out_of_memory import run_in_parts
from effft.strategies.scoring import predict
from effft.strategies.strategy import compose
from tests import backbones
from tests.backbones import save_backbone
from tests.helpers import EXAMPLES, learner_on
from tests.place import make_place
from tests.reliability.lives import life, wait
from tests.runs import runs_in

ONE_ARENA = -8, 1
"""M_ARENA_MAX: glibc sets 64 MB of addresses aside for every thread, which would count as used."""

WIDE = {
    "hidden_size": 192, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 4,
    "vocab_size": backbones.SIZE, "intermediate_size": 768, "tie_word_embeddings": True,
}  # fmt: skip


def test_parts_are_halved_until_they_fit() -> None:
    def work(items: "list[int]") -> int:
        if len(items) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return sum(items)

    assert run_in_parts(work, [1, 2, 3, 4, 5]) == [3, 3, 9]
    with pytest.raises(ZeroDivisionError):
        run_in_parts(lambda items: 1 // 0, [1, 2])


@pytest.mark.parametrize("spec", ["icl", "adaptive"])
def test_a_pass_that_broke_off_leaves_no_trace(tmp_path: Path, spec: str) -> None:
    strategy = compose(spec).with_parameters({"shots": 4}) if spec == "icl" else compose(spec)
    learner = learner_on(save_backbone(tmp_path / "m", "llama"), strategy, demos=EXAMPLES[:4] if spec == "icl" else ())
    learner.backbone.model.eval()
    items = learner.items(EXAMPLES[2:])
    whole, last = predict(learner, items, frozen_features=learner.frozen_features), learner.backbone.layout.blocks[-1]
    calls = []

    def fails_once(_module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        calls.append(inputs[0].shape)
        if len(calls) == (2 if spec == "icl" else 1):  # the first of icl reads the shared start
            raise torch.OutOfMemoryError("CUDA out of memory")

    last.register_forward_pre_hook(fails_once)
    torch.testing.assert_close(predict(learner, items, frozen_features=learner.frozen_features), whole)
    assert len(calls) == (4 if spec == "icl" else 3)


def limited(megabytes: int) -> None:
    """This process may have so much more address space than it has."""
    import scipy.interpolate  # noqa: F401 - mapped by the metrics, which come after training
    import sklearn.metrics  # noqa: F401

    ctypes.CDLL(None).mallopt(*ONE_ARENA)
    if megabytes:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + (megabytes << 20)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux only")
def test_a_run_in_little_memory(tracking_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import peft  # noqa: F401 - loaded before the forks

    import effft.cli.run
    import effft.tracking.mlflow_tracker  # noqa: F401

    monkeypatch.setitem(backbones.CONFIGS, "wide", ("LlamaConfig", "LlamaForCausalLM", WIDE))
    place = make_place(tmp_path)
    save_backbone(place / "wide", "wide", positions=4096)
    long = " ".join(["the cat sees old dogs"] * 300)
    ends_in = (("dog", "with_dog"), ("cat", "without"))
    rows = [f"{'cats ' * n}{long} {word},{label},long" for n in range(12) for word, label in ends_in]
    (place / "train.csv").write_text("\n".join(["text,label,length", *rows]) + "\n")
    words = ["run", "lora", "--task", str(place / "task.yaml"), "--model", str(place / "wide"), "--per-label", "4"]
    words += ["--epochs", "2", "--batch-size", "8", "--bootstrap", "0", "--threads", "1", "--evaluation-limit", "10"]
    words += ["--tracking-uri", tracking_uri, "--lora-dropout", "0", "--max-length"]
    ends: dict[int, str] = {}
    for megabytes in (0, 60, 25):
        log = tmp_path / f"log {megabytes}"
        code = wait(life([*words, "128"], log, lambda megabytes=megabytes: limited(megabytes)))  # type: ignore[misc]
        ends[megabytes] = f"{code} {log.read_text().strip().splitlines()[-1]}"
        assert code == 0, ends
    log = tmp_path / "log"
    assert wait(life([*words, "1400"], log, lambda: limited(40))) == 1, log.read_text()
    said = log.read_text().strip().splitlines()[-1]
    print(said)
    assert said.startswith("effft: memory is short even for one example of 1400 tokens at a time; lower --max-length")
    assert "The estimate for this run is" in said
    failed, *runs = runs_in(tracking_uri)
    assert failed.info.status == "FAILED"
    client = MlflowClient(tracking_uri)
    histories = [client.get_metric_history(run.info.run_id, "train/loss") for run in runs]
    losses = [[metric.value for metric in sorted(history, key=lambda m: m.step)] for history in histories]
    peaks = [run.data.metrics["resources/peak_memory_mb"] for run in runs]
    print(losses, peaks)
    assert losses[0] == pytest.approx(losses[2], rel=1e-5)
    assert losses[1] == pytest.approx(losses[2], rel=1e-5)
    assert peaks[0] < peaks[2]
