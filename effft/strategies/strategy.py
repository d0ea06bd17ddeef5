"""Names compose to a strategy; invalid combinations are rejected with an explanation."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, fields, replace

from effft.config import TRAINING_FIELDS
from effft.errors import InputError, lookup, nearest
from effft.strategies.parts import (
    ALL_PATTERNS,
    ClassifierHead,
    Contrastive,
    CrossEntropy,
    DistillKL,
    NoLoss,
    Part,
    Pattern,
    Pet,
    Plain,
    SolvedHead,
    Verbalizer,
)
from effft.strategies.peft_part import Peft
from effft.strategies.peft_types import TYPES
from effft.strategies.search_space import TRAINING_SPACE, Dimension, Range
from effft.strategies.trainable_parts import BitFit, Everything, LoRA, Nothing, TopLayers
from effft.tasks.task import Task

AXES = ("input", "head", "trainable", "loss")


@dataclass(frozen=True)
class Strategy:
    """How a pre-trained model meets a task: four independent choices."""

    name: str
    input: Part = Plain()
    head: Part = ClassifierHead()
    trainable: Part = Everything()
    loss: Part = CrossEntropy()

    def __post_init__(self) -> None:
        subject = f"strategy {self.name!r}"
        if isinstance(self.head, Verbalizer) and isinstance(self.input, Plain):
            raise InputError(
                f"{subject}: a verbalizer reads an answer slot, so its input must be a pattern; add '+pattern'."
            )
        if isinstance(self.loss, DistillKL) and not isinstance(self.head, Verbalizer):
            raise InputError(f"{subject}: the teacher answers through the LM head, so distillation needs a verbalizer.")
        if isinstance(self.loss, DistillKL) and isinstance(self.input, Pattern) and self.input.shots:
            raise InputError(
                f"{subject}: the student reads no demonstrations; --teacher-shots gives them to the teacher."
            )
        many = isinstance(self.input, Pattern) and self.input.pattern == ALL_PATTERNS
        if many and self.trains and isinstance(self.head, Verbalizer) and self.head.label_score == "pmi":
            raise InputError(
                f"{subject}: training with label_score=pmi reads one pattern; take another --pattern than all, or "
                "--label-score sum."
            )
        if isinstance(self.loss, Pet) and not isinstance(self.head, ClassifierHead):
            raise InputError(
                f"{subject}: the model that answers has the label words, what learns from it a new classifier; take "
                "vanilla+pet or lora+pet."
            )
        if isinstance(self.loss, Contrastive) and not self.solves_head:
            raise InputError(f"{subject}: pairs train no head, so it has to be solved; leave out --head-solver.")
        idle = isinstance(self.trainable, Nothing) and (
            isinstance(self.head, Verbalizer) or isinstance(self.loss, Contrastive)
        )
        if idle and not isinstance(self.loss, NoLoss):
            raise InputError(
                f"{subject}: nothing would train (frozen backbone, no new parameters); take probe, icl or zero_shot."
            )
        if isinstance(self.loss, NoLoss) and not idle:
            raise InputError(
                f"{subject}: {self.name.split('+')[0]!r} trains nothing, so it cannot hold a part that trains."
            )

    def check_task(self, task: Task) -> None:
        """Raise an InputError where a part cannot serve rows with several labels."""
        if task.multi_label and isinstance(self.loss, Pet):
            raise InputError(
                f"strategy {self.name!r} learns one label a row, but a row of task {task.name!r} can have several; "
                "leave '+pet' out."
            )
        if task.multi_label and isinstance(self.loss, Contrastive):
            raise InputError(
                f"strategy {self.name!r} tells pairs of one label from pairs of two, but a row of task {task.name!r} "
                "can have several; take 'probe' or 'lora'."
            )
        if task.multi_label and not isinstance(self.head, Verbalizer) and isinstance(self.input, Pattern):
            raise InputError(
                f"strategy {self.name!r}: a pattern of task {task.name!r} asks about one label, and a classifier "
                "answers for all of them; take 'pbft', or leave '+pattern' out."
            )

    @property
    def trains(self) -> bool:
        """Whether any parameter moves."""
        return not isinstance(self.loss, NoLoss)

    @property
    def needs_lm_head(self) -> bool:
        """Whether it answers with label words."""
        return isinstance(self.head, Verbalizer)

    @property
    def solves_head(self) -> bool:
        """Whether the head is solved, not trained."""
        return isinstance(self.head, SolvedHead) and self.head.head_solver == "solved"

    @property
    def takes_steps(self) -> bool:
        """Whether an optimizer moves anything."""
        return self.trains and not (self.solves_head and isinstance(self.trainable, Nothing))

    @property
    def calibrates_batches(self) -> bool:
        """Whether label scores are divided by their mean over the texts that are answered together."""
        return isinstance(self.head, Verbalizer) and self.head.calibration == "batch"

    @property
    def shots_name(self) -> str:
        """The parameter that counts the demonstrations: those of the teacher where there is one."""
        return "teacher_shots" if isinstance(self.loss, DistillKL) else "shots"

    @property
    def shots(self) -> int:
        """Demonstrations in a prompt of the strategy, or of its teacher."""
        return int(str(self.parameters.get(self.shots_name, 0)))

    @property
    def parts(self) -> tuple[Part, ...]:
        """The four choices, in the order of the axes."""
        return (self.input, self.head, self.trainable, self.loss)

    @property
    def parameters(self) -> dict[str, object]:
        """Every parameter of the parts, with its value."""
        return {f.name: getattr(part, f.name) for part in self.parts for f in fields(part)}

    def with_parameters(self, values: Mapping[str, object]) -> "Strategy":
        """A copy with the parts' parameters replaced; a name no part has is an InputError."""
        known = self.parameters
        for name in values:
            if name not in known:
                names = ", ".join(sorted(known)) or "none"
                raise InputError(
                    f"strategy {self.name!r} has no parameter {name!r}; it has: {names}.{nearest(name, known)}"
                )
        changed: dict[str, Part] = {}
        for axis in AXES:
            part: Part = getattr(self, axis)
            mine = {f.name: values[f.name] for f in fields(part) if f.name in values}
            changed[axis] = replace(part, **mine)
            if isinstance(part, Peft) and part.peft_type not in ("", mine.get("peft_type", part.peft_type)):
                raise InputError(
                    f"peft_type={mine['peft_type']}: strategy {self.name!r} has the type {part.peft_type!r}; take "
                    "strategy 'peft' with --peft-type."
                )
        kind = getattr(changed["trainable"], "peft_type", "")
        named = kind in TYPES and kind not in NAMES
        words = (kind if named and word == "peft" else word for word in self.name.split("+"))
        return Strategy("+".join(words), **changed)

    def without_meaning(self, name: str) -> InputError:
        """What is wrong with a setting of training where nothing trains."""
        flag = f"--{name.replace('_', '-')}"
        return InputError(f"strategy {self.name!r} trains nothing, so {flag} has no meaning; leave it out.")

    def default_learning_rate(self, width: int) -> float:
        """The rate when none is given, for a backbone of hidden size `width`."""
        return self.trainable.rate_at(width) * self.loss.rate_share

    def space(self, width: int) -> dict[str, Dimension]:
        """Where a search looks: the union of the parts' spaces; a decade on each side of the default learning rate.

        Demonstrations are searched only where the strategy shows some; calibration and the score of label words where
        nothing trains; pooling where the head alone is solved.
        """
        union = {name: dimension for part in self.parts for name, dimension in part.searched.items()}
        unused = [] if self.parameters.get("shots") else ["shots", "demonstrations"]
        unused += ["demonstrations", "calibration", "label_score"] if self.trains else []
        unused += ["pooling"] if self.takes_steps else []
        union = {name: dimension for name, dimension in union.items() if name not in unused}
        if not self.takes_steps:
            return union
        rate = self.default_learning_rate(width)
        usual = {"learning_rate": Range(rate / 10, rate * 10, log=True)} | union | TRAINING_SPACE
        return usual | union


@dataclass(frozen=True)
class NamedParts:
    """What a name stands for: one line for `--help`, the axes that it sets, and whether it is a strategy by itself."""

    summary: str
    axes: Mapping[str, Part]
    complete: bool = True


PATTERN_AND_WORDS: dict[str, Part] = {"input": Pattern(), "head": Verbalizer()}
NAMES = {
    "vanilla": NamedParts(
        "full fine-tuning with a new classifier",
        {"input": Plain(), "head": ClassifierHead(), "trainable": Everything()},
    ),
    "pbft": NamedParts(
        "pattern-based fine-tuning: full fine-tuning through the LM head and label words", PATTERN_AND_WORDS
    ),
    "adaptive": NamedParts("the top transformer blocks train, with a new classifier", {"trainable": TopLayers()}),
    "lora": NamedParts("LoRA adapters train, with a new classifier", {"trainable": LoRA()}),
    "dora": NamedParts("LoRA with norms of their own (DoRA)", {"trainable": LoRA(dora=True)}, complete=False),
    "peft": NamedParts("an adapter of any of peft's types (--peft-type)", {"trainable": Peft()}, complete=False),
    "bitfit": NamedParts("bias terms train, with a new classifier", {"trainable": BitFit()}),
    "probe": NamedParts("a linear classifier on the frozen backbone", {"head": SolvedHead(), "trainable": Nothing()}),
    "setfit": NamedParts(
        "SetFit: pairs of texts train every parameter, then a linear classifier is solved",
        {"head": SolvedHead(), "loss": Contrastive()},
    ),
    "context_distillation": NamedParts(
        "a LoRA student without demonstrations learns from the frozen model with them",
        PATTERN_AND_WORDS | {"trainable": LoRA(), "loss": DistillKL()},
    ),
    "icl": NamedParts(
        "in-context learning: demonstrations in the prompt, nothing trains",
        {"input": Pattern(shots=16), "head": Verbalizer(), "trainable": Nothing(), "loss": NoLoss()},
    ),
    "zero_shot": NamedParts(
        "the pattern and the label words alone, nothing trains",
        PATTERN_AND_WORDS | {"trainable": Nothing(), "loss": NoLoss()},
    ),
    "distill": NamedParts(
        "context distillation, to be joined with a trainable: distill, lora+distill, adaptive+distill",
        PATTERN_AND_WORDS | {"loss": DistillKL()},
        complete=False,
    ),
    "pet": NamedParts(
        "a classifier learns from a model that reads all patterns (PET), to be joined: vanilla+pet, lora+pet",
        {"loss": Pet()},
        complete=False,
    ),
    "pattern": NamedParts(
        "a pattern around the texts, to be joined: pattern+classifier is the PBFT of arXiv 2405.13181",
        {"input": Pattern()},
        complete=False,
    ),
    "classifier": NamedParts("a new linear classifier, to be joined", {"head": ClassifierHead()}, complete=False),
}
"""Every name of a strategy or of a part of one. `compose("lora+pbft")` joins them."""

PARTS = {name: named.axes for name, named in NAMES.items()}
PEFT_PARTS = {name: {"trainable": Peft(name)} for name in TYPES if name not in NAMES}
"""Every type of peft that is known is a name too: `ia3`, `vera+pbft`."""
SUMMARY = {name: named.summary for name, named in NAMES.items()}
NAMED = tuple(name for name, named in NAMES.items() if named.complete)
"""The strategies that have an entry point of their own; the other names serve compositions."""


def compose(spec: str) -> Strategy:
    """Join named parts, in any order: 'lora+pbft' equals 'pbft+lora' but for its name.

    Two names may set the same axis only to the same choice.

    Raises:
        InputError: an unknown name, a conflict, or choices that do not fit together.
    """
    chosen: dict[str, Part] = {}
    owner: dict[str, str] = {}
    for name in (word.strip() for word in spec.split("+")):
        for axis, choice in (PEFT_PARTS.get(name) or lookup("strategy", name, PARTS)).items():
            if axis in chosen and chosen[axis] != choice:
                raise InputError(
                    f"strategy {spec!r}: {owner[axis]!r} and {name!r} both set the {axis} "
                    f"({chosen[axis].about}; {choice.about}); keep one of them."
                )
            chosen[axis], owner[axis] = choice, name
    return Strategy("+".join(word.strip() for word in spec.split("+")), **chosen)


def check_trains(strategies: Sequence[Strategy], given: Container[str]) -> None:
    """Raise an InputError where a setting of training is given and none of the strategies trains."""
    idle = [name for name in TRAINING_FIELDS if name in given]
    if idle and not any(strategy.trains for strategy in strategies):
        raise strategies[0].without_meaning(idle[0])
