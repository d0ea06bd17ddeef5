"""The choices of what trains: all of the model, some of its blocks, low-rank deltas, biases, nothing.

Adapters of peft are in `effft.strategies.peft_part`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from effft.errors import InputError
from effft.strategies.parts import Part
from effft.strategies.search_space import ALL, Choice, Dimension, PowersOfTwo, Range

if TYPE_CHECKING:
    import torch
    from torch import nn

    from effft.models.backbone import Backbone


@dataclass(frozen=True)
class Everything(Part):
    """All pre-trained parameters (full fine-tuning)."""

    about: ClassVar[str] = "every pre-trained parameter"
    base_rate: ClassVar[float] = 5e-5

    def open(self, backbone: "Backbone", generator: "torch.Generator") -> "list[nn.Parameter]":
        """All of them."""
        return list(backbone.model.parameters())


@dataclass(frozen=True)
class TopLayers(Part):
    """The last transformer blocks, or a range of them; of an encoder-decoder with its LM head, those of both halves.

    Args:
        layers: how many blocks at the top train (of each half), or which, the lowest being 0: `0-3`.
        train_embeddings: whether the embeddings train too.
        train_final_norm: whether the final norm trains too.

    References:
        Lee et al. 2023, arXiv 2210.11466 (which blocks to train: surgical fine-tuning).
    """

    about: ClassVar[str] = "the top transformer blocks"
    base_rate: ClassVar[float] = 2e-4
    space: ClassVar[Mapping[str, Dimension]] = {"layers": Range(1, ALL, whole=True)}
    layers: int | str = 2
    train_embeddings: bool = False
    train_final_norm: bool = False

    @property
    def short(self) -> str:
        """Which blocks."""
        return f"top {self.layers}" if isinstance(self.layers, int) else f"blocks {self.layers}"

    @property
    def blocks(self) -> slice:
        """Their places."""
        if isinstance(self.layers, int):
            return slice(-self.layers, None)
        first, last = map(int, self.layers.split("-"))
        return slice(first, last + 1)

    def check(self, backbone: "Backbone") -> None:
        """More blocks than there are is an InputError."""
        count = backbone.layout.depth
        if isinstance(self.layers, str) and self.blocks.stop > count:
            raise InputError(
                f"layers={self.layers}: the blocks of {backbone.name!r} are 0-{count - 1} (flag --layers)."
            )
        if isinstance(self.layers, int) and self.layers > count:
            raise InputError(
                f"layers={self.layers}: {backbone.name!r} has {count} blocks, so at most {count} can train "
                "(flag --layers)."
            )

    def open(self, backbone: "Backbone", generator: "torch.Generator") -> "list[nn.Parameter]":
        """The last blocks', and what the switches add."""
        self.check(backbone)
        layout = backbone.layout
        modules = [block for stack in layout.stacks for block in stack[self.blocks]]
        modules += layout.embeddings if self.train_embeddings else ()
        modules += layout.final_norms if self.train_final_norm else ()
        return [parameter for module in modules for parameter in module.parameters()]


@dataclass(frozen=True)
class LoRA(Part):
    """Low-rank deltas inside linear maps, scaled by alpha / rank and zero at the start.

    Args:
        rank: rank of the deltas, at most the smallest adapted side.
        alpha: scale of the deltas, before it is divided by the rank.
        lora_dropout: dropout on the input of the deltas.
        lora_modules: linear maps that are adapted: `query_value`, all of `attention`, or `all` of the blocks.
        lora_init: `default` (A random, B zero), or another start of peft's that needs no data. `pissa` and `olora` take
            the main directions of the weights out of the model and into A and B.
        rslora: scale the deltas by alpha / sqrt(rank).
        dora: train the norm of every output apart from its direction.
        lora_plus: learning rate of B over that of A.

    References:
        Hu et al. 2021, arXiv 2106.09685; Kalajdzievski 2023, arXiv 2312.03732 (rsLoRA); Liu et al. 2024,
        arXiv 2402.09353 (DoRA); Hayou et al. 2024, arXiv 2402.12354 (LoRA+); Meng et al. 2024,
        arXiv 2404.02948 (PiSSA).
    """

    about: ClassVar[str] = "low-rank deltas (LoRA)"
    base_rate: ClassVar[float] = 5e-4
    width_power: ClassVar[float] = 0.5
    in_name: ClassVar[str] = "r{rank}"
    keeps_weights: ClassVar[bool] = True
    space: ClassVar[Mapping[str, Dimension]] = {
        "rank": PowersOfTwo(1, 64),
        "alpha_ratio": PowersOfTwo(0.5, 4),
        "lora_modules": Choice(("attention", "all")),
    }
    rank: int = 8
    alpha: float = 16.0
    lora_dropout: float = 0.0
    lora_modules: str = "attention"
    lora_init: str = "default"
    rslora: bool = False
    dora: bool = False
    lora_plus: float = 1.0

    @property
    def is_plain(self) -> bool:
        """Whether it is LoRA as first described, which `effft.models.lora` makes."""
        return self.lora_init == "default" and not (self.rslora or self.dora)

    @property
    def shares_weights(self) -> bool:
        """Some starts change the pre-trained weights."""
        return self.lora_init == "default"

    def rate_factor(self, name: str) -> float:
        """That of B."""
        return self.lora_plus if ".lora_B." in name else 1.0

    def check(self, backbone: "Backbone") -> None:
        """A rank above the smallest adapted dimension is an InputError."""
        smallest = self.highest_rank(backbone, self.lora_modules)
        if self.rank > smallest:
            raise InputError(f"rank={self.rank}: must be at most {smallest}, the smallest adapted side (flag --rank).")

    @staticmethod
    def highest_rank(backbone: "Backbone", lora_modules: str) -> int:
        """The smallest side of the linear maps that are adapted."""
        from effft.models.layout import in_out_features, linear_paths

        body = backbone.body
        paths = linear_paths(body, backbone.layout, lora_modules)
        return min(side for path in paths for side in in_out_features(body.get_submodule(path)))

    def open(self, backbone: "Backbone", generator: "torch.Generator") -> "list[nn.Parameter]":
        """The new A and B of every adapted linear map."""
        from effft.models.adapter import Adapter, target_paths
        from effft.models.layout import linear_paths
        from effft.models.lora import add_lora

        self.check(backbone)
        if not self.is_plain:
            options: dict[str, object] = {"r": self.rank, "lora_alpha": self.alpha, "lora_dropout": self.lora_dropout}
            options |= {"use_rslora": self.rslora, "use_dora": self.dora}
            options |= {} if self.lora_init == "default" else {"init_lora_weights": self.lora_init}
            options |= {"target_modules": target_paths(backbone, "linear", self.lora_modules)}
            return Adapter(backbone, "lora", options, generator).parameters
        paths = linear_paths(backbone.body, backbone.layout, self.lora_modules)
        return add_lora(backbone.body, paths, self.rank, self.alpha, self.lora_dropout, generator)


@dataclass(frozen=True)
class BitFit(Part):
    """Bias terms only. Blocks without any (Llama, T5) get zero biases on linear maps, which change nothing at first.

    References:
        Ben Zaken et al. 2022, arXiv 2106.10199.
    """

    about: ClassVar[str] = "bias terms"
    width_power: ClassVar[float] = 0.0

    def open(self, backbone: "Backbone", generator: "torch.Generator") -> "list[nn.Parameter]":
        """Every bias of the body, or the zero biases added to its blocks."""
        from effft.models.layout import add_biases

        named = backbone.body.named_parameters()
        return [p for name, p in named if name.endswith("bias")] or add_biases(backbone.body, backbone.layout)


@dataclass(frozen=True)
class Nothing(Part):
    """No pre-trained parameter moves."""

    about: ClassVar[str] = "no pre-trained parameter"
    base_rate: ClassVar[float] = 2e-3
    keeps_weights: ClassVar[bool] = True

    def open(self, backbone: "Backbone", generator: "torch.Generator") -> "list[nn.Parameter]":
        """None."""
        return []
