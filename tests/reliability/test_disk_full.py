"""A disk that is full while a run logs, saves its model, or keeps something for later."""

import re
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from effft.search.storage import open_storage
from effft.strategies.strategy import compose
from effft.training.feature_cache import FeatureCache
from tests.backbones import save_backbone
from tests.helpers import EXAMPLES, learner_on
from tests.place import make_place
from tests.reliability.disks import fill, small_disk
from tests.reliability.lives import life, wait
from tests.runs import runs_in

KB = 1024


def words_of(place: Path, uri: str, *more: str) -> list[str]:
    words = ["run", "lora", "--task", str(place / "task.yaml"), "--model", str(place / "gpt2"), "--per-label", "8"]
    return [*words, "--epochs", "2", "--bootstrap", "20", "--threads", "1", "--tracking-uri", uri, *more]


def everything(uri: str) -> dict[str, tuple[Any, ...]]:
    """Run id -> status, numbers and files of every run; the store must be whole."""
    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as connection:
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
    return {
        run.info.run_id: (
            run.info.status,
            run.data.metrics,
            {p.name: p.stat().st_size for p in Path(run.info.artifact_uri.removeprefix("file://")).rglob("*")},
            bool(run.outputs and run.outputs.model_outputs),
        )
        for run in runs_in(uri)
    }


def life_on(words: list[str], log: Path) -> tuple[int, str]:
    """Exit code, and the one sentence that the command ended with where it failed."""
    log.unlink(missing_ok=True)
    code, text = wait(life(words, log)), log.read_text()
    assert "Traceback" not in text
    assert text, code
    last = text.strip().splitlines()[-1]
    assert not code or last.startswith("effft: ")
    return code, last if code else ""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_logging_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, log = make_place(tmp_path, "gpt2"), tmp_path / "log"
    with small_disk(tmp_path / "disk", "32m") as disk, monkeypatch.context() as patch:
        patch.chdir(disk)
        uri = f"sqlite:///{disk}/mlflow.db"
        words = words_of(place, uri, "--log-model", "true")
        assert life_on(words, log) == (0, "")
        (first, known), *_ = everything(uri).items()
        codes = []
        for leave in (0, 60, 250, 1000):
            filler = fill(disk, leave * KB)
            code, _ = life_on(words, log)
            (kept,) = set(re.findall(r"\S*effft-recovery-\S+\.jsonl", log.read_text()))
            filler.unlink()
            codes.append(code)
            assert life_on(["resend", kept, "--tracking-uri", uri], log) == (0, "")
            assert everything(uri)[first] == known
        assert codes == [0, 0, 0, 0]
        assert life_on(words, log) == (0, "")
        assert "RUNNING" not in {status for status, *_ in everything(uri).values()}
        patch.undo()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_study_on_a_full_disk_goes_on_later(tracking_uri: str, tmp_path: Path) -> None:
    place, log = make_place(tmp_path, "gpt2"), tmp_path / "log"
    with small_disk(tmp_path / "disk", "1m") as disk:
        words = ["search", "lora", *words_of(place, tracking_uri)[2:], "--storage", f"sqlite:///{disk}/optuna.db"]
        words = [word for word in words if word != "lora"] + ["--sampler", "random", "--pruner", "none", "--seeds", "1"]
        words += ["--reseeds", "1", "--folds", "2", "--study", "s"]
        open_storage(f"sqlite:///{disk}/optuna.db").engine.dispose()
        filler = fill(disk, 24 * KB)
        code, sentence = life_on([*words, "--trials", "4"], log)
        print(sentence)
        assert code == 1
        assert "disk is full" in sentence
        filler.unlink()
        assert life_on([*words, "--trials", "4"], log) == (0, "")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_saving_a_model_on_a_full_disk(tracking_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, log = make_place(tmp_path, "gpt2"), tmp_path / "log"
    words = words_of(place, tracking_uri, "--log-model", "true")
    with small_disk(tmp_path / "disk", "1m") as disk, monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(disk))  # where a model is put together
        for leave in (16, 64):
            fill(disk, leave * KB)
            code, sentence = life_on(words, log)
            print(leave, code, sentence)
            assert code == 1
            assert "No space left" in sentence
    found = everything(tracking_uri).values()
    assert {status for status, *_ in found} == {"FAILED"}
    assert all("in_domain/mcc" in metrics for _, metrics, *_ in found)
    assert not any(model for *_, model in found)


def test_states_that_cannot_be_kept_cost_only_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = learner_on(save_backbone(tmp_path / "llama", "llama"), compose("adaptive"))
    items = learner.items(EXAMPLES)
    kept = FeatureCache(memory=0)
    with small_disk(tmp_path / "disk", "16k") as disk, monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(disk))
        fill(disk, 0)
        one, two = (kept.frozen_features(learner, items) for _ in range(2))
        assert kept.computed == 2
        fill(disk, 12 * KB)
        three = kept.frozen_features(learner, items)
        (path,) = disk.glob("effft-states-*/*.safetensors")
        path.write_bytes(path.read_bytes()[:100])  # half of it is lost
        four = kept.frozen_features(learner, items)
        assert kept.computed == 4
    for other in (two, three, four):
        assert all(torch.equal(a.state, b.state) for a, b in zip(one, other, strict=True))
