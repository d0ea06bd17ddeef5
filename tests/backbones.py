"""Tiny random backbones of every supported architecture, saved in the hub's layout, for the tests."""

import warnings
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

WORDS = (
    "the cat dog cats dogs sees see runs run old new is are a no yes good bad true false Yes No ? . , : Question or not"
).split()
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "<mask>"]
VOCABULARY = SPECIAL + WORDS
SIZE = 64
COMMON = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": SIZE}

CONFIGS: dict[str, tuple[str, str, dict[str, object]]] = {
    "opt": ("OPTConfig", "OPTForCausalLM", {**COMMON, "ffn_dim": 48, "word_embed_proj_dim": 24, "dropout": 0.1}),
    "gpt2": ("GPT2Config", "GPT2LMHeadModel", {"n_embd": 32, "n_layer": 3, "n_head": 4, "vocab_size": SIZE}),
    "llama": (
        "LlamaConfig",
        "LlamaForCausalLM",
        {**COMMON, "num_key_value_heads": 2, "intermediate_size": 48, "tie_word_embeddings": True},
    ),
    "gpt_neox": ("GPTNeoXConfig", "GPTNeoXForCausalLM", {**COMMON, "intermediate_size": 48}),
    "qwen3": (
        "Qwen3Config",
        "Qwen3ForCausalLM",
        {**COMMON, "num_key_value_heads": 2, "intermediate_size": 48, "head_dim": 8},
    ),
    "bert": ("BertConfig", "BertForMaskedLM", {**COMMON, "intermediate_size": 48}),
    "roberta": ("RobertaConfig", "RobertaForMaskedLM", {**COMMON, "intermediate_size": 48, "pad_token_id": 0}),
    "modernbert": ("ModernBertConfig", "ModernBertForMaskedLM", {**COMMON, "intermediate_size": 48}),
    "t5": (
        "T5Config",
        "T5ForConditionalGeneration",
        {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 3, "num_heads": 4, "vocab_size": SIZE, "dropout_rate": 0.0,
         "decoder_start_token_id": 0, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    ),
    "bart": (
        "BartConfig",
        "BartForConditionalGeneration",
        {"d_model": 32, "encoder_layers": 3, "decoder_layers": 3, "encoder_attention_heads": 4, "vocab_size": SIZE,
         "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "decoder_start_token_id": 2,
         "dropout": 0.0},
    ),
}  # fmt: skip
DECODERS = ("opt", "gpt2", "llama", "gpt_neox", "qwen3")
ENCODERS = ("bert", "roberta", "modernbert")
ENCODER_DECODERS = ("t5", "bart")
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def save_tokenizer(folder: Path, kind: str) -> None:
    """A word-level tokenizer; decoders put <s> first, encoders and bart <s> ... </s>, t5 </s> last.

    gpt2 has neither BOS nor pad; t5 has a sentinel.
    """
    words = [*VOCABULARY, "<extra_id_0>"] if kind == "t5" else VOCABULARY
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"unk_token": "<unk>", "eos_token": "</s>"}
    if kind != "gpt2":
        start, end = "" if kind == "t5" else "<s> ", " </s>" if kind in (*ENCODERS, *ENCODER_DECODERS) else ""
        single, pair = f"{start}$A{end}", f"{start}$A{end} $B{end}"
        core.post_processor = processors.TemplateProcessing(
            single=single, pair=pair, special_tokens=[("<s>", 1), ("</s>", 2)]
        )
        special |= {"bos_token": "<s>", "pad_token": "<pad>"}
    names = ["input_ids", "attention_mask"]
    if kind in (*ENCODERS, "bart"):
        special |= {"mask_token": "<mask>", "cls_token": "<s>", "sep_token": "</s>"}
    if kind == "bert":
        names.append("token_type_ids")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, model_input_names=names, **special)
    tokenizer.save_pretrained(folder)


def save_backbone(
    folder: Path, kind: str, seed: int = 0, positions: int = 128, std: float = 0.2, width: int | None = None
) -> Path:
    """Save a tiny random model of architecture `kind` with its tokenizer; returns the folder.

    width: hidden size, where it is not that of CONFIGS; from 256 on prompts are packed.
    """
    config_name, model_name, options = CONFIGS[kind]
    limit = {"n_positions": positions} if kind == "gpt2" else {"max_position_embeddings": positions}
    if width:
        limit[{"gpt2": "n_embd", "t5": "d_model", "bart": "d_model"}.get(kind, "hidden_size")] = width
        limit |= {"word_embed_proj_dim": width} if kind == "opt" and width != 32 else {}
    ids = IDS if kind != "modernbert" else IDS | {"cls_token_id": 1, "sep_token_id": 2}
    config = getattr(transformers, config_name)(**{**ids, **options, **limit})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = getattr(transformers, model_name)(config)
        if kind == "t5":  # as in Flan-T5, whose head transformers ties only where no weights of its own are there
            model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
        for parameter in model.parameters():  # wider than the usual initialisation, so that inputs tell apart
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=std)
    model.save_pretrained(folder)
    save_tokenizer(folder, kind)
    return folder


def save_small(folder: Path, kind: str, model: str, **options: object) -> Path:
    """A random model of a class of transformers, with the tokenizer of an encoder."""
    config = transformers.AutoConfig.for_model(kind, **{**COMMON, **IDS, "intermediate_size": 48, **options})
    getattr(transformers, model)(config).save_pretrained(folder)
    save_tokenizer(folder, "roberta")
    return folder


def save_adapter_of_peft(
    folder: Path, base: Path, cls: str = "AutoModelForCausalLM", task_type: str | None = "CAUSAL_LM"
) -> Path:
    """Save a LoRA adapter for a model of `save_backbone` as peft does, with deltas that are not zero."""
    import peft

    model = getattr(transformers, cls).from_pretrained(base)
    config = peft.LoraConfig(r=4, lora_alpha=32, target_modules="all-linear", task_type=task_type)
    with torch.random.fork_rng(), warnings.catch_warnings(action="ignore"):  # of Conv1D
        torch.manual_seed(0)
        adapted = peft.get_peft_model(model, config)
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.1)
    adapted.save_pretrained(str(folder))
    return folder
