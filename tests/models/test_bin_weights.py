"""`.bin` weights: nothing is executed, and the model is that of the same weights in safetensors."""

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from backbones import save_backbone
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from effft.errors import InputError
from effft.models.backbone import load


def save_bin(
    folder: Path, kind: str = "opt", dtype: torch.dtype = torch.float16, shards: int = 0, legacy: bool = False
) -> Path:
    """A backbone as `save_pretrained(safe_serialization=False)` wrote it: tied tensors share their storage."""
    save_backbone(folder, kind)
    model = getattr(transformers, json.loads((folder / "config.json").read_text())["architectures"][0])
    state = dict(model.from_pretrained(folder, dtype=dtype).state_dict())
    (folder / "model.safetensors").unlink()
    if not shards:
        torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)
        return folder
    places = {}
    for number in range(shards):
        name = f"pytorch_model-{number + 1:05}-of-{shards:05}.bin"
        part = {key: state[key] for key in list(state)[number::shards]}
        torch.save(part, folder / name)
        places |= dict.fromkeys(part, name)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder


@pytest.mark.parametrize("kind", ["opt", "gpt2", "bert"])
@pytest.mark.parametrize("form", ["single", "shards", "legacy"])
def test_the_weights_are_those_of_safetensors(tmp_path: Path, kind: str, form: str) -> None:
    expected = load(str(save_backbone(tmp_path / "safe", kind)), need_lm_head=True).model
    folder = save_bin(tmp_path / "bin", kind, torch.float32, 3 if form == "shards" else 0, form == "legacy")
    model = load(str(folder), need_lm_head=True).model
    torch.testing.assert_close(dict(model.state_dict()), dict(expected.state_dict()), rtol=0, atol=0)
    ends = model.get_input_embeddings(), model.get_output_embeddings()
    assert (ends[0].weight is ends[1].weight) == model.config.tie_word_embeddings


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"model": {"a": torch.zeros(2)}}, "its weights lack"),
        ([torch.zeros(2)], ".bin weights cannot be read"),
        ({}, "its weights lack"),
        ({"a": Path("x")}, "needs more than tensors (Unsupported global: GLOBAL pathlib"),
        (b"no pickle", "needs more than tensors"),
        (b"", ".bin weights cannot be read"),
    ],
)
def test_files_that_are_not_weights(tmp_path: Path, content: object, said: str) -> None:
    folder = save_bin(tmp_path / "model")
    path = folder / "pytorch_model.bin"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(InputError) as caught:
        load(str(folder))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [0.999, 0.5, 0.01])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_that_is_cut_short(tmp_path: Path, keep: float, legacy: bool) -> None:
    path = save_bin(tmp_path / "model", legacy=legacy) / "pytorch_model.bin"
    os.truncate(path, int(path.stat().st_size * keep))
    with pytest.raises(InputError, match=r"its .bin weights cannot be read|needs more than tensors"):
        load(str(path.parent))


def test_shards_stay_in_their_folder(tmp_path: Path) -> None:
    folder = save_bin(tmp_path / "model", shards=2)
    shutil.move(folder / "pytorch_model-00001-of-00002.bin", tmp_path / "other.bin")
    with pytest.raises(InputError, match=r"pytorch_model-00001-of-00002.bin is missing, which pytorch_model.bin.index"):
        load(str(folder))
    index = folder / "pytorch_model.bin.index.json"
    index.write_text(index.read_text().replace("pytorch_model-00001-of-00002.bin", "../other.bin"))
    with pytest.raises(InputError, match=r"names '\.\./other.bin', which lies outside of the folder"):
        load(str(folder))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("saved", ["bin", "safetensors"])
def test_weights_that_are_no_numbers_are_refused_when_loaded(tmp_path: Path, value: float, saved: str) -> None:
    folder = save_bin(tmp_path / "model") if saved == "bin" else save_backbone(tmp_path / "model", "opt")
    path = next(folder.glob("pytorch_model.bin" if saved == "bin" else "model.safetensors"))
    state = torch.load(path, weights_only=True) if saved == "bin" else load_file(path)
    name = next(name for name in state if "layers.1.fc1.weight" in name)
    state[name][3, 5] = value
    torch.save(state, path) if saved == "bin" else save_file(state, path, {"format": "pt"})
    with pytest.raises(InputError, match=r"layers.1.fc1.weight hold NaN or infinite values; take another model"):
        load(str(folder))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bin(tmp_path_factory.mktemp("any") / "model")


@settings(max_examples=50)
@given(tail=st.binary(max_size=60))
def test_no_bytes_end_in_anything_but_a_sentence(folder: Path, tail: bytes) -> None:
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"a": 1}, 2)[:-1] + tail)
    with pytest.raises(InputError):
        load(str(folder))
