"""A pre-trained model with its tokenizer, decoder, encoder or both, from the hub, a folder, or built in."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from effft.errors import InputError
from effft.models.conversion import explained
from effft.models.description import describe, from_pretrained, max_positions, resolve_device
from effft.models.device_map import device_map_options, explain_no_place, is_device_map
from effft.models.files import check_name, commit_of
from effft.models.forward import attention
from effft.models.forward.last_block import last_block_at
from effft.models.forward.sequence_packing import PackedSequences, use_packing
from effft.models.heads import only_words
from effft.models.layout import ModelLayout, find_layout
from effft.models.quantization import mark_quantized, quantization_options

READS_PADDING = ("convbert", "fnet", "mobilebert", "yoso")
"""Model types in which a text's states depend on the padding after it: they convolve over it, or have no mask."""


@dataclass
class Backbone:
    """A pre-trained model without our head.

    Attributes:
        model: the whole transformers model, with its LM head where `lm_head`.
        decoder: whether attention is causal, so that the answer follows the prompt (else it is a mask token).
        decoder_start: what the decoder of an encoder-decoder reads before an answer. () of other models, and where a
            classifier reads the encoder alone, which makes it an encoder.
        width: size of the last hidden state.
        max_positions: most tokens it can read, special tokens included.
        input_device: where inputs go when a device map spreads the layers over several devices, else None.
        folder: where its files are, weights as safetensors; None of a skeleton.
        block_values: values in the tuple that a block returns, 0 where it returns its states alone; known once a pass
            has stopped above the first block.
        adapter: an adapter of peft's in it (`effft.models.adapter.Adapter`), else None.
    """

    name: str
    revision: str
    model: nn.Module
    tokenizer: Any
    decoder: bool
    lm_head: bool
    width: int
    max_positions: int
    input_device: torch.device | None = None
    folder: Path | None = None
    decoder_start: tuple[int, ...] = ()
    layout: ModelLayout = field(init=False)
    block_values: int = field(init=False, default=0)
    adapter: Any = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.layout = find_layout(self.body, ("encoder.", "decoder.") if self.decoder_start else ("",))

    @property
    def body(self) -> nn.Module:
        """The transformer that turns ids into hidden states; of an encoder-decoder both halves."""
        return body_of(self.model)

    @property
    def reader(self) -> Any:
        """What reads a prompt: the body, or the encoder of an encoder-decoder."""
        return reader_of(self.model)

    @property
    def answerer(self) -> nn.Module:
        """Whose last hidden states the LM head turns into logits: the body, or the decoder of an encoder-decoder."""
        return self.body.get_submodule("decoder") if self.decoder_start else self.body

    @property
    def has_device_map(self) -> bool:
        """Whether the layers lie on several devices."""
        return self.input_device is not None

    @property
    def device(self) -> torch.device:
        """Where inputs must be."""
        return self.input_device or next(self.model.parameters()).device

    @property
    def reads_padding(self) -> bool:
        """Whether texts have to be read one by one, as the states of each depend on the padding after it."""
        config: Any = self.model.config
        return config.model_type in READS_PADDING

    def hidden(
        self, inputs: Mapping[str, Any], packing: PackedSequences | None = None, positions: Tensor | None = None
    ) -> Tensor:
        """Last hidden states, (batch, length, width); of packed prompts (1, tokens, width).

        Args:
            inputs: what the model is called with.
            packing: the layout of packed prompts.
            positions: in a single row, the only positions that the caller reads; the others may be anything.
        """
        with use_packing(packing), self._last_block_at(positions):
            states: Tensor = self.reader(**self._keywords(inputs, packing)).last_hidden_state
        return states

    def answer_logits(
        self,
        inputs: Mapping[str, Any],
        answers: Tensor,
        rows: Tensor | None = None,
        packing: PackedSequences | None = None,
        words: Tensor | None = None,
    ) -> Tensor:
        """Vocabulary logits at one position of each row, (answers, vocabulary).

        Of an encoder-decoder, rows are those of the decoder (`decoder_input_ids`), as many in turn for each prompt. The
        encoder reads a prompt once.

        Only these positions are projected: the hidden states are cut to (answers, 1, width) between the body and
        whatever head the model has, so the model's own code (ties, soft-caps, transforms) makes the logits.

        Args:
            inputs: what the model is called with.
            answers: the positions, (answers); of packed prompts, positions in the one row.
            rows: the row of each answer, where that is not simply one answer in each row.
            packing: the layout of packed prompts.
            words: token ids, the only ones to project to, (answers, words); for models that `heads.has_words`.
        """
        if packing is not None:
            rows = torch.zeros_like(answers)
        positions = answers if rows is not None and inputs["input_ids"].shape[0] == 1 else None
        rows = torch.arange(len(answers), device=answers.device) if rows is None else rows
        projection = nullcontext() if words is None else only_words(self.model, words)
        keywords = self._keywords(inputs, packing)
        once = _read_once(self.reader, keywords) if self.decoder_start else nullcontext()
        with (
            _cut_states(self.answerer, rows, answers), use_packing(packing), self._last_block_at(positions), once,
            projection,
        ):  # fmt: skip
            logits: Tensor = self.model(**keywords).logits
        return logits[:, 0]

    def _keywords(self, inputs: Mapping[str, Any], packing: PackedSequences | None) -> dict[str, Any]:
        """What the model is called with; `use_cache` may be among the inputs."""
        caches = self.decoder or "decoder_input_ids" in inputs
        return {**({"use_cache": False} if caches else {}), **inputs}

    def _last_block_at(self, positions: Tensor | None) -> AbstractContextManager[None]:
        """Run the last block at these positions only, where its attention is ours."""
        ours = attention.implementation_of(self.model.config) == attention.ATTENTION_NAME
        if positions is None or not ours or self.has_device_map or self.decoder_start:
            return nullcontext()
        return last_block_at(self.layout.blocks[-1], positions)


def can_pack_sequences(backbone: Backbone) -> bool:
    """Whether this model can read packed prompts and gains by it: on a CPU, where padding costs as much as tokens."""
    if backbone.device.type not in ("cpu", "meta") or backbone.has_device_map or backbone.width < attention.NARROW:
        return False
    return attention.sees_whole_prompts(backbone.model.config, attention.SUPPORTED_TYPES)


def body_of(model: nn.Module) -> nn.Module:
    """The headless transformer inside a transformers model (OPT's head calls `model.decoder`, not `model`)."""
    inner: Any = model.base_model
    assert isinstance(inner, nn.Module)
    if is_two_sided(model):
        return inner if inner.decoder is not None else inner.encoder
    decoder = getattr(inner, "decoder", None)
    if isinstance(decoder, nn.Module) and isinstance(getattr(decoder, "base_model", None), nn.Module):
        return decoder
    return inner


def is_two_sided(model: Any) -> bool:
    """Whether it is an encoder-decoder, also where its decoder is not there (`drop_unused`)."""
    return bool(getattr(model.config, "is_encoder_decoder", False))


def reader_of(model: Any) -> Any:
    """What reads a prompt: the body, or the encoder of an encoder-decoder."""
    return model.base_model.encoder if is_two_sided(model) else body_of(model)


@contextmanager
def _read_once(encoder: nn.Module, keywords: dict[str, Any]) -> Iterator[None]:
    """While open, the encoder repeats the states of each prompt for the rows that its decoder reads.

    keywords: what the model is called with; its mask is repeated for the decoder.
    """
    times = keywords["decoder_input_ids"].shape[0] // keywords["input_ids"].shape[0]
    mask = keywords.get("attention_mask")
    if mask is not None:
        keywords["attention_mask"] = mask.repeat_interleave(times, dim=0)

    def enter(_module: object, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, kwargs | {"attention_mask": mask}

    def leave(_module: object, _args: object, output: Any) -> Any:
        output.last_hidden_state = output.last_hidden_state.repeat_interleave(times, dim=0)
        return output

    handles = [encoder.register_forward_pre_hook(enter, with_kwargs=True), encoder.register_forward_hook(leave)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _cut_states(body: nn.Module, rows: Tensor, positions: Tensor) -> Iterator[None]:
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


class LoadOptions(NamedTuple):
    """How weights are stored. precision: only read with a device map, whose layers cannot be converted later."""

    quantize: str = "none"
    precision: str = "auto"


DEFAULT = LoadOptions()
"""Not quantized, in fp32."""


def load(
    name: str, revision: str = "", need_lm_head: bool = False, device: str = "cpu", options: LoadOptions = DEFAULT
) -> Backbone:
    """Load weights (in fp32) and tokenizer. Dropout is off, and no parameter requires a gradient yet.

    Args:
        name: a built-in model, a local folder, or a hub id.
        revision: branch, tag or commit of a hub model; '' is its main branch.
        need_lm_head: load the language-modelling head as well.
        device: 'auto', 'cpu', 'cuda', 'cuda:N', 'map' or 'map:8GB'.
        options: how the weights are stored.

    Raises:
        InputError: no such model, no LM head, incomplete or unsafe weights, hub not reachable.
    """
    check_name(name)
    known = describe(name, revision, need_lm_head, weights=True)
    target = resolve_device(device)
    storage = quantization_options(options.quantize, target) | device_map_options(device, options.precision)
    keywords = {"config": known.config, "dtype": torch.float32, "output_loading_info": True} | storage
    with explain_no_place(device):
        model, report = from_pretrained(known.kind, known.folder, name, **keywords)
    drop_unused(model, need_lm_head)
    there = model.state_dict().keys()
    _check_complete(name, model, [key for key in report["missing_keys"] if key in there])
    _check_finite(name, model)
    model.eval().requires_grad_(False)
    if not storage:
        model.to(target)
    with explained(name, f"a model of type {known.config.model_type} is not supported", "take another"):
        rows, width = model.get_input_embeddings().weight.shape[0], _width(model, target)
    last, token = max((i, t) for t, i in known.tokenizer.get_vocab().items())
    if last >= rows:
        raise InputError(
            f"model {name!r}: the tokenizer has a token {token!r} with the id {last}, the embeddings have only {rows} "
            "rows; they do not belong together."
        )
    mark_quantized(body_of(model), options.quantize)
    return Backbone(
        name,
        commit_of(name, revision),
        model,
        known.tokenizer,
        known.decoder,
        need_lm_head,
        width,
        max_positions(known.config),
        target if is_device_map(device) else None,
        known.folder,
        known.decoder_start,
    )


def _check_complete(name: str, model: Any, missing: list[str]) -> None:
    """Transformers would draw the weights that a file lacks at random."""
    body = f"{model.base_model_prefix}." if model.base_model is not model else ""
    if missing and not any(key.startswith(body) for key in missing):
        raise InputError(
            f"model {name!r} ({', '.join(model.config.architectures or ['?'])}) has no pre-trained language-modelling "
            f"head ({min(missing)} is not there), so it has no answer for a verbalizer; take vanilla, lora, adaptive, "
            "bitfit or probe, or the model that it was made from."
        )
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        kind = next(iter(model.config.architectures or ()), type(model).__name__)
        raise InputError(
            f"model {name!r}: its weights lack {min(missing)}{more}, which would be random; fetch it again, "
            f"whole, or save it with `save_pretrained` from {kind}."
        )


def _check_finite(name: str, model: nn.Module) -> None:
    """Refuse weights that are no numbers: every score would be none, or a wrong one."""
    for key, weight in model.named_parameters():
        here = weight.is_floating_point() and weight.device.type != "meta"
        if here and not weight.sum().isfinite() and not weight.isfinite().all():  # the sum costs no memory
            raise InputError(f"model {name!r}: its weights {key} hold NaN or infinite values; take another model.")


def drop_unused(model: Any, lm_head: bool) -> None:
    """Remove what our heads do not use: BERT's pooler, and the decoder of an encoder-decoder without its LM head."""
    if is_two_sided(model) and not lm_head:
        model.base_model.decoder = None
    body: Any = body_of(model)
    if getattr(body, "pooler", None) is not None:  # without that switch, its code calls what is there
        body.pooler = None if "add_pooling_layer" in signature(type(body)).parameters else nn.Identity()


def _width(model: nn.Module, device: torch.device) -> int:
    """Size of the last hidden state, measured (OPT-350M projects it down)."""
    with torch.no_grad():
        ids = torch.zeros((1, 1), dtype=torch.long, device=device)
        return int(reader_of(model)(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state.shape[-1])
