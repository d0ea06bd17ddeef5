"""The one record of what a run is asked to do, validated before anything starts.

A field here is a command-line flag (`per_label` is `--per-label`) and an MLproject parameter of the same name.
`None` means "the strategy's default".
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from effft.errors import InputError, nearest

LARGEST_INTEGER = 10**9
"""More of anything is a slip of the finger; what is sensible the task and the model say."""

Count = Annotated[int, Field(ge=0, le=LARGEST_INTEGER)]
Positive = Annotated[int, Field(ge=1, le=LARGEST_INTEGER)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Rate = Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
Lexicon = Annotated[int, Field(ge=8, le=20)]
Scale = Annotated[float, Field(ge=1e-6, le=1e6, allow_inf_nan=False)]
Threads = Annotated[int, Field(ge=0, le=1024)]


class RunConfig(BaseModel):
    """One run: a strategy, a task, a backbone, the shots, the training, the evaluation.

    Field descriptions are the help texts; bounds are checked here and nowhere else.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    strategy: str = Field("lora", description="strategy, or parts joined by '+': lora, pbft, lora+pbft, ...")
    task: str = Field("agreement", description="task name, or the path of a task file (.yaml)")
    model: str = Field("tiny-lm", description="backbone: tiny-lm (built in), a hub id, or a local folder")
    revision: str = Field("", description="revision of a hub model (branch, tag or commit)")
    data_dir: str = Field("", description="folder with local copies of the task's files; no hub is asked then")
    allow_outside: bool = Field(False, description="let a task file name files outside its own folder")
    per_label: Positive = Field(32, description="labelled training examples per label")
    seed: Seed = Field(0, description="seed of head, adapter, dropout and order")
    data_seed: Seed = Field(0, description="seed of the few-shot draw: which examples")

    overlap_strength: Share | None = Field(
        None, description="built-in overlap: share of the not entailed pairs that a missing word gives away (0 to 1)"
    )
    lexicon_size: Lexicon | None = Field(None, description="built-in tasks: nouns in train and in domain (8 to 20)")
    ood_distance: Share | None = Field(
        None, description="built-in tasks: share of the OOD rows made of held-out words (0 to 1)"
    )

    pattern: str | None = Field(None, description="name of the task's pattern ('' = the task's first)")
    shots: Count | None = Field(None, description="demonstrations in the prompt (capped by the labelled examples)")
    pooling: Literal["auto", "last", "first", "mean"] | None = Field(
        None,
        description="hidden state the classifier reads (auto: last token of a decoder, mean of an encoder)",
    )
    label_words: str | None = Field(
        None, description="label words in label order, comma-separated, a space is put before each: 'No,Yes'"
    )
    layers: Positive | None = Field(None, description="top transformer blocks that train")
    train_embeddings: bool | None = Field(None, description="train the embeddings (and a tied LM head) too")
    train_final_norm: bool | None = Field(None, description="train the final norm too")
    rank: Positive | None = Field(None, description="LoRA rank")
    alpha: Scale | None = Field(None, description="LoRA alpha; the delta is scaled by alpha / rank")
    lora_dropout: Fraction | None = Field(None, description="dropout before the LoRA matrices")
    lora_modules: Literal["query_value", "attention", "all"] | None = Field(
        None, description="linear maps with a LoRA delta: query and value, all of attention, all of the block"
    )
    teacher_shots: Positive | None = Field(None, description="demonstrations the teacher sees")
    temperature: Scale | None = Field(None, description="temperature of the distillation")
    kl_weight: Share | None = Field(None, description="weight of KL; cross-entropy has 1 - kl_weight")
    unlabelled: Count | None = Field(None, description="unlabelled pool texts the student learns from as well")

    learning_rate: Rate | None = Field(None, description="peak learning rate (default: by strategy and width)")
    epochs: Positive = Field(20, description="passes over the training examples")
    steps: Count = Field(0, description="optimizer steps; when above 0 it replaces epochs")
    batch_size: Positive = Field(16, description="examples an optimizer step")
    schedule: Literal["linear", "cosine", "constant"] = Field("linear", description="decay after the warm-up")
    warmup: Fraction = Field(0.1, description="share of the steps with a rising learning rate")
    weight_decay: NonNegative = Field(0.0, description="decoupled weight decay (not on biases and norms)")
    clip_norm: NonNegative = Field(1.0, description="gradient norm is clipped to this (0 = off)")
    selection: Literal["last", "validation"] = Field(
        "last",
        description="which epoch is kept: the last, or the best on a validation draw as small as the shots",
    )
    patience: Count = Field(0, description="epochs without a better validation before stopping (0 = off)")

    max_length: Positive = Field(256, description="tokens of one example; longer texts are cut, answer slots never")
    metric: str = Field("", description="metric that selects epochs ('' = the task's own)")
    evaluation_limit: Count = Field(0, description="examples evaluated a split, drawn at random (0 = all)")
    drop_leaks: bool = Field(False, description="leave out evaluation examples whose texts also occur in train")
    bootstrap: Count = Field(1000, description="bootstrap resamples for the 95 % intervals (0 = none)")
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="arithmetic of the backbone (auto: bf16 where the hardware has it and it is faster)"
    )
    quantize: Literal["none", "nf4", "int8"] = Field(
        "none", description="store the linear maps of a frozen backbone in 4 or 8 bits (CUDA, bitsandbytes)"
    )
    device: str = Field(
        "auto", description="auto, cpu, cuda, cuda:N; map or map:8GB: spread over all (where nothing trains)"
    )
    threads: Threads = Field(0, description="CPU threads (0 = one for a narrow model, else all cores)")
    log_model: bool = Field(False, description="keep the adapted model with the run, ready to load and to serve")


@dataclass(frozen=True)
class TrackingTarget:
    """Where a command keeps its runs: every command that writes runs takes one of these.

    Args:
        uri: MLflow tracking URI ('' = MLFLOW_TRACKING_URI, else ./mlflow.db).
        experiment: MLflow experiment ('' = effft/<task>).
        disabled: Keep nothing (`--no-tracking`).
    """

    uri: str = ""
    experiment: str = ""
    disabled: bool = False


CONSTRAINT_MESSAGES = {
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "must be a whole number with fewer digits",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_parsing": "must be true or false",
    "literal_error": "must be one of {expected}",
}
"""Pydantic's fault types in our words."""

DIFFICULTY_FIELDS = ("overlap_strength", "lexicon_size", "ood_distance")
"""Fields that turn a knob of a built-in task; None = as the task's file says."""

PART_FIELDS = (
    "pattern", "shots", "pooling", "label_words", "layers", "train_embeddings", "train_final_norm", "rank", "alpha",
    "lora_dropout", "lora_modules", "teacher_shots", "temperature", "kl_weight", "unlabelled",
)  # fmt: skip
"""Fields that belong to a part of the strategy; None = the part's default."""

TRAINING_FIELDS = (
    "learning_rate", "epochs", "steps", "batch_size", "schedule", "warmup", "weight_decay", "clip_norm",
    "selection", "patience",
)  # fmt: skip
"""Fields that mean something only where something trains."""


MAX_SHOWN_CHARACTERS = 40
"""Characters of a value that a sentence repeats."""


def make_config(values: Mapping[str, Any]) -> RunConfig:
    """A RunConfig from loose values (strings from a command line or numbers); '' counts as not given.

    Raises:
        InputError: all faults at once, each with parameter, value and law.
    """
    known = RunConfig.model_fields
    for name in values:
        if name not in known:
            raise InputError(
                f"unknown parameter {name!r}.{nearest(name, known)} `python -m effft run --help` lists them."
            )
    given = {name: value for name, value in values.items() if value is not None and value != ""}
    try:
        return RunConfig(**given)
    except ValidationError as error:
        raise InputError(" ".join(_sentence(fault) for fault in error.errors())) from None


def _sentence(fault: Any) -> str:
    """One pydantic fault as a sentence: parameter, value, law, flag, nearest valid value."""
    name, hint = str(fault["loc"][0]), ""
    bounds = {key: f"{b:.15g}" if isinstance(b, float) else b for key, b in fault.get("ctx", {}).items()}
    law = CONSTRAINT_MESSAGES.get(fault["type"], fault["msg"]).format(**bounds)
    given = str(fault["input"])
    shown = given if len(given) <= MAX_SHOWN_CHARACTERS else f"{given[:MAX_SHOWN_CHARACTERS]}..."
    if fault["type"] == "literal_error":
        hint = nearest(str(fault["input"]), re.findall(r"'(\w+)'", fault["ctx"]["expected"]))
    return f"{name}={shown}: {law} (flag --{name.replace('_', '-')}).{hint}"
