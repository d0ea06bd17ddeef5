"""The choices on three of the four axes; those of what trains are in `effft.strategies.trainable_parts`.

Every part is a small record. Its fields are the parameters a user may set (`rank=4`); each is also a field of
`effft.config.RunConfig` and a command-line flag of the strategies that hold the part.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from effft.strategies.search_space import ALL, Choice, Dimension, Range

if TYPE_CHECKING:
    import torch
    from torch import nn

    from effft.models.backbone import Backbone

TRANSDUCTIVE = " transductive"
"""After the name of what was calibrated on all texts of the split that it answers (a name of metrics, too)."""

ALL_PATTERNS = "all"
"""Name that stands for every pattern of a task."""


@dataclass(frozen=True)
class Part:
    """One choice on one axis.

    Attributes:
        about: what `effft strategies` prints.
        in_name: what the name of a run says of the part, with its parameters in braces.
        base_rate: for the trainable axis, the default learning rate at width 768.
        width_power: the power of 1 / width with which that rate falls in wider models; see `rate_at`.
        rate_share, epochs: for the loss axis, what the learning rate of the trainable is multiplied by, and the default
            number of passes.
        texts: for the loss axis, how many texts an example of a step has.
        keeps_weights: for the trainable axis, whether every pre-trained weight stays as it is, so that runs share them.
        space: where a search looks for the part's parameters (`alpha_ratio` stands for alpha / rank).
    """

    about: ClassVar[str] = ""
    in_name: ClassVar[str] = ""
    base_rate: ClassVar[float] = 1e-3
    width_power: ClassVar[float] = 1.0
    rate_share: ClassVar[float] = 1.0
    epochs: ClassVar[int] = 20
    texts: ClassVar[int] = 1
    keeps_weights: ClassVar[bool] = False
    space: ClassVar[Mapping[str, Dimension]] = {}

    @property
    def short(self) -> str:
        """What the name of a run says of this part; '' for nothing."""
        return self.in_name.format(**vars(self))

    def rate_at(self, width: int) -> float:
        """The default learning rate of a backbone of hidden size `width`, with these parameters."""
        return scaled_rate(self.base_rate, width, self.width_power)

    @property
    def searched(self) -> Mapping[str, Dimension]:
        """Where a search looks, with these parameters."""
        return self.space

    @property
    def shares_weights(self) -> bool:
        """Whether runs may share the pre-trained weights, with these parameters."""
        return self.keeps_weights

    @property
    def virtual_tokens(self) -> int:
        """Tokens before every text that are none of its own."""
        return 0

    @property
    def bf16(self) -> str:
        """How an adapter goes with a backbone in bf16; see `effft.strategies.peft_types.PeftType`."""
        return "beside"

    def rate_factor(self, name: str) -> float:
        """What the learning rate of a trained parameter of this name is multiplied by."""
        return 1.0

    def check(self, backbone: "Backbone") -> None:
        """Raise an InputError where this backbone cannot serve the part's parameters."""

    def open(self, backbone: "Backbone", generator: "torch.Generator") -> "list[nn.Parameter]":
        """For the trainable axis: return the parameters to train; new ones are put into the backbone first.

        Raises:
            InputError: this backbone cannot serve the part's parameters.
        """
        raise TypeError(f"{type(self).__name__} is no choice of what trains")


def scaled_rate(rate: float, width: int, power: float) -> float:
    """A rate at width 768 for another width: as 1 / width below, where it is measured, to the power given above.

    With Adam the best rate of a matrix whose sides both grow goes as 1 / width (power 1), that of a vector (a bias, a
    norm, a scale, an embedding) does not depend on it (power 0; Yang et al. 2022, arXiv 2203.03466, appendix B). For
    LoRA, powers of 0.08 (Qwen) and 0.78 (Llama) are reported (Schulman et al. 2025, "LoRA Without Regret"); 0.5 gives
    the 2e-4 of Dettmers et al. 2023, arXiv 2305.14314, at width 4,096.
    """
    return rate * (768 / width) ** (power if width > 768 else 1)


# ---- input: how an example becomes text -------------------------------------------------------------------------


@dataclass(frozen=True)
class Input(Part):
    """What the inputs share: how they read texts that are longer than fits.

    Args:
        cut: what such a text loses: its `end`, its `start` or its `middle`.
        windows: where an answer is asked for, read it whole instead, in windows that overlap: `mean` averages their
            label scores, `max` takes those of the surest window.
    """

    space: ClassVar[Mapping[str, Dimension]] = {
        "cut": Choice(("end", "start", "middle")),
        "windows": Choice(("none", "mean", "max")),
    }
    cut: str = "end"
    windows: str = "none"


@dataclass(frozen=True)
class Plain(Input):
    """The texts as they are; two texts go in as a pair."""

    about: ClassVar[str] = "the texts alone"


@dataclass(frozen=True)
class Pattern(Input):
    """The texts inside one of the task's patterns.

    Args:
        pattern: name of the pattern; '' is the task's first; `all` averages the label scores over all of them, as the
            ensemble of Schick and Schütze 2021 (section 3.3, uniform weights), by one model that trains on each.
        shots: solved examples (demonstrations) before every prompt.
        demonstrations: which ones: a `balanced` or `random` draw, the `nearest` to each text, or `all` that fit.
        demo_order: a `random` order, `nearest-last`, or `by-label`.
        demo_seed: seed of their draw and order; None takes that of the examples.
        chat: `off`, everything in `one` message of the user, or demonstrations as `turns`.

    References:
        Schick and Schütze 2021, arXiv 2001.07676 (patterns); Brown et al. 2020, arXiv 2005.14165 (demonstrations);
        Liu et al. 2022, arXiv 2101.06804 (nearest demonstrations).
    """

    about: ClassVar[str] = "a pattern around the texts"
    space: ClassVar[Mapping[str, Dimension]] = {
        **Input.space,
        "pattern": Choice(()),
        "shots": Range(1, ALL, log=True, whole=True),
        "demonstrations": Choice(("balanced", "nearest", "all")),
    }
    pattern: str = ""
    shots: int = 0
    demonstrations: str = "balanced"
    demo_order: str = "random"
    demo_seed: int | None = None
    chat: str = "off"

    @property
    def short(self) -> str:
        """The demonstrations, and whether all patterns are read."""
        which = "" if self.demonstrations == "balanced" else f"{self.demonstrations} "
        words = [f"{self.shots} {which}shots"] * bool(self.shots) + ["all patterns"] * (self.pattern == ALL_PATTERNS)
        return ", ".join(words)


# ---- head: how hidden states become label scores -----------------------------------------------------------------


@dataclass(frozen=True)
class ClassifierHead(Part):
    """A new linear layer on one pooled hidden state, trained together with what else trains.

    Args:
        pooling: `first`, `last` or `mean` token; `auto` is `last` for decoders and `mean` for encoders.
        head_start: `random` weights, or those of a solved `probe` of the model as it is loaded; `auto` is `probe` where
            every parameter trains on fewer than 32 examples a label.

    References:
        Kumar et al. 2022, arXiv 2202.10054 (the start at a probe: LP-FT).
    """

    about: ClassVar[str] = "a new linear classifier"
    pooling: str = "auto"
    head_start: str = "auto"


@dataclass(frozen=True)
class SolvedHead(Part):
    """A new linear layer on one pooled hidden state, fitted after whatever else trains: a logistic regression.

    Args:
        pooling: as in `ClassifierHead`.
        head_solver: `solved` to the optimum, or trained by `gradient` steps.
    """

    about: ClassVar[str] = "a new linear classifier, solved"
    space: ClassVar[Mapping[str, Dimension]] = {"pooling": Choice(("last", "first", "mean"))}
    pooling: str = "auto"
    head_solver: str = "solved"

    @property
    def short(self) -> str:
        """The solver, where it is not the usual one."""
        return "by gradient" if self.head_solver == "gradient" else ""


@dataclass(frozen=True)
class Verbalizer(Part):
    """The model's own language-modelling head, read at the answer slot for the label words.

    Args:
        label_words: one word per label, comma-separated; '' takes the task's.
        label_score: what a word of several tokens is worth: the log-probability of its `first` token, the `sum` or
            `mean` over its tokens, or `pmi`, the sum less that without texts; `auto` is `first` where all words are
            single different tokens, else `mean`.
        calibration: what the label scores are corrected by; see `effft.strategies.calibration`.
    """

    about: ClassVar[str] = "the LM head and label words"
    space: ClassVar[Mapping[str, Dimension]] = {
        "calibration": Choice(("none", "contextual", "domain", "fitted")),
        "label_score": Choice(("first", "sum", "mean", "pmi")),
        "label_words": Choice(()),
    }
    label_words: str = ""
    label_score: str = "auto"
    calibration: str = "none"

    @property
    def short(self) -> str:
        """The calibration."""
        how = "" if self.calibration == "none" else f"{self.calibration}-calibrated"
        return how + TRANSDUCTIVE * (self.calibration == "batch")


# ---- loss: what the scores are compared with ----------------------------------------------------------------------


@dataclass(frozen=True)
class CrossEntropy(Part):
    """Cross-entropy of the scores over the labels."""

    about: ClassVar[str] = "cross-entropy"


@dataclass(frozen=True)
class DistillKL(Part):
    """Context distillation: KL(teacher || student) over the labels, mixed with cross-entropy.

    The teacher is the frozen backbone with demonstrations in context; the student reads none.

    Args:
        teacher_shots: demonstrations that the teacher reads.
        temperature: divides the scores of both before they are compared.
        kl_weight: share of the KL term; 1 is distillation alone.
        unlabelled: further texts that the teacher reads too, of the task's `unlabelled` split, else of its pool; their
            labels are never used.

    References:
        Askell et al. 2021, arXiv 2112.00861; Snell et al. 2022, arXiv 2209.15189.
    """

    about: ClassVar[str] = "KL to a teacher that sees demonstrations"
    space: ClassVar[Mapping[str, Dimension]] = {
        "teacher_shots": Range(1, ALL, log=True, whole=True),
        "temperature": Range(0.5, 4.0, log=True),
        "kl_weight": Range(0.0, 1.0),
    }
    teacher_shots: int = 16
    temperature: float = 1.0
    kl_weight: float = 0.5
    unlabelled: int = 64


@dataclass(frozen=True)
class Pet(Part):
    """PET: a model that reads all patterns trains on the labelled rows, and answers texts without a label.

    A classifier learns from both: KL(answers || classifier), mixed with cross-entropy on the labelled rows.

    Args:
        temperature: divides the scores of both before they are compared.
        kl_weight: share of the KL term.
        unlabelled: how many texts are answered, of the task's `unlabelled` split, else of its pool.
        label_words: those of the model that answers, one per label, comma-separated; '' takes the task's.

    References:
        Schick and Schütze 2021, arXiv 2001.07676, sections 3.2 and 3.3.
    """

    about: ClassVar[str] = "KL to a model that reads all patterns"
    space: ClassVar[Mapping[str, Dimension]] = {"temperature": Range(0.5, 4.0, log=True), "kl_weight": Range(0.0, 1.0)}
    temperature: float = 2.0
    kl_weight: float = 0.5
    unlabelled: int = 256
    label_words: str = ""


@dataclass(frozen=True)
class Contrastive(Part):
    """Pairs of training texts: the cosine of their pooled states goes to 1 where they share a label, else to 0.

    Every pair that can be made is read once, those of the smaller kind again until both kinds are as many.

    References:
        Tunstall et al. 2022, arXiv 2209.11055 (SetFit; the rate is that of its authors' package at width 768).
    """

    about: ClassVar[str] = "cosine of pairs"
    rate_share: ClassVar[float] = 0.4
    epochs: ClassVar[int] = 1
    texts: ClassVar[int] = 2
    space: ClassVar[Mapping[str, Dimension]] = {"epochs": Range(1, 4, whole=True)}


@dataclass(frozen=True)
class NoLoss(Part):
    """Nothing is trained, so nothing is compared."""

    about: ClassVar[str] = "none"
