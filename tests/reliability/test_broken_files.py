"""Files that a broken download, a full disk or a kill left behind: found, named, and made again where they can be."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from effft.errors import EffftError
from effft.models.backbone import load
from effft.serving.load import SavedModel
from tests.backbones import save_backbone
from tests.place import Copying, go, make_place


def cut(path: Path, keep: float = 0.5) -> None:
    """Lose the end of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])


def shard_missing(folder: Path) -> None:
    index = {
        "metadata": {},
        "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"},
    }
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def half_downloaded(folder: Path) -> None:
    shard_missing(folder)
    (folder / ".cache/huggingface/download").mkdir(parents=True)
    (folder / ".cache/huggingface/download/x.incomplete").touch()


SAVED = ("adapter/adapter_model.safetensors", "head.safetensors", "effft.json", "base/model.safetensors")

BROKEN: list[tuple[Callable[[Path], object], str]] = [
    (lambda folder: cut(folder / "model.safetensors"), "model.safetensors in it is damaged or cut short"),
    (lambda folder: cut(folder / "model.safetensors", 0), "model.safetensors in it is damaged or cut short"),
    (lambda folder: cut(folder / "model.safetensors", 0.999), "model.safetensors in it is damaged or cut short"),
    (lambda folder: cut(folder / "config.json"), "config.json"),
    (lambda folder: cut(folder / "tokenizer.json"), "no tokenizer can be read"),
    (shard_missing, "model-00002-of-00002.safetensors is missing, which model.safetensors.index.json names"),
    (half_downloaded, "its download is not whole (x.incomplete in"),
]


@pytest.mark.parametrize("place", range(len(BROKEN)))
def test_a_broken_folder_is_named(tmp_path: Path, place: int) -> None:
    breaks, said = BROKEN[place]
    breaks(save_backbone(tmp_path / "m", "gpt2"))
    with pytest.raises(EffftError) as caught:
        load(str(tmp_path / "m"), need_lm_head=True)
    assert str(tmp_path / "m") in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize("missing", ["model.safetensors", "tokenizer.json"])
def test_a_half_downloaded_hub_model_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    model = tmp_path / "models--org--small"
    snapshot = model / "snapshots" / ("0" * 40)
    save_backbone(snapshot, "gpt2")
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("0" * 40)
    (model / "blobs").mkdir()
    (model / "blobs" / "abc.incomplete").touch()
    (snapshot / missing).unlink()
    with pytest.raises(EffftError) as caught:
        load("org/small", need_lm_head=True)
    said = str(caught.value)
    assert "its copy in the cache cannot be used: its download is not whole (abc.incomplete in" in said
    assert "--model FOLDER" in said


@pytest.mark.slow
@pytest.mark.parametrize("name", SAVED)
def test_a_saved_model_that_is_cut_short_is_named(tmp_path: Path, name: str) -> None:
    place = make_place(tmp_path, "llama")
    go(place, Copying(to=tmp_path / "saved"), "lora")
    if not (tmp_path / "saved" / name).exists():
        shutil.rmtree(tmp_path / "saved")
        go(place, Copying(to=tmp_path / "saved"), "vanilla")
    SavedModel.load(tmp_path / "saved")
    cut(tmp_path / "saved" / name)
    with pytest.raises(EffftError) as caught:
        SavedModel.load(tmp_path / "saved")
    assert Path(name).name.split(".")[0].split("_")[0] in str(caught.value)
