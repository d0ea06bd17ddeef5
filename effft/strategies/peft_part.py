"""What trains is an adapter of peft's, of any type."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from effft.errors import InputError, nearest
from effft.strategies.parts import Part, scaled_rate
from effft.strategies.peft_types import TYPES, UNFIT, UNLISTED, PeftType
from effft.strategies.search_space import Dimension

if TYPE_CHECKING:
    import torch
    from torch import nn

    from effft.models.backbone import Backbone


@dataclass(frozen=True)
class Peft(Part):
    """An adapter of any type that the installed peft has.

    Args:
        peft_type: peft's name of the type, in lower case: `ia3`, `vera`.
        peft_options: its options as JSON, by peft's names: `{"r": 8}`; what is not given is as in
            `effft.strategies.peft_types`, else as in peft.
        peft_config: nothing; `--peft-config FILE` becomes the two above.
        rank: the rank of types that have one; None is the type's own.
        lora_modules: linear maps that are adapted, as for LoRA; None is `attention`.
    """

    about: ClassVar[str] = "an adapter of peft"
    keeps_weights: ClassVar[bool] = True
    peft_type: str = ""
    peft_options: str | None = None
    peft_config: str | None = None
    rank: int | None = None
    lora_modules: str | None = None

    @property
    def facts(self) -> PeftType:
        """What is known of the type."""
        return TYPES.get(self.peft_type, UNLISTED)

    @property
    def short(self) -> str:
        """The type, where the name of the strategy does not say it."""
        return self.peft_type

    def rate_at(self, width: int) -> float:
        """The type's."""
        return scaled_rate(self.facts.rate, width, self.facts.width_power)

    @property
    def searched(self) -> Mapping[str, Dimension]:
        """The rank, where there is one."""
        return {"rank": self.facts.ranks} if self.facts.rank else {}

    @property
    def bf16(self) -> str:
        """As the type does."""
        return self.facts.bf16

    @property
    def virtual_tokens(self) -> int:
        """Of types that have some."""
        count = self._given.get("num_virtual_tokens", self.facts.options.get("num_virtual_tokens", 0))
        return count if isinstance(count, int) else 0

    @property
    def _given(self) -> dict[str, object]:
        given: dict[str, object] = json.loads(self.peft_options or "{}")
        return given

    def check(self, backbone: "Backbone") -> None:
        """A type, an option or a backbone that do not go together are an InputError."""
        from effft.models.adapter import check_options, known_types
        from effft.models.backbone import is_two_sided

        kind, facts, given = self.peft_type, self.facts, self._given
        if kind in UNFIT:
            raise InputError(f"peft_type={kind}: it does not fit, as {UNFIT[kind]}; take another type.")
        fitting = [name for name in known_types() if name not in UNFIT]
        if kind not in fitting:
            what = f"peft has no such type.{nearest(kind, fitting)}" if kind else "strategy 'peft' needs a type."
            raise InputError(f"peft_type={kind}: {what} Known: {', '.join(fitting)} (flag --peft-type).")
        check_options(kind, given)
        if self.rank is not None and (not facts.rank or facts.rank.keys() & given.keys()):
            why = "its rank is among --peft-options" if facts.rank else "the type has no rank that this flag sets"
            raise InputError(f"rank={self.rank}: {why}; leave --rank out.")
        if self.lora_modules is not None and (facts.place != "linear" or "target_modules" in given):
            why = "--peft-options name the modules" if facts.place == "linear" else f"{kind} goes to modules of its own"
            raise InputError(f"lora_modules={self.lora_modules}: {why}; leave --lora-modules out.")
        if kind == "trainable_tokens" and not given.get("token_indices"):
            raise InputError(
                "peft_type=trainable_tokens: say which: --peft-options '{\"token_indices\": [1, 2]}' (ids of tokens)."
            )
        if facts.virtual and is_two_sided(backbone.model):
            raise InputError(
                f"peft_type={kind}: virtual tokens go before the text of a decoder or an encoder; "
                f"{backbone.name!r} is both, so take a type without them."
            )
        tokens, most = given.get("num_virtual_tokens", 1), backbone.max_positions - 1
        if not (type(tokens) is int and 1 <= tokens <= most):
            raise InputError(
                f"peft_options: num_virtual_tokens={tokens}: must be a whole number from 1 to {most}, as a text "
                f"follows them and {backbone.name!r} reads {most + 1} tokens at most (flag --peft-options)."
            )
        self.options_for(backbone)

    def options_for(self, backbone: "Backbone") -> dict[str, object]:
        """Every option for this backbone: those given, else the type's own, lowered to what its linear maps allow.

        Raises:
            InputError: the linear maps are of a class that the type does not work on.
        """
        from effft.models.adapter import bounds, defaults_of, lowered, target_paths

        facts, given = self.facts, self._given
        usual = {**defaults_of(self.peft_type), **facts.options}
        own = dict(facts.options)
        own |= {name: round(factor * self.rank) for name, factor in facts.rank.items() if self.rank}
        if facts.virtual or "target_modules" in given or "target_modules" not in usual:
            return own | given
        layers = given.pop("layers_to_transform", None) if facts.place == "linear" else None
        paths = target_paths(backbone, facts.place, self.lora_modules or "attention", layers)
        if paths is None:
            return own | given
        if not paths:
            raise InputError(f"peft_options: layers_to_transform={layers}: {backbone.name!r} has no such blocks.")
        own["target_modules"] = paths
        if facts.place == "ia3":
            own["feedforward_modules"] = []
        if facts.place not in ("linear", "ia3"):
            return own | given
        if not facts.conv1d and any(type(backbone.model.get_submodule(p)).__name__ == "Conv1D" for p in paths):
            working = ", ".join(name for name, known in TYPES.items() if known.conv1d and known.place == "linear")
            raise InputError(
                f"peft_type={self.peft_type}: the linear maps of {backbone.name!r} are of the class Conv1D, on which "
                f"this type does not work; take one of {working}."
            )
        limits = bounds(backbone.model, paths)
        for name, kind in facts.limits.items():
            value = own.get(name, usual[name])
            if isinstance(value, int) and name not in given:
                own[name] = lowered(value, kind, limits)
        return own | given

    def open(self, backbone: "Backbone", generator: "torch.Generator") -> "list[nn.Parameter]":
        """The adapter's parameters that train."""
        from effft.models.adapter import Adapter

        self.check(backbone)
        return Adapter(backbone, self.peft_type, self.options_for(backbone), generator).parameters
