"""The choices on the four axes, and the names that stand for them.

Every part is a small record. Its fields are the parameters a user may set (`rank=4`); each is also a field of
`effft.config.RunConfig`, a command-line flag and an MLproject parameter of the strategies that hold the part.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from effft.errors import InputError
from effft.strategies.search_space import ALL, Choice, Dimension, PowersOfTwo, Range

if TYPE_CHECKING:
    import torch
    from torch import nn

    from effft.models.backbone import Backbone


@dataclass(frozen=True)
class Part:
    """One choice on one axis. `about` is what a person reads in `python -m effft strategies`.

    space: where a search looks for the part's parameters (`alpha_ratio` stands for alpha / rank). keeps_weights: for
    the trainable axis, whether every pre-trained weight stays what it is, so that runs can share them.
    """

    about: ClassVar[str] = ""
    keeps_weights: ClassVar[bool] = False
    space: ClassVar[Mapping[str, Dimension]] = MappingProxyType({})

    @property
    def short(self) -> str:
        """What a run's name says of this part; '' for nothing."""
        return ""

    def check(self, backbone: "Backbone") -> None:
        """Raise an InputError where this backbone cannot serve the part's parameters."""

    def open(self, backbone: "Backbone", generator: "torch.Generator") -> "list[nn.Parameter]":
        """For the trainable axis: the parameters that move; new ones are put into the backbone first."""
        raise TypeError(f"{type(self).__name__} is no choice of what trains")


# ---- input: how an example becomes text -------------------------------------------------------------------------


@dataclass(frozen=True)
class Plain(Part):
    """The texts as they are; two texts go in as a pair."""

    about: ClassVar[str] = "the texts alone"


@dataclass(frozen=True)
class Pattern(Part):
    """The texts inside one of the task's patterns, after `shots` solved examples (demonstrations)."""

    about: ClassVar[str] = "a pattern around the texts"
    space: ClassVar[Mapping[str, Dimension]] = MappingProxyType(
        {"pattern": Choice(()), "shots": Range(1, ALL, log=True, whole=True)}
    )
    pattern: str = ""
    shots: int = 0

    @property
    def short(self) -> str:
        """The demonstrations."""
        return f"{self.shots} shots" if self.shots else ""


# ---- head: how hidden states become label scores -----------------------------------------------------------------


@dataclass(frozen=True)
class Classifier(Part):
    """A new linear layer on one pooled hidden state."""

    about: ClassVar[str] = "a new linear classifier"
    pooling: str = "auto"


@dataclass(frozen=True)
class Verbalizer(Part):
    """The model's own language-modelling head, read at the answer slot for the label words."""

    about: ClassVar[str] = "the LM head and label words"
    label_words: str = ""


# ---- trainable: which pre-trained parameters move -----------------------------------------------------------------


@dataclass(frozen=True)
class Everything(Part):
    """All pre-trained parameters (full fine-tuning)."""

    about: ClassVar[str] = "every pre-trained parameter"

    def open(self, backbone: "Backbone", generator: "torch.Generator") -> "list[nn.Parameter]":
        """All of them."""
        return list(backbone.model.parameters())


@dataclass(frozen=True)
class TopLayers(Part):
    """The last `layers` transformer blocks; embeddings and final norm by their own switches."""

    about: ClassVar[str] = "the top transformer blocks"
    space: ClassVar[Mapping[str, Dimension]] = MappingProxyType({"layers": Range(1, ALL, whole=True)})
    layers: int = 2
    train_embeddings: bool = False
    train_final_norm: bool = False

    @property
    def short(self) -> str:
        """The blocks."""
        return f"top {self.layers}"

    def check(self, backbone: "Backbone") -> None:
        """More blocks than there are is an InputError."""
        count = len(backbone.layout.blocks)
        if self.layers > count:
            raise InputError(
                f"layers={self.layers}: {backbone.name!r} has {count} blocks, so at most {count} can train "
                "(flag --layers)."
            )

    def open(self, backbone: "Backbone", generator: "torch.Generator") -> "list[nn.Parameter]":
        """The last blocks', and what the switches add."""
        self.check(backbone)
        layout = backbone.layout
        modules = list(layout.blocks[-self.layers :])
        modules += layout.embeddings if self.train_embeddings else ()
        modules += layout.final_norms if self.train_final_norm else ()
        return [parameter for module in modules for parameter in module.parameters()]


@dataclass(frozen=True)
class LoRA(Part):
    """Low-rank deltas inside linear maps, scale alpha / rank, zero at the start (Hu et al. 2021, arXiv 2106.09685)."""

    about: ClassVar[str] = "low-rank deltas (LoRA)"
    keeps_weights: ClassVar[bool] = True
    space: ClassVar[Mapping[str, Dimension]] = MappingProxyType(
        {"rank": PowersOfTwo(1, 64), "alpha_ratio": PowersOfTwo(0.5, 4), "lora_modules": Choice(("attention", "all"))}
    )
    rank: int = 8
    alpha: float = 16.0
    lora_dropout: float = 0.0
    lora_modules: str = "attention"

    @property
    def short(self) -> str:
        """The rank."""
        return f"r{self.rank}"

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
        from effft.models.lora import add_lora

        self.check(backbone)
        return add_lora(backbone, self.rank, self.alpha, self.lora_dropout, self.lora_modules, generator)


@dataclass(frozen=True)
class BitFit(Part):
    """Bias terms only (Ben Zaken et al. 2022, arXiv 2106.10199).

    A block without any bias (Llama) is given zero biases on its linear maps: it starts equal to the backbone.
    """

    about: ClassVar[str] = "bias terms"

    def open(self, backbone: "Backbone", generator: "torch.Generator") -> "list[nn.Parameter]":
        """Every bias of the body, or the zero biases added to its blocks."""
        from effft.models.layout import add_biases

        named = backbone.body.named_parameters()
        return [p for name, p in named if name.endswith("bias")] or add_biases(backbone.body, backbone.layout)


@dataclass(frozen=True)
class Nothing(Part):
    """No pre-trained parameter moves."""

    about: ClassVar[str] = "no pre-trained parameter"
    keeps_weights: ClassVar[bool] = True

    def open(self, backbone: "Backbone", generator: "torch.Generator") -> "list[nn.Parameter]":
        """None."""
        return []


# ---- loss: what the scores are compared with ----------------------------------------------------------------------


@dataclass(frozen=True)
class CrossEntropy(Part):
    """Cross-entropy of the scores over the labels."""

    about: ClassVar[str] = "cross-entropy"


@dataclass(frozen=True)
class DistillKL(Part):
    """Context distillation: KL(teacher || student) over the labels, mixed with cross-entropy.

    The teacher is the frozen backbone with `teacher_shots` demonstrations in context; the student reads none
    (Snell et al. 2022, arXiv 2209.15189; Askell et al. 2021, arXiv 2112.00861). `kl_weight` 1 is distillation alone.
    `unlabelled` further texts from the pool are read by the teacher too; their labels are never used.
    """

    about: ClassVar[str] = "KL to a teacher that sees demonstrations"
    space: ClassVar[Mapping[str, Dimension]] = MappingProxyType(
        {
            "teacher_shots": Range(1, ALL, log=True, whole=True),
            "temperature": Range(0.5, 4.0, log=True),
            "kl_weight": Range(0.0, 1.0),
        }
    )
    teacher_shots: int = 16
    temperature: float = 1.0
    kl_weight: float = 0.5
    unlabelled: int = 64


@dataclass(frozen=True)
class NoLoss(Part):
    """Nothing is trained, so nothing is compared."""

    about: ClassVar[str] = "none"


PARTS: dict[str, dict[str, Part]] = {
    "vanilla": {"input": Plain(), "head": Classifier(), "trainable": Everything()},
    "pbft": {"input": Pattern(), "head": Verbalizer()},
    "adaptive": {"trainable": TopLayers()},
    "lora": {"trainable": LoRA()},
    "bitfit": {"trainable": BitFit()},
    "probe": {"head": Classifier(), "trainable": Nothing()},
    "context_distillation": {
        "input": Pattern(),
        "head": Verbalizer(),
        "trainable": LoRA(),
        "loss": DistillKL(),
    },
    "distill": {"input": Pattern(), "head": Verbalizer(), "loss": DistillKL()},
    "icl": {"input": Pattern(shots=16), "head": Verbalizer(), "trainable": Nothing(), "loss": NoLoss()},
    "zero_shot": {"input": Pattern(), "head": Verbalizer(), "trainable": Nothing(), "loss": NoLoss()},
    "pattern": {"input": Pattern()},
    "classifier": {"head": Classifier()},
}
"""Name -> the axes it sets. `compose("lora+pbft")` joins them."""

NAMED = (
    "vanilla",
    "pbft",
    "adaptive",
    "lora",
    "bitfit",
    "probe",
    "context_distillation",
    "icl",
    "zero_shot",
)
"""The strategies that have an MLflow entry point of their own; the other names serve compositions."""

SUMMARY = {
    "vanilla": "full fine-tuning with a new classifier",
    "pbft": "pattern-based fine-tuning: full fine-tuning through the LM head and label words",
    "adaptive": "the top transformer blocks train, with a new classifier",
    "lora": "LoRA adapters train, with a new classifier",
    "bitfit": "bias terms train, with a new classifier",
    "probe": "a linear classifier on the frozen backbone",
    "context_distillation": "a LoRA student without demonstrations learns from the frozen model with them",
    "icl": "in-context learning: demonstrations in the prompt, nothing trains",
    "zero_shot": "the pattern and the label words alone, nothing trains",
    "distill": "context distillation, to be joined with a trainable: distill, lora+distill, adaptive+distill",
    "pattern": "a pattern around the texts, to be joined: pattern+classifier is the PBFT of arXiv 2405.13181",
    "classifier": "a new linear classifier, to be joined",
}
"""One line a name, for `--help` and `python -m effft strategies`."""
