"""Checkpoints that are nearly what a strategy needs: with a classifier, an adapter, other rows than tokens."""

import json
from pathlib import Path

import peft
import pytest
import torch
import transformers
from backbones import SIZE, VOCABULARY, save_adapter_of_peft, save_backbone
from safetensors.torch import load_file, save_file

from effft.errors import InputError
from effft.models.backbone import load
from effft.models.files import weights_digest

pytestmark = pytest.mark.usefixtures("cache")


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


KINDS = [
    ("llama", "AutoModelForCausalLM", "CAUSAL_LM"),
    ("gpt2", "AutoModelForCausalLM", "CAUSAL_LM"),
    ("bert", "AutoModel", None),
    ("bert", "AutoModelForSequenceClassification", "SEQ_CLS"),
]


@pytest.mark.parametrize(("kind", "cls", "task_type"), KINDS)
def test_kind_8_an_adapter_is_its_base_with_the_adapter_merged(
    tmp_path: Path, kind: str, cls: str, task_type: str | None
) -> None:
    base = save_backbone(tmp_path / "base", kind)
    adapter = save_adapter_of_peft(tmp_path / "adapter", base, cls, task_type)
    ours = load(str(adapter), need_lm_head=cls == "AutoModelForCausalLM")
    theirs = peft.PeftModel.from_pretrained(getattr(transformers, cls).from_pretrained(base), str(adapter)).eval()
    ids = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with torch.no_grad():
        wanted = theirs(**inputs, output_hidden_states=True)
        plain = load(str(base)).hidden(inputs)
        torch.testing.assert_close(ours.hidden(inputs), wanted.hidden_states[-1], atol=1e-4, rtol=1e-4)
        assert (plain - wanted.hidden_states[-1]).abs().max() > 0.1
        if ours.lm_head:
            torch.testing.assert_close(ours.model(**inputs).logits, wanted.logits, atol=1e-4, rtol=1e-4)


def test_kind_8_the_identity_of_an_adapter_is_its_content_and_its_bases(tmp_path: Path) -> None:
    bases = [save_backbone(tmp_path / name, "llama", seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))]
    adapter = save_adapter_of_peft(tmp_path / "adapter", bases[0])
    digest, path = weights_digest(str(adapter)), adapter / "adapter_config.json"
    assert digest != weights_digest(str(bases[0]))
    settings = json.loads(path.read_text())
    for change, same in (
        ({"base_model_name_or_path": str(bases[1])}, True),
        ({"base_model_name_or_path": str(bases[2])}, False),
        ({"lora_alpha": 5}, False),
    ):
        path.write_text(json.dumps(settings | change))
        assert (weights_digest(str(adapter)) == digest) == same, change


def test_kind_8_an_adapter_without_its_base_says_which_file_to_change(tmp_path: Path) -> None:
    adapter = save_adapter_of_peft(tmp_path / "adapter", save_backbone(tmp_path / "base", "llama"))
    path, base = adapter / "adapter_config.json", tmp_path / "elsewhere"
    settings = json.loads(path.read_text())
    for name, said in (
        ("facebook/opt-125m", "and it is not in the cache; as the base of the adapter"),
        (str(tmp_path / "base"), "as the base of the adapter"),
        (str(adapter), "which is an adapter too"),
        (None, "its settings do not name its base"),
    ):
        path.write_text(json.dumps(settings | {"base_model_name_or_path": name}))
        if name == str(tmp_path / "base"):
            (tmp_path / "base").rename(base)
        with pytest.raises(InputError, match=said) as raised:
            load(str(adapter))
        assert str(adapter) in str(raised.value)
    path.write_text(json.dumps(settings | {"base_model_name_or_path": str(base)}))  # the remedy works
    assert load(str(adapter)).width == 32
    other = save_backbone(tmp_path / "gpt2", "gpt2")
    path.write_text(json.dumps(settings | {"base_model_name_or_path": str(other)}))
    with pytest.raises(InputError, match=r"cannot be added to its base .*names the base that it was trained on"):
        load(str(adapter))
    path.write_text(json.dumps(settings | {"base_model_name_or_path": str(base)}))
    weights = adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"adapter_model\.safetensors cannot be read .*; fetch it again"):
        load(str(adapter))
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(InputError, match=r"must be adapter_model\.safetensors"):
        load(str(adapter))
