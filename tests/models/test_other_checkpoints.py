"""Checkpoints that are nearly what a strategy needs: with a classifier, an adapter, other rows than tokens."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from backbones import SIZE, VOCABULARY, save_backbone
from safetensors.torch import load_file, save_file

from effft.errors import InputError
from effft.models.backbone import load


@pytest.mark.parametrize(
    ("kind", "name"), [("llama", "LlamaForSequenceClassification"), ("bert", "BertForSequenceClassification")]
)
def test_a_classifier_has_no_answer_for_a_verbalizer_and_serves_the_others(
    tmp_path: Path, kind: str, name: str
) -> None:
    folder = save_backbone(tmp_path, kind)
    config = transformers.AutoConfig.from_pretrained(folder, num_labels=3, tie_word_embeddings=False)
    getattr(transformers, name)(config).save_pretrained(folder)
    assert load(str(folder)).width == 32
    with pytest.raises(InputError, match=rf"{name}\) has no pre-trained language-modelling head.*take vanilla"):
        load(str(folder), need_lm_head=True)


@pytest.mark.parametrize("rows", [len(VOCABULARY), SIZE, 200])
def test_more_rows_than_tokens_serve(tmp_path: Path, rows: int) -> None:
    folder = save_backbone(tmp_path, "gpt2")
    _resize(folder, rows)
    assert load(str(folder), need_lm_head=True).model.get_input_embeddings().num_embeddings == rows


def test_an_id_beyond_the_rows_is_named(tmp_path: Path) -> None:
    folder = save_backbone(tmp_path, "gpt2")
    _resize(folder, len(VOCABULARY) - 1)
    with pytest.raises(InputError, match=rf"a token 'not' with the id {len(VOCABULARY) - 1}, the embeddings have only"):
        load(str(folder))


def _resize(folder: Path, rows: int) -> None:
    state = load_file(folder / "model.safetensors")
    for name in [name for name in state if name.endswith("wte.weight")]:
        wide = torch.zeros(rows, 32)
        wide[: min(rows, SIZE)] = state[name][:rows]
        state[name] = wide
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": rows}))


@pytest.mark.parametrize("base", ["facebook/opt-125m", None])
def test_an_adapter_says_what_to_do(tmp_path: Path, base: str | None) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base, "peft_type": "LORA"}))
    (tmp_path / "adapter_model.safetensors").touch()
    with pytest.raises(InputError, match=rf"is an adapter for {base or 'another model'}.*effft export --merge"):
        load(str(tmp_path))
