"""Small random models in the layouts that lie on the hub: its names of tensors, its files, its tokenizers."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import ByteLevelBPETokenizer
from torch import Tensor

from tests.backbones import WORDS, save_tokenizer

State = dict[str, Tensor]
SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
LETTERS = [chr(code) for code in range(ord("!"), ord("~") + 1)]


@dataclass(frozen=True)
class HubLayout:
    """One model of the hub.

    Args:
        model: Class of the model with its LM head.
        options: Of the configuration.
        rename: The state of `model` as the hub has it, with what else lies there.
        dtype: Of the weights.
        form: 'safetensors', 'bin' or 'legacy' (before torch 1.6).
        tokenizer: 'opt', 'gpt2', 'roberta' (vocab.json and merges.txt), 'bert' (vocab.txt), or a kind of `backbones`.
    """

    model: str
    options: dict[str, Any]
    rename: Callable[[State], State] = lambda state: state
    dtype: torch.dtype = torch.float32
    form: str = "safetensors"
    tokenizer: str = "llama"


def without_prefix(prefix: str, **more: Tensor) -> Callable[[State], State]:
    """The body alone, without the prefix; no LM head."""
    return lambda state: {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)} | more


def with_buffers(pattern: str, **buffers: Tensor) -> Callable[[State], State]:
    """Beside every tensor whose name matches, buffers that older versions saved."""

    def rename(state: State) -> State:
        found = [match[0] for name in state if (match := re.match(pattern, name))]
        return state | {f"{start}.{name}": value.clone() for start in set(found) for name, value in buffers.items()}

    return rename


def without_head(state: State) -> State:
    """Tied weights are saved once."""
    return {name: value for name, value in state.items() if name != "lm_head.weight"}


def gpt2(state: State) -> State:
    body = without_prefix("transformer.")(state)
    return body | {f"h.{layer}.attn.bias": torch.ones(1, 1, 64, 64).tril() for layer in range(3)}


def bert(state: State) -> State:
    old = {re.sub(r"LayerNorm\.weight", "LayerNorm.gamma", k): v for k, v in state.items()}
    old = {re.sub(r"LayerNorm\.bias", "LayerNorm.beta", k): v for k, v in old.items()}
    old |= {"bert.pooler.dense.weight": torch.ones(32, 32), "bert.pooler.dense.bias": torch.ones(32)}
    old |= {"cls.seq_relationship.weight": torch.ones(2, 32), "cls.seq_relationship.bias": torch.ones(2)}
    return {name: value for name, value in old.items() if name != "cls.predictions.decoder.bias"}


POSITIONS = torch.arange(64).unsqueeze(0)
LONG = {**SMALL, "max_position_embeddings": 64}
GROUPED = {**LONG, "num_key_value_heads": 2, "tie_word_embeddings": True}
OPT = {key: value for key, value in LONG.items() if key != "intermediate_size"}
OPT |= {"ffn_dim": 48, "bos_token_id": 2, "eos_token_id": 2, "pad_token_id": 1}
DEBERTA = {
    **LONG, "relative_attention": True, "position_buckets": 16, "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 0,
    "norm_rel_ebd": "layer_norm", "share_att_key": True, "position_biased_input": False,
}  # fmt: skip
BUCKETS = torch.ones(32, 4)
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 3, "num_heads": 4, "decoder_start_token_id": 0}
BART = {
    "d_model": 32, "encoder_layers": 3, "decoder_layers": 3, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 64, "decoder_start_token_id": 2,
}  # fmt: skip
PYTHIA = with_buffers(
    r"gpt_neox\.layers\.\d+\.attention", bias=torch.ones(1, 1, 64, 64).tril() > 0, masked_bias=torch.tensor(-1e9),
    **{"rotary_emb.inv_freq": torch.ones(1)},
)  # fmt: skip
LAYOUTS = {
    "opt-125m": HubLayout("OPTForCausalLM", OPT, dtype=torch.float16, form="bin", tokenizer="opt"),
    "opt-350m": HubLayout(
        "OPTForCausalLM", {**OPT, "word_embed_proj_dim": 16, "do_layer_norm_before": False}, without_prefix("model."),
        torch.float16, "bin", "opt",
    ),
    "gpt2": HubLayout(
        "GPT2LMHeadModel", {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64}, gpt2, tokenizer="gpt2"
    ),
    "bert-base-uncased": HubLayout("BertForMaskedLM", LONG, bert, form="legacy", tokenizer="bert"),
    "roberta-base": HubLayout(
        "RobertaForMaskedLM",
        {**LONG, "max_position_embeddings": 66, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2},
        lambda state: state | {"roberta.embeddings.position_ids": POSITIONS}, form="bin", tokenizer="roberta",
    ),
    "deberta-v3-base": HubLayout(
        "DebertaV2ForMaskedLM", DEBERTA,
        lambda state: state | {"deberta.embeddings.position_ids": POSITIONS, "mask_predictions.x": torch.ones(2)},
        torch.float16, "bin", "bert-fast",
    ),
    "ModernBERT-base": HubLayout(
        "ModernBertForMaskedLM", {**LONG, "pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2},
        tokenizer="modernbert",
    ),
    "pythia-70m": HubLayout(
        "GPTNeoXForCausalLM", {**LONG, "tie_word_embeddings": False}, PYTHIA, torch.float16, "bin", "bytes"
    ),
    "Qwen2.5-0.5B": HubLayout("Qwen2ForCausalLM", GROUPED, without_head, torch.bfloat16, tokenizer="bytes"),
    "Qwen3-0.6B": HubLayout(
        "Qwen3ForCausalLM", {**GROUPED, "head_dim": 8}, dtype=torch.bfloat16, tokenizer="bytes"
    ),
    "gemma-2-2b": HubLayout(
        "Gemma2ForCausalLM", {**GROUPED, "head_dim": 8, "pad_token_id": 0}, without_head, torch.bfloat16
    ),
    "t5-small": HubLayout(
        "T5ForConditionalGeneration", T5,
        with_buffers(r"decoder\.block\.0\.layer\.1\.EncDecAttention", **{"relative_attention_bias.weight": BUCKETS}),
        form="bin", tokenizer="t5",
    ),
    "bart-base": HubLayout(
        "BartForConditionalGeneration", BART, without_prefix("model."), tokenizer="roberta"
    ),
    "SmolLM2-135M": HubLayout("LlamaForCausalLM", GROUPED, dtype=torch.bfloat16),
}  # fmt: skip


def save_layout(folder: Path, name: str) -> torch.nn.Module:
    """Write the layout into a folder; returns the model that it holds, rounded as its weights are."""
    layout = LAYOUTS[name]
    folder.mkdir(parents=True)
    rows = _save_tokenizer(folder, layout.tokenizer)
    config = getattr(transformers, layout.model).config_class(**{"vocab_size": rows + 7, **layout.options})  # padded
    config.architectures = [layout.model]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = getattr(transformers, layout.model)(config)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
            parameter.data = parameter.to(layout.dtype).float()
    config.save_pretrained(folder)
    state = layout.rename({key: value.to(layout.dtype) for key, value in model.state_dict().items()})
    if layout.form == "safetensors":
        save_file({key: value.clone() for key, value in state.items()}, folder / "model.safetensors", {"format": "pt"})
    else:
        torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=layout.form == "bin")
    assert isinstance(model, torch.nn.Module)
    return model.eval()


def _save_tokenizer(folder: Path, kind: str) -> int:
    """Write it; returns the number of its tokens."""
    if kind in ("opt", "gpt2", "roberta", "bytes"):
        firsts = {"opt": ["<s>", "<pad>", "</s>", "<unk>"], "roberta": ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]}
        trained = ByteLevelBPETokenizer()
        trained.train_from_iterator([" ".join(WORDS)] * 3, 330, 2, False, firsts.get(kind, ["<|endoftext|>"]))
        if kind == "bytes":
            trained.save(str(folder / "tokenizer.json"))
            (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|endoftext|>"}))
            return trained.get_vocab_size()
        trained.save_model(str(folder))
        settings: dict[str, Any] = {"model_max_length": 64}
        if kind == "opt":
            settings |= {"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True, "add_prefix_space": False}
            settings |= {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "<pad>"}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        return len(json.loads((folder / "vocab.json").read_text()))
    if kind == "bert":
        pieces = [*LETTERS, *(f"##{letter}" for letter in LETTERS), *map(str.lower, WORDS)]
        vocabulary = list(dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces]))
        (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
        (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))
        return len(vocabulary)
    save_tokenizer(folder, kind.removesuffix("-fast"))
    return len(json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"])
