"""What is known of a model without its weights: whether there is one, its configuration and its tokenizer."""

from pathlib import Path
from typing import Any, NamedTuple

import torch

from effft.errors import InputError, MemoryShortError
from effft.models.device_map import is_device_map
from effft.models.files import base_of, check_revision, find_corruption, model_folder, with_weights
from effft.models.lora import has_tokenizer
from effft.models.out_of_memory import out_of_memory

POSITIONS_AFTER_PAD = (
    "roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "data2vec-text", "esm", "mpnet", "ibert", "longformer",
    "luke", "roberta-prelayernorm", "xmod",
)  # fmt: skip
"""Model types whose position ids start after the id of the padding token."""

ENCODER_DECODERS = ("t5", "mt5", "umt5", "bart", "mbart", "pegasus")
"""Model types of which the encoder reads a prompt, and the decoder the label words (Flan-T5 is a `t5`)."""

LARGEST = {"num_hidden_layers": 1_000, "num_decoder_layers": 1_000, "decoder_layers": 1_000, "hidden_size": 1 << 17}
"""What a configuration may say, ten times that of the largest models: the model is built before weights are read."""


class ModelDescription(NamedTuple):
    """folder: its files. kind: the transformers class that builds the model.

    decoder_start: the ids before an answer in the decoder of an encoder-decoder with its LM head; else ().
    """

    folder: Path
    config: Any
    tokenizer: Any
    decoder: bool
    kind: str
    decoder_start: tuple[int, ...] = ()


def describe(name: str, revision: str, need_lm_head: bool, weights: bool = False) -> ModelDescription:
    """Read configuration and tokenizer; with `weights`, see that these are in the folder too.

    Raises:
        InputError: no such model, no LM head, hub not reachable, unsafe weights, a revision of what is on no hub.
    """
    check_revision(name, revision)
    folder = model_folder(name, revision)
    if base := base_of(name, folder):
        known = _describe(*base, need_lm_head)
        if has_tokenizer(folder):
            known = known._replace(tokenizer=_tokenizer(folder, name, config=known.config))
    else:
        known = _describe(name, folder, need_lm_head)
    return known._replace(folder=with_weights(folder, name)) if weights else known


def _describe(name: str, folder: Path, need_lm_head: bool) -> ModelDescription:
    config = from_pretrained("AutoConfig", folder, name)
    two_sided = bool(getattr(config, "is_encoder_decoder", False))
    if two_sided and config.model_type not in ENCODER_DECODERS:
        raise InputError(
            f"model {name!r} ({config.model_type}) is an encoder-decoder of a type that is not supported; take one of "
            f"{', '.join(ENCODER_DECODERS)}, a decoder or an encoder."
        )
    for key, most in LARGEST.items():
        if isinstance(value := getattr(config, key, 0), int) and value > most:
            raise InputError(f"model {name!r}: its configuration says {key}={value:,}; {most:,} is the most.")
    decoder = not two_sided and _is_decoder(config)
    kind = "AutoModel"
    if need_lm_head:
        kind = "AutoModelForCausalLM" if decoder else "AutoModelForMaskedLM"
        kind = "AutoModelForSeq2SeqLM" if two_sided else kind
    if kind == "AutoModelForMaskedLM" and not _has_masked_lm_head(config):
        raise InputError(
            f"model {name!r} ({', '.join(config.architectures or ['?'])}) has no pre-trained language-modelling head, "
            "so it has no answer for a verbalizer; take vanilla, lora, adaptive, bitfit or probe."
        )
    tokenizer = _tokenizer(folder, name)
    start = _decoder_start(name, config, tokenizer) if kind == "AutoModelForSeq2SeqLM" else ()
    return ModelDescription(folder, config, tokenizer, decoder, kind, start)


def _tokenizer(folder: Path, name: str, **options: Any) -> Any:
    """The tokenizer; transformers makes one of special tokens alone where there are no files of one."""
    tokenizer = from_pretrained("AutoTokenizer", folder, name, **options)
    if len(tokenizer) <= len(tokenizer.all_special_tokens) + 2:  # the mark of a space, and what deberta-v2 doubles
        raise InputError(
            f"model {name!r}: {folder} holds no tokenizer; save it there too (`tokenizer.save_pretrained`), or take "
            "another model."
        )
    return tokenizer


def _decoder_start(name: str, config: Any, tokenizer: Any) -> tuple[int, ...]:
    """What stands before an answer that the decoder was trained to give: the start token, and what begins a text."""
    start = getattr(config, "decoder_start_token_id", None)
    if start is None:
        raise InputError(
            f"model {name!r}: its config.json has no decoder_start_token_id, which the decoder reads before an answer; "
            "add it (T5: that of the padding token), or take vanilla, lora, adaptive, bitfit or probe."
        )
    text, bare = tokenizer("a")["input_ids"], tokenizer("a", add_special_tokens=False)["input_ids"]
    return (start, *text[: text.index(bare[0])])


def _is_decoder(config: Any) -> bool:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as MASKED

    kind = config.model_type
    if kind in MASKED and kind in CAUSAL:  # BERT can be built as a decoder; its weights say what it is (XLM: `causal`)
        named = any("CausalLM" in name or "LMHeadModel" in name for name in config.architectures or [])
        return named and bool(getattr(config, "causal", True))
    if kind not in MASKED and kind not in CAUSAL:
        raise InputError(f"model type {kind!r} is neither a decoder nor an encoder of text known to transformers.")
    return kind in CAUSAL


def _has_masked_lm_head(config: Any) -> bool:
    return any(
        kind in name for name in config.architectures or [] for kind in ("MaskedLM", "PreTraining", "WithLMHead")
    )


def max_positions(config: Any) -> int:
    """Most tokens the model can read, special tokens included."""
    positions = getattr(config, "max_position_embeddings", None)
    if not positions or positions < 0:
        return 1 << 30
    return int(positions) - (int(config.pad_token_id) + 1 if config.model_type in POSITIONS_AFTER_PAD else 0)


def resolve_device(device: str) -> torch.device:
    """'auto' is CUDA where there is one, else the CPU; with a device map, where inputs go.

    Raises:
        InputError: not a device, or not one of this machine.
    """
    if device == "auto" or is_device_map(device):
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        chosen = torch.device("meta")
    if chosen.type not in ("cpu", "cuda"):
        raise InputError(f"device={device}: must be auto, cpu, cuda, cuda:N or map (flag --device).")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device={device}: this machine has {torch.cuda.device_count()} CUDA devices (flag --device).")
    return chosen


def from_pretrained(kind: str, folder: Path, name: str, **options: Any) -> Any:
    """What the transformers class `kind` makes of a folder.

    Args:
        kind: name of the class, such as 'AutoConfig'.
        folder: as `files.model_folder` gives it.
        name: the model as the user gave it, for messages.
        options: passed on.

    Raises:
        InputError: it cannot be loaded.
        MemoryShortError: it does not fit into memory.
    """
    import transformers
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    if kind.startswith("AutoModel"):
        options["use_safetensors"] = True
    try:
        # local_files_only: transformers would also look for conversions that somebody proposed to the hub
        return getattr(transformers, kind).from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, **options
        )
    except Exception as error:  # the libraries below raise a dozen kinds
        model = f"model {name!r}"
        if out_of_memory(error):
            raise MemoryShortError(f"{model}: there is not enough memory to load it.") from error
        if "trust_remote_code" in str(error):
            raise InputError(
                f"{model} needs code from the hub to run, which is never executed here; take another model."
            ) from error
        problem, reason = find_corruption(folder), " ".join(str(error).split())[:160]
        cached = folder.parent.name == "snapshots"
        if problem and cached:
            raise InputError(
                f"{model}: its copy in the cache cannot be used: {problem}; run the command once with a network, or "
                "give a downloaded folder with --model FOLDER."
            ) from error
        if problem:
            raise InputError(f"{model}: {problem}; fetch the folder again.") from error
        what = "no tokenizer can be read from" if kind == "AutoTokenizer" else "transformers cannot load"
        network = " Where a file of it is missing, run the command once with a network." if cached else ""
        raise InputError(f"{model}: {what} {folder} ({type(error).__name__}: {reason}).{network}") from error
