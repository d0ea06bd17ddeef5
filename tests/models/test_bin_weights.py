"""`.bin` weights: nothing is executed, converted once, verified, and the same model as transformers reads."""

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
from effft.models.backbone import Backbone, load


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


def values(backbone: Backbone) -> dict[str, torch.Tensor]:
    return dict(backbone.model.state_dict())


@pytest.mark.parametrize("kind", ["opt", "gpt2", "bert"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("form", ["single", "shards", "legacy"])
def test_the_model_is_what_transformers_reads(
    tmp_path: Path, cache: Path, kind: str, dtype: torch.dtype, form: str
) -> None:
    folder = save_bin(tmp_path / "model", kind, dtype, 3 if form == "shards" else 0, form == "legacy")
    ours = load(str(folder), need_lm_head=True)
    theirs = type(ours.model).from_pretrained(folder, use_safetensors=False, dtype=torch.float32)
    expected = theirs.state_dict()
    assert values(ours).keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in values(ours).items())
    ends = ours.model.get_input_embeddings(), ours.model.get_output_embeddings()
    assert (ends[0].weight is ends[1].weight) == theirs.config.tie_word_embeddings
    (made,) = (path for path in cache.iterdir() if path.is_dir())
    kept = {name: value for file in made.glob("*.safetensors") for name, value in load_file(file).items()}
    assert {name for file in folder.glob("*.bin") for name in torch.load(file, weights_only=True)} == kept.keys()
    assert {value.dtype for value in kept.values() if value.is_floating_point()} == {dtype}


def test_every_file_of_a_tokenizer_goes_along(tmp_path: Path, cache: Path) -> None:
    """The codes of BERTweet's and PhoBERT's tokenizers too, without which what was made cannot be loaded again."""
    folder = save_bin(tmp_path / "model", "bert")
    names = ("bpe.codes", "vocab.bpe", "source.spm", "chat_template.jinja")
    for name in names:
        (folder / name).write_text("t h\n")
    made = load(str(folder)).folder
    assert made is not None
    assert [name for name in names if not (made / name).is_file()] == []


def test_converted_once_and_again_when_the_file_is_another(tmp_path: Path, cache: Path) -> None:
    folder = save_bin(tmp_path / "model")
    first = load(str(folder))
    (made,) = cache.glob("*/model.safetensors")
    stamp = made.stat().st_mtime_ns
    shutil.copytree(folder, tmp_path / "copy")
    load(str(tmp_path / "copy"))
    assert [path.stat().st_mtime_ns for path in cache.glob("*/model.safetensors")] == [stamp]
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    torch.save({name: value * 2 for name, value in state.items()}, folder / "pytorch_model.bin")
    assert not torch.equal(load(str(folder)).model.get_input_embeddings().weight, _embeddings(first))
    assert torch.equal(_embeddings(load(str(tmp_path / "copy"))), _embeddings(first))


def _embeddings(backbone: Backbone) -> torch.Tensor:
    weight = backbone.model.get_input_embeddings().weight
    assert isinstance(weight, torch.Tensor)
    return weight


def test_nothing_half_written_is_believed(tmp_path: Path, cache: Path) -> None:
    folder = save_bin(tmp_path / "model")
    first = values(load(str(folder)))
    (made,) = cache.glob("*/model.safetensors")
    left = made.parent.with_name(f".{made.parent.name}-left")
    left.mkdir()  # of a process that was killed
    os.truncate(made, 5000)
    assert all(torch.equal(value, first[name]) for name, value in values(load(str(folder))).items())
    assert not left.exists()
    assert [path.name for path in cache.iterdir() if path.is_dir()] == [made.parent.name]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"model": {"a": torch.zeros(2)}}, "holds no table of named tensors"),
        ([torch.zeros(2)], "holds no table of named tensors"),
        ({}, "holds no table of named tensors"),
        ({"a": torch.zeros(2, 2).to_sparse()}, "holds no table of named tensors"),
        ({"a": Path("x")}, "needs more than tensors (Unsupported global: GLOBAL pathlib"),
        (b"no pickle", "pytorch_model.bin"),
        (b"", "damaged or cut short"),
    ],
)
def test_files_that_are_not_weights(tmp_path: Path, cache: Path, content: object, said: str) -> None:
    folder = save_bin(tmp_path / "model")
    path = folder / "pytorch_model.bin"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(InputError) as caught:
        load(str(folder))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(cache.glob("*/*"))


@pytest.mark.parametrize("keep", [0.999, 0.5, 0.01])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_that_is_cut_short(tmp_path: Path, cache: Path, keep: float, legacy: bool) -> None:
    path = save_bin(tmp_path / "model", legacy=legacy) / "pytorch_model.bin"
    os.truncate(path, int(path.stat().st_size * keep))
    with pytest.raises(InputError, match=r"damaged or cut short|needs more than tensors"):
        load(str(path.parent))


def test_shards_stay_in_their_folder(tmp_path: Path, cache: Path) -> None:
    folder = save_bin(tmp_path / "model", shards=2)
    shutil.move(folder / "pytorch_model-00001-of-00002.bin", tmp_path / "other.bin")
    with pytest.raises(InputError, match=r"pytorch_model-00001-of-00002.bin is missing, which pytorch_model.bin.index"):
        load(str(folder))
    index = folder / "pytorch_model.bin.index.json"
    index.write_text(index.read_text().replace("pytorch_model-00001-of-00002.bin", "../other.bin"))
    with pytest.raises(InputError, match=r"names '\.\./other.bin', which lies outside of the folder"):
        load(str(folder))


def test_a_place_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(Exception, match=r"could not be written as safetensors .* set XDG_CACHE_HOME"):
        load(str(save_bin(tmp_path / "model")))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("saved", ["bin", "safetensors"])
def test_weights_that_are_no_numbers_are_refused_when_loaded(
    tmp_path: Path, cache: Path, value: float, saved: str
) -> None:
    folder = save_bin(tmp_path / "model") if saved == "bin" else save_backbone(tmp_path / "model", "opt")
    path = next(folder.glob("pytorch_model.bin" if saved == "bin" else "model.safetensors"))
    state = torch.load(path, weights_only=True) if saved == "bin" else load_file(path)
    name = next(name for name in state if "layers.1.fc1.weight" in name)
    state[name][3, 5] = value
    torch.save(state, path) if saved == "bin" else save_file(state, path, {"format": "pt"})
    with pytest.raises(InputError, match=r"layers.1.fc1.weight hold NaN or infinite values; take another model"):
        load(str(folder))


@settings(max_examples=50)
@given(st.binary(max_size=60))
def test_no_bytes_end_in_anything_but_a_sentence(tmp_path_factory: pytest.TempPathFactory, tail: bytes) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "config.json").write_text('{"model_type": "opt"}')
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"a": 1}, 2)[:-1] + tail)
    with pytest.raises(InputError):
        load(str(folder))
