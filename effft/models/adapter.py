"""Adapters of any type of peft: options checked, put into a backbone, saved, loaded, merged."""

import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from copy import copy
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from effft.distributed.process_group import process_group
from effft.errors import InputError, RunError, lookup, nearest
from effft.models.backbone import Backbone
from effft.models.forward.virtual_tokens import VirtualTokens
from effft.models.layout import in_out_features, is_norm, linear_paths
from effft.models.lora import ADAPTER, ADAPTER_FILE
from effft.models.out_of_memory import out_of_memory

UNSAFE = re.compile(r"(path|_core|_config|_kwargs|^auto_mapping|^adapters)$")
"""Options that name files, code or other models, or need data."""

OWN = ("peft_type", "peft_version", "task_type", "inference_mode", "revision", "megatron_config", "megatron_core",
       "layer_replication", "alora_invocation_tokens", "modules_to_save", "num_transformer_submodules")  # fmt: skip
"""Options that this project sets, or that change more than an adapter."""

REFUSALS = (
    ValueError, TypeError, KeyError, AttributeError, AssertionError, IndexError, RuntimeError, OverflowError, re.error,
)  # fmt: skip
"""What peft raises where options or a model do not suit a type."""

PROBE = 8
"""Tokens of the pass that tells whether an adapter changes what the backbone gives."""


def known_types() -> tuple[str, ...]:
    """The types that the installed peft has, in lower case."""
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING

    return tuple(sorted(kind.value.lower() for kind in PEFT_TYPE_TO_CONFIG_MAPPING))


def defaults_of(kind: str) -> dict[str, Any]:
    """The options that a type takes, with peft's own defaults.

    Raises:
        InputError: peft has no such type.
    """
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING

    made = lookup("peft_type", kind, {k.value.lower(): c for k, c in PEFT_TYPE_TO_CONFIG_MAPPING.items()})
    found = {}
    for field in fields(made):
        if field.name not in OWN and not UNSAFE.search(field.name):
            found[field.name] = field.default_factory() if field.default_factory is not MISSING else field.default
    return found


def check_options(kind: str, options: Mapping[str, object]) -> None:
    """Refuse an option that the type does not have or that this project does not take, and a value that is no number.

    Raises:
        InputError: the option, and the nearest that there is; or the value, where peft's own is a number.
    """
    known = defaults_of(kind)
    for name, value in options.items():
        if name in OWN or UNSAFE.search(name):
            raise InputError(
                f"peft_options: {name!r} is not taken: it names files, code or other models, or effft sets it itself; "
                "leave it out (flag --peft-options)."
            )
        if name not in known:
            raise InputError(
                f"peft_options: the type {kind!r} has no option {name!r}; it has: {', '.join(sorted(known))}."
                f"{nearest(name, known)} (flag --peft-options)"
            )
        number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf
        if type(known[name]) in (int, float) and not number:
            raise InputError(
                f"peft_options: {name}={value!r}: must be a number; peft's own is {known[name]} (flag --peft-options)."
            )


def target_paths(backbone: Backbone, place: str, which: str, layers: object = None) -> list[str] | None:
    """Names within the whole model of the modules that are adapted; None where peft knows them itself.

    Args:
        backbone: the model.
        place: `linear`, `ia3`, `norms` or `embedding`.
        which: of the linear maps: `query_value`, `attention` or `all`.
        layers: numbers of the blocks whose linear maps are adapted, or one of them; None for all.
    """
    from peft.utils import TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING

    model: Any = backbone.model
    if place == "ia3" and model.config.model_type in TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING:
        return None
    if place == "norms":
        return [name for name, module in model.named_modules() if is_norm(module)]
    if place == "embedding":
        return [name for name, module in model.named_modules() if module is backbone.reader.get_input_embeddings()]
    prefix = next(f"{name}." if name else "" for name, module in model.named_modules() if module is backbone.body)
    wanted = layers if isinstance(layers, list) else [layers]
    blocks = [f"{path}.{number}." for path in backbone.layout.paths for number in wanted if layers is not None]
    paths = linear_paths(backbone.body, backbone.layout, which)
    return [prefix + path for path in paths if path.startswith(tuple(blocks) or "")]


def bounds(model: nn.Module, paths: Sequence[str]) -> dict[str, int]:
    """What the linear maps allow: the smallest `side`, the largest common `divisor` of all sides, and so on."""
    shapes = [in_out_features(model.get_submodule(path)) for path in paths]
    return {
        "side": min(min(shape) for shape in shapes),
        "divisor": math.gcd(*(side for shape in shapes for side in shape)),
        "area": min(a * b for a, b in shapes),
        "sparse": min(a * b // (a + b) for a, b in shapes),
    }


def lowered(value: int, kind: str, limits: Mapping[str, int]) -> int:
    """The largest value of at most `value` that a limit allows."""
    limit = limits[kind]
    if kind != "divisor":
        return min(value, limit)
    return max(number for number in range(1, min(value, limit) + 1) if limit % number == 0)


class Adapter:
    """An adapter of peft's in a backbone, which is changed in place.

    Args:
        backbone: it gets the adapter, and refers to it as `backbone.adapter`.
        kind: peft's name of the type, in lower case.
        options: what peft calls the configuration; checked by `check_options`.
        generator: draws the seed of the new weights.

    Attributes:
        model: peft's model around the backbone's.
        added: every parameter that the backbone did not have.
        parameters: those that train.
        virtual: the virtual tokens; None where there are none.
        starts_equal: whether it changes nothing at first, up to rounding; None on the meta device.
        restorable: whether the backbone is itself again while the adapter is off; None likewise.

    Raises:
        InputError: peft refuses the options or the model, or nothing would train.
    """

    def __init__(
        self, backbone: Backbone, kind: str, options: Mapping[str, object], generator: torch.Generator
    ) -> None:
        from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftType, get_peft_model

        if process_group().sharded:
            raise InputError(
                f"peft_type={kind}: a model in pieces (FSDP2) holds no adapter but plain LoRA; take lora without "
                "--dora, --rslora and --lora-init, or train data parallel (deploy/accelerate/ddp.yaml)."
            )
        self.backbone, self.kind = backbone, kind
        model: Any = backbone.model
        given = {id(p) for p in model.parameters()}
        before = self._probe()
        self.virtual: VirtualTokens | None = None
        try:
            with warnings.catch_warnings(action="ignore"), torch.random.fork_rng(range(torch.cuda.device_count())):
                torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
                config = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(kind.upper())](**options)
                keys = kind in ("prefix_tuning", "cartridge")
                if config.is_prompt_learning:
                    config.task_type = "CAUSAL_LM" if backbone.decoder and backbone.lm_head else "FEATURE_EXTRACTION"
                    config.token_dim = None if keys else model.get_input_embeddings().embedding_dim
                self.model: Any = get_peft_model(model, config)
                self.model.eval()
                if config.is_prompt_learning:
                    self.virtual = VirtualTokens(backbone.body, self.model, config.num_virtual_tokens, keys)
                after = self._probe()
        except REFUSALS as error:
            if isinstance(error, RuntimeError) and out_of_memory(error):
                raise
            raise InputError(
                f"peft_type={kind}: peft refuses it for {backbone.name!r}: {_reason(error)} "
                "(flags --peft-type, --peft-options, --rank)."
            ) from error
        self.added = [p for p in self.model.parameters() if id(p) not in given]
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        if not self.parameters:
            raise InputError(f"peft_type={kind}: it leaves nothing to train in {backbone.name!r}; take another type.")
        backbone.adapter = self
        self.starts_equal: bool | None = None
        self.restorable: bool | None = None
        if before is not None and after is not None:
            self.starts_equal = _close(before, after)
            with self.off():
                again = self._probe()
            self.restorable = again is not None and torch.equal(before, again)

    def check_bf16(self) -> None:
        """Refuse a type that does not work in a backbone of bf16.

        Raises:
            InputError: it does not.
        """
        try:
            self._probe()
        except RuntimeError as error:
            if out_of_memory(error):
                raise
            raise InputError(f"peft_type={self.kind}: it does not work in bf16; give --precision fp32.") from error

    @property
    def config(self) -> Any:
        """Peft's configuration of it."""
        return self.model.peft_config[ADAPTER]

    @property
    def returned(self) -> int:
        """Virtual tokens whose states peft's model returns before those of the text."""
        return self.virtual.count if self.virtual and not self.virtual.keys else 0

    @property
    def layers(self) -> list[nn.Module]:
        """The modules that belong to it: their dropout is active in training."""
        from peft.tuners.tuners_utils import BaseTunerLayer

        own = [self.model.prompt_encoder] if self.virtual else []
        return own + [module for module in self.model.modules() if isinstance(module, BaseTunerLayer)]

    @property
    def outside(self) -> dict[str, nn.Parameter]:
        """Its parameters that the backbone's model does not hold: those of virtual tokens."""
        inside = {id(p) for p in self.backbone.model.parameters()}
        return {name: p for name, p in self.model.named_parameters() if id(p) not in inside}

    @contextmanager
    def off(self) -> Iterator[None]:
        """While open, the backbone gives what it gave without the adapter."""
        if self.virtual:
            self.virtual.active = False
        else:
            self.model.base_model.disable_adapter_layers()
        try:
            yield
        finally:
            if self.virtual:
                self.virtual.active = True
            else:
                self.model.base_model.enable_adapter_layers()

    @contextmanager
    def as_backbone(self) -> Iterator[None]:
        """While open, the backbone gives what it gave before the adapter, exactly where that can be.

        Raises:
            InputError: the type has changed it for good, and does not start equal to it.
        """
        if self.restorable is False and not self.starts_equal:
            raise InputError(
                f"peft_type={self.kind}: it changes the backbone before it trains, so there is no teacher left to "
                "learn from; take another type, or a loss without a teacher."
            )
        with self.off() if self.restorable else nullcontext():
            yield

    def penalty(self) -> Tensor | None:
        """What AdaLoRA adds to the loss: how far A and B are from orthogonal (Zhang et al. 2023, 2303.10512, eq. 4)."""
        weight = getattr(self.config, "orth_reg_weight", 0.0)
        named = self.model.named_parameters() if weight else ()
        parts = [(n, p) for n, p in named if "lora_A" in n or "lora_B" in n]
        products = [p @ p.T if "lora_A" in name else p.T @ p for name, p in parts]
        norms = [torch.linalg.matrix_norm(s - torch.eye(len(s), device=s.device, dtype=s.dtype)) for s in products]
        return weight * torch.stack(norms).mean() if norms else None

    def after_update(self, index: int, total: int) -> None:
        """What some types do after update `index`, from 1, of `total`: AdaLoRA moves ranks between layers.

        It starts after a tenth of the updates, and the last three tenths leave the ranks as they are.
        """
        tuner, config = self.model.base_model, self.config
        if self.virtual or not hasattr(tuner, "update_and_allocate"):
            return
        if index == 1 and hasattr(config, "tfinal"):
            config.total_step = total
            if not (config.tinit or config.tfinal):
                config.tinit, config.tfinal = total // 10, 3 * total // 10
        tuner.update_and_allocate(index)

    def save(self, folder: Path, base: str, revision: str | None) -> None:
        """Write it in peft's own format, so that `PeftModel.from_pretrained` loads it.

        Args:
            folder: made where it does not exist.
            base: name of the model under it.
            revision: of that model; None where it has none.
        """
        from peft import get_peft_model_state_dict
        from safetensors.torch import save_file

        if hasattr(self.config, "rank_pattern") and self.kind == "adalora":
            self.config.rank_pattern = None  # what lost its rank is zero and stays where it is
        found = get_peft_model_state_dict(self.model, save_embedding_layers=False)
        folder.mkdir(parents=True, exist_ok=True)
        config = copy(self.config)
        config.base_model_name_or_path, config.revision, config.inference_mode = base, revision, True
        config.save_pretrained(str(folder))
        save_file({n: t.detach().cpu().clone().contiguous() for n, t in found.items()}, folder / ADAPTER_FILE)

    def load(self, folder: Path) -> None:
        """Put back what `save` wrote.

        Raises:
            InputError: it is another adapter's.
        """
        from peft import get_peft_model_state_dict, set_peft_model_state_dict
        from safetensors.torch import load_file

        if self.virtual:
            self.config.inference_mode = True  # what was saved are the virtual tokens, not the network behind them
        found = load_file(folder / ADAPTER_FILE)
        try:
            with warnings.catch_warnings(action="ignore"):
                set_peft_model_state_dict(self.model, found)
                own = get_peft_model_state_dict(self.model, save_embedding_layers=False)
        except REFUSALS as error:
            raise InputError(f"the adapter in {folder} does not fit its record: {_reason(error)}.") from None
        if odd := sorted(own.keys() ^ found.keys()):
            raise InputError(f"the adapter in {folder} does not fit its record: {odd[0]!r} is missing or unknown.")

    def merge(self) -> None:
        """Add it to the weights of the backbone, in place and in fp32, and remove it.

        Raises:
            RunError: the type cannot be merged, or what it gives would change.
        """
        dtype = self.backbone.reader.get_input_embeddings().weight.dtype
        self.model.float()
        before = self._probe()
        try:
            if self.virtual:
                raise ValueError("virtual tokens are no weights of the model")
            with warnings.catch_warnings(action="ignore"):
                self.model.merge_and_unload()
        except REFUSALS as error:
            raise RunError(f"an adapter of type {self.kind} cannot be merged here: {_reason(error)}.") from error
        self.backbone.adapter = None
        if before is not None and not _close(before, self._probe()):
            raise RunError(f"an adapter of type {self.kind} cannot be merged here: the model would answer otherwise.")
        self.backbone.model.to(dtype)

    def _probe(self) -> Tensor | None:
        """Hidden states of a few tokens; None on the meta device."""
        if self.backbone.device.type == "meta":
            return None
        ids = torch.arange(PROBE, device=self.backbone.device)[None]
        with torch.no_grad():
            return self.backbone.hidden({"input_ids": ids, "attention_mask": torch.ones_like(ids)})


def _close(one: Tensor, other: Tensor | None) -> bool:
    """Whether states are equal up to rounding."""
    return other is not None and bool((one - other).abs().max() <= 1e-4 * one.abs().max())


def _reason(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:300].rstrip(".")
