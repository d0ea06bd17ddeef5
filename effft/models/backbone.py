"""Loading a pre-trained model and its tokenizer, decoder or encoder, from the hub, a folder, or built in."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from effft.errors import InputError, nearest
from effft.models.device_map import device_map_options, is_device_map, placing
from effft.models.forward import attention
from effft.models.forward.last_block import last_block_at
from effft.models.forward.sequence_packing import PackedSequences, use_packing
from effft.models.heads import words_alone
from effft.models.layout import ModelLayout, find_layout
from effft.models.pretrained import BUILT_IN, from_pretrained
from effft.models.quantization import mark, quantized_options

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Backbone:
    """A pre-trained model without our head.

    model: the whole transformers model (with its LM head where `lm_head`). body: the part that turns ids into
    hidden states. decoder: causal attention (the answer follows the prompt) or not (the answer is a mask token).
    width: size of the last hidden state. max_positions: most tokens it can read, special tokens included.
    tuple_blocks: whether a block returns a tuple (seen when it first runs up to a block). spread: where inputs go when
    the layers lie on several devices.
    """

    name: str
    revision: str
    model: nn.Module
    tokenizer: Any
    decoder: bool
    lm_head: bool
    width: int
    max_positions: int
    spread: torch.device | None = None
    layout: ModelLayout = field(init=False)
    tuple_blocks: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.layout = find_layout(self.body)

    @property
    def body(self) -> nn.Module:
        """The transformer that yields hidden states."""
        return body_of(self.model)

    @property
    def mask_id(self) -> int | None:
        """Id of the mask token, for encoders."""
        found: int | None = self.tokenizer.mask_token_id
        return found

    @property
    def device(self) -> torch.device:
        """Where the weights are, and inputs must be."""
        return self.spread or next(self.model.parameters()).device

    def hidden(
        self, inputs: Mapping[str, Any], close: PackedSequences | None = None, places: Tensor | None = None
    ) -> Tensor:
        """Last hidden states, shape (batch, length, width); (1, tokens, width) of prompts that stand `close`.

        places: the only ones in the one row that the caller will read; what the others get is then not said.
        """
        with use_packing(close), self._answering(places):
            states: Tensor = self.body(**{**_no_cache(self.decoder), **inputs}).last_hidden_state
        return states

    def answer_logits(
        self,
        inputs: Mapping[str, Any],
        answers: Tensor,
        rows: Tensor | None = None,
        close: PackedSequences | None = None,
        words: Tensor | None = None,
    ) -> Tensor:
        """Vocabulary logits at one position of each row: (batch, vocabulary). rows: other rows than one each, in order.

        close: how the prompts stand, where they are not padded; then `answers` are places in the one row.
        words: the only ones to project to, (batch, words), of a model that `has_words`.

        Only these positions are projected: the hidden states are cut to (batch, 1, width) between the body and
        whatever head the model has, so the model's own code (ties, soft-caps, transforms) makes the logits.
        """
        if close is not None:
            rows = torch.zeros_like(answers)
        places = answers if rows is not None and inputs["input_ids"].shape[0] == 1 else None
        rows = torch.arange(len(answers), device=answers.device) if rows is None else rows
        few = nullcontext() if words is None else words_alone(self.model, words)
        with _only(self.body, rows, answers), use_packing(close), self._answering(places), few:
            logits: Tensor = self.model(**{**_no_cache(self.decoder), **inputs}).logits
        return logits[:, 0]

    def _answering(self, places: Tensor | None) -> AbstractContextManager[None]:
        """The last block makes these places alone, where its attention is ours."""
        ours = getattr(self.model.config, "_attn_implementation", "") == attention.ATTENTION_NAME
        if places is None or not ours or self.spread is not None:
            return nullcontext()
        return last_block_at(self.layout.blocks[-1], places)


def can_pack_sequences(backbone: Backbone) -> bool:
    """Whether this model can read prompts close together, and gains by it: on a CPU, where all padding is computed."""
    here = backbone.device.type in ("cpu", "meta") and backbone.spread is None and backbone.width >= attention.NARROW
    return here and attention.sees_whole_prompts(backbone.model.config, attention.SUPPORTED_TYPES)


def _no_cache(decoder: bool) -> dict[str, bool]:
    return {"use_cache": False} if decoder else {}


def body_of(model: nn.Module) -> nn.Module:
    """The headless transformer inside a transformers model (OPT's head calls `model.decoder`, not `model`)."""
    inner = model.base_model
    assert isinstance(inner, nn.Module)
    decoder = getattr(inner, "decoder", None)
    if isinstance(decoder, nn.Module) and isinstance(getattr(decoder, "base_model", None), nn.Module):
        return decoder
    return inner


@contextmanager
def _only(body: nn.Module, rows: Tensor, positions: Tensor) -> "Iterator[None]":
    """While open, `body` returns the hidden states at (row, position), as rows of length 1."""

    def cut(_module: nn.Module, _args: object, output: Any) -> Any:
        states = output.last_hidden_state
        output.last_hidden_state = states[rows.to(states.device), positions.to(states.device)].unsqueeze(1)
        return output

    handle = body.register_forward_hook(cut)
    try:
        yield
    finally:
        handle.remove()


def check_name(name: str) -> None:
    """Refuse what can be neither a built-in model, a folder nor a hub id, before anything is imported or asked.

    Raises:
        InputError: with the nearest built-in name, or what the folder lacks.
    """
    if name in BUILT_IN:
        if not (BUILT_IN[name] / "model.safetensors").is_file():
            raise InputError(
                f"model {name!r}: its weights are not in {BUILT_IN[name]}; make them with `python -m effft pretrain`."
            )
        return
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise InputError(f"model {name!r}: the folder has no config.json, so it is not a transformers model.")
        if not any(folder.glob("*.safetensors")):
            others = sorted(p.name for p in [*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")])
            why = f"only {', '.join(others)}, and pickle is never loaded" if others else "none"
            raise InputError(f"model {name!r}: weights must be safetensors; the folder has {why}.")
        return
    if folder.is_file():
        raise InputError(f"model {name!r} is a file; give the folder that holds config.json and *.safetensors.")
    looks_like_path = name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name
    if looks_like_path or not name.strip():
        raise InputError(f"model {name!r}: no such folder; give a local folder, a hub id, or {' or '.join(BUILT_IN)}.")
    if "/" not in name and (hint := nearest(name, BUILT_IN)):
        raise InputError(f"unknown model {name!r}.{hint} A hub id or a local folder works too.")


class LoadOptions(NamedTuple):
    """How weights are to lie. precision: heeded where the layers are spread, since they cannot be converted later."""

    quantize: str = "none"
    precision: str = "auto"


DEFAULT_OPTIONS = LoadOptions()
"""Whole, in fp32."""


def load(
    name: str,
    revision: str = "",
    need_lm_head: bool = False,
    device: str = "cpu",
    stored: LoadOptions = DEFAULT_OPTIONS,
) -> Backbone:
    """Load weights (safetensors only, fp32) and tokenizer; dropout off, nothing trains yet.

    need_lm_head: load the language-modelling head as well.

    Raises:
        InputError: no such model, no LM head, pickle weights only, hub not reachable.
    """
    check_name(name)
    known = describe(name, revision, need_lm_head)
    place = resolve_device(device)
    own = quantized_options(stored.quantize, place) | device_map_options(device, stored.precision)
    options = {"config": known.config, "dtype": torch.float32, "output_loading_info": True} | own
    with placing(device):
        model, told = from_pretrained(known.kind, known.source, name, revision, **options)
    _must_be_whole(name, [key for key in told["missing_keys"] if "pooler" not in key.split(".")])
    if len(known.tokenizer) > model.get_input_embeddings().num_embeddings:
        raise InputError(
            f"model {name!r}: the tokenizer has {len(known.tokenizer)} tokens, the embeddings only "
            f"{model.get_input_embeddings().num_embeddings} rows; they do not belong together."
        )
    drop_pooler(model)
    model.eval().requires_grad_(False)
    if not own:
        model.to(place)
    mark(body_of(model), stored.quantize)
    commit = getattr(known.config, "_commit_hash", None) or revision
    positions = max_positions(known.config)
    width = _width(model, place)
    spread = place if is_device_map(device) else None
    return Backbone(name, commit, model, known.tokenizer, known.decoder, need_lm_head, width, positions, spread)


def _must_be_whole(name: str, missing: list[str]) -> None:
    """Transformers would make up the weights that a file lacks."""
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(
            f"model {name!r}: its weights lack {min(missing)}{more}, which would be random; download it again, whole."
        )


class ModelDescription(NamedTuple):
    """What is known of a model without its weights. kind: the transformers class that builds it."""

    source: str
    config: Any
    tokenizer: Any
    decoder: bool
    kind: str


def describe(name: str, revision: str, need_lm_head: bool) -> ModelDescription:
    """Configuration and tokenizer.

    Raises:
        InputError: no such model, no LM head, hub not reachable.
    """
    source = str(BUILT_IN.get(name, Path(name).expanduser() if Path(name).expanduser().is_dir() else name))
    config = from_pretrained("AutoConfig", source, name, revision)
    if getattr(config, "is_encoder_decoder", False):
        raise InputError(f"model {name!r} ({config.model_type}) is an encoder-decoder; take a decoder or an encoder.")
    decoder = _is_decoder(config)
    kind = ("AutoModelForCausalLM" if decoder else "AutoModelForMaskedLM") if need_lm_head else "AutoModel"
    if need_lm_head and not decoder and not _has_masked_lm_head(config):
        raise InputError(
            f"model {name!r} ({', '.join(config.architectures or ['?'])}) has no pre-trained language-modelling head, "
            "so it has no answer for a verbalizer; take vanilla, lora, adaptive, bitfit or probe."
        )
    return ModelDescription(source, config, from_pretrained("AutoTokenizer", source, name, revision), decoder, kind)


def resolve_device(device: str) -> torch.device:
    """'auto' is CUDA where there is one, else the CPU; anything else must exist here. 'map': where inputs go."""
    if device == "auto" or is_device_map(device):
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise InputError(f"device={device}: must be auto, cpu, cuda, cuda:N or map (flag --device).") from None
    if chosen.type not in ("cpu", "cuda"):
        raise InputError(f"device={device}: must be auto, cpu, cuda, cuda:N or map (flag --device).")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device={device}: this machine has {torch.cuda.device_count()} CUDA devices (flag --device).")
    return chosen


def _is_decoder(config: Any) -> bool:
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL,
    )
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_MASKED_LM_MAPPING_NAMES as MASKED,
    )

    kind = config.model_type
    if kind in MASKED and kind in CAUSAL:  # BERT can be built as a decoder; its weights say what it is
        return any("CausalLM" in name or "LMHeadModel" in name for name in config.architectures or [])
    if kind not in MASKED and kind not in CAUSAL:
        raise InputError(f"model type {kind!r} is neither a decoder nor an encoder of text known to transformers.")
    return kind in CAUSAL


def _has_masked_lm_head(config: Any) -> bool:
    return any("MaskedLM" in name or "PreTraining" in name for name in config.architectures or [])


def drop_pooler(model: nn.Module) -> None:
    """BERT's pooler is not used by our heads; it would only count as idle parameters."""
    body = body_of(model)
    if getattr(body, "pooler", None) is not None:
        body.pooler = None  # type: ignore[assignment]


def _width(model: nn.Module, device: torch.device) -> int:
    """Size of the last hidden state, asked of the model itself (OPT-350m projects it down)."""
    with torch.no_grad():
        ids = torch.zeros((1, 1), dtype=torch.long, device=device)
        return int(body_of(model)(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state.shape[-1])


def max_positions(config: Any) -> int:
    """Most tokens the model can read, special tokens included."""
    positions = getattr(config, "max_position_embeddings", None)
    if not positions or positions < 0:
        return 1 << 30
    if config.model_type in (
        "roberta",
        "xlm-roberta",
        "camembert",
        "xlm-roberta-xl",
        "data2vec-text",
        "esm",
        "mpnet",
    ):
        return int(positions) - int(config.pad_token_id) - 1  # positions there start after the pad token's id
    return int(positions)
