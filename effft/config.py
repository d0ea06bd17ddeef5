"""What a run is asked to do, validated before anything starts.

Every field is a command-line flag (`per_label` is `--per-label`), its docstring is the flag's help, and its group is a
section of the help. `None` means "the strategy's default".
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from effft import value_types as types
from effft.errors import InputError, nearest
from effft.spellings import with_data, with_peft


class Settings(BaseModel):
    """A group of settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), use_attribute_docstrings=True)


class TaskSettings(Settings):
    """The task, the draw of examples, and the seeds."""

    task: str = "agreement"
    """Task name (`effft tasks` lists them), or the path of a task file (.yaml) or of data."""
    data: str = ""
    """A file of labelled rows instead of a task: csv, tsv, txt, jsonl, parquet, also .gz, or a data set of the hub."""
    text: str = ""
    """Column of --data with the texts, or several with commas; found where it is not named."""
    label: str = ""
    """Column of --data with the labels, or several of 1 and 0, one for each label; found where it is not named."""
    ordinal: str = ""
    """Labels of --data in their order, comma-separated, where it means something: 'low,medium,high'."""
    test: str = ""
    """File with more rows like those of --data, for the evaluation in domain."""
    ood: str = ""
    """Files with rows of another kind, comma-separated, for the evaluation out of domain."""
    data_dir: str = ""
    """Folder with local copies of the task's files; the hub is not asked."""
    allow_outside: bool = False
    """Let a task file name files outside its own folder."""
    per_label: types.Positive | None = None
    """Labelled training examples per label; 32 where neither this nor --rows is given and the task has a test file."""
    rows: types.Rows | None = None
    """Labelled rows drawn as frequent as they are: a number, or all (the default of a task without a test file)."""
    data_seed: types.Seed = 0
    """Seed of the draw of training examples."""
    seed: types.Seed = 0
    """Seed of new parameters, dropout and the order of examples."""


class DifficultySettings(Settings):
    """How difficult a built-in task is; None means what the task's file says."""

    overlap_strength: types.Share | None = None
    """Built-in task `overlap`: share of the non-entailed pairs that a missing word gives away (0 to 1)."""
    lexicon_size: types.Lexicon | None = None
    """Built-in tasks: number of nouns in train and in domain (8 to 20)."""
    ood_distance: types.Share | None = None
    """Built-in tasks: share of the OOD rows made of held-out words (0 to 1)."""


class ModelSettings(Settings):
    """The pre-trained model and the hardware it runs on."""

    model: str = "tiny-lm"
    """Pre-trained model: tiny-lm (built in), a hub id, a local folder (also of a peft adapter), or a .gguf file."""
    revision: str = ""
    """Revision of a hub model: branch, tag or commit."""
    max_length: types.Positive = 256
    """Tokens per example; longer texts are cut (--cut), the pattern around them never."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Arithmetic of the model; auto takes bf16 where the hardware supports it and it is faster."""
    quantize: Literal["none", "nf4", "int8"] = "none"
    """Store the linear maps of a frozen model in 4 or 8 bits (needs CUDA and bitsandbytes)."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N; map or map:8GB spreads the layers over all devices (strategies that do not train)."""
    threads: types.Threads = 0
    """CPU threads; 0 takes one for a narrow model, else OMP_NUM_THREADS or all cores that the process may use."""


class PartSettings(Settings):
    """Parameters of the strategy's parts; None means the part's default."""

    cut: Literal["end", "start", "middle"] | None = None
    """What a text longer than --max-length loses; middle keeps its head and its tail."""
    windows: Literal["none", "mean", "max"] | None = None
    """Answer such a text by overlapping windows over all of it: the mean of their scores, or those of the surest."""
    pattern: str | None = None
    """Name of the task's pattern, by default its first; all averages the label scores over all of them."""
    shots: types.Count | None = None
    """Demonstrations in the prompt, at most as many as there are labelled examples."""
    demonstrations: Literal["balanced", "random", "nearest", "all"] | None = None
    """Which examples are shown: a draw, the nearest to each text by the model's own states, or all that fit."""
    demo_order: Literal["random", "nearest-last", "by-label"] | None = None
    """Order of the demonstrations."""
    demo_seed: types.Seed | None = None
    """Seed of the draw and the order of demonstrations; by default --data-seed."""
    chat: types.Chat | None = None
    """The model's own chat template: everything in one message of the user, or demonstrations as turns."""
    calibration: Literal["none", "contextual", "domain", "batch", "fitted"] | None = None
    """Correction of the label scores; batch reads all texts of a split at once (transductive)."""
    pooling: Literal["auto", "last", "first", "mean"] | None = None
    """Hidden state that the classifier reads; auto is the last token of a decoder and the mean of an encoder."""
    head_solver: Literal["solved", "gradient"] | None = None
    """How a classifier on a frozen model is fitted: solved (logistic regression), or by gradient steps."""
    head_start: Literal["auto", "random", "probe"] | None = None
    """Start of a classifier that trains with the model: random weights, or a solved probe (LP-FT); auto is the probe
    where every parameter trains on fewer than 32 examples per label."""
    label_words: str | None = None
    """Label words in label order, comma-separated; a space is put before each: 'No,Yes'."""
    label_score: Literal["auto", "first", "sum", "mean", "pmi"] | None = None
    """Score of a label word: log-probability of its first token, their sum, mean, or pmi; auto is first for words of
    one token each, else mean."""
    layers: types.Layers | None = None
    """Transformer blocks to train: how many at the top, or which, the lowest being 0: 0-3."""
    train_embeddings: bool | None = None
    """Train the embeddings too, and an LM head tied to them."""
    train_final_norm: bool | None = None
    """Train the final norm too."""
    rank: types.Positive | None = None
    """Rank of LoRA, or of a peft adapter that has one."""
    alpha: types.Scale | None = None
    """LoRA alpha; the update is scaled by alpha / rank."""
    lora_dropout: types.Fraction | None = None
    """Dropout before the LoRA matrices."""
    lora_modules: Literal["query_value", "attention", "all"] | None = None
    """Linear maps with a LoRA adapter: query and value, all of attention, or all of the block."""
    lora_init: Literal["default", "gaussian", "orthogonal", "pissa", "olora", "mica"] | None = None
    """Start of the LoRA matrices, by peft's names; default starts equal to the model."""
    rslora: bool | None = None
    """Scale the update of LoRA by alpha / sqrt(rank) (rsLoRA)."""
    dora: bool | None = None
    """Train the norms of the updated weights apart from their directions (DoRA)."""
    lora_plus: types.Scale | None = None
    """Learning rate of LoRA's B over that of its A (LoRA+; 16 is usual)."""
    peft_type: types.PeftType | None = None
    """Type of adapter, by peft's name, such as ia3, vera or prompt_tuning."""
    peft_options: types.JsonObject | None = None
    """Options of the adapter as JSON, by peft's names: '{"r": 8}'."""
    peft_config: str | None = None
    """An adapter_config.json of peft's, instead of --peft-type and --peft-options."""
    teacher_shots: types.Positive | None = None
    """Demonstrations in the teacher's prompt, at most as many as there are labelled examples."""
    temperature: types.Scale | None = None
    """Temperature of the distillation."""
    kl_weight: types.Share | None = None
    """Weight of the KL divergence; cross-entropy gets 1 - kl_weight."""
    unlabelled: types.Count | None = None
    """Unlabelled training texts that the student learns from as well."""


class TrainingSettings(Settings):
    """Optimization; without meaning for a strategy that does not train."""

    learning_rate: types.Rate | None = None
    """Peak learning rate; by default it depends on the strategy and the width of the model."""
    epochs: types.Positive | None = None
    """Passes over the training examples; by default 20, or 1 over the pairs of setfit."""
    steps: types.Count = 0
    """Optimizer steps; above 0 they replace --epochs."""
    batch_size: types.Positive = 16
    """Examples per optimizer step."""
    order_seed: types.Seed | None = None
    """Seed of the order in which examples come; without it --seed decides that too."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """Learning rate after the warm-up."""
    warmup: types.Fraction = 0.1
    """Share of the steps in which the learning rate rises."""
    weight_decay: types.NonNegative = 0.0
    """Decoupled weight decay, not applied to biases and norms."""
    clip_norm: types.NonNegative = 1.0
    """Largest norm of the gradient; 0 does not clip."""
    class_weights: Literal["none", "balanced"] = "none"
    """Weight of a label in cross-entropy; balanced makes rare labels count as much as frequent ones."""
    selection: Literal["last", "validation"] = "last"
    """Epoch to keep: the last, or the best on validation examples: as many as train; of --rows a fifth. They choose the
    penalty of a solved head."""
    patience: types.Count = 0
    """Epochs without a better validation score before training stops; 0 never stops early."""
    soup: types.Positive | None = None
    """Trainings from one start, each in an order of its own, whose weights are averaged (model soup)."""
    interpolation: types.Way | None = None
    """How far from the start (0) to the trained weights (1) the model goes (WiSE-FT): a share, or folds, which choose
    0, 0.25, 0.5, 0.75 or 1."""
    ensemble: types.Positive | None = None
    """Models, each trained without one of so many parts of the examples, whose scores are averaged."""


class EvaluationSettings(Settings):
    """What is measured and kept."""

    metric: Literal["", types.Metric] = ""
    """Primary metric, which selects epochs and champions; by default the task's (macro F1 where one label prevails)."""
    evaluation_limit: types.Count = 0
    """Examples evaluated per split, drawn at random; 0 evaluates all."""
    drop_leaks: bool = False
    """Leave out evaluation examples whose texts also occur in the training split."""
    cross_validation: types.FoldsByRepeats = "auto"
    """Out-of-fold estimate: folds x repeats (10x3), none, or auto: where the task has no in-domain test file."""
    forgetting: bool | None = None
    """Measure what training cost the model of its language: its loss on a neutral text, before and after."""
    bootstrap: types.Count = 1000
    """Bootstrap resamples for the 95 % intervals; 0 gives none."""
    log_model: bool = False
    """Keep the adapted model with the run, ready to load and to serve."""


class RunConfig(EvaluationSettings, TrainingSettings, PartSettings, ModelSettings, DifficultySettings, TaskSettings):
    """One run: a strategy, a task, a model, the training, the evaluation. Bounds are checked here and nowhere else."""

    strategy: str = "lora"
    """Strategy, or parts joined by '+': lora, pbft, lora+pbft."""


class Amount(NamedTuple):
    """How many labelled examples a run draws: of each label, or rows as frequent as they are (infinity = all)."""

    per_label: int = 0
    rows: float = 0

    @staticmethod
    def of(values: Mapping[str, Any]) -> "Amount":
        """That of the fields or the tags of a run."""
        rows = values.get("rows")
        return Amount(int(values.get("per_label") or 0), float("inf" if rows == "all" else str(rows or 0)))

    @property
    def phrase(self) -> str:
        """'32 per label', '64 rows'."""
        return f"{self} per label" if self.per_label else str(self)

    @property
    def examples(self) -> str:
        """'32 examples per label', '64 rows'."""
        return f"{self} examples per label" if self.per_label else str(self)

    @property
    def name(self) -> str:
        """As it stands in keys and names: '32', 'rows-64', 'rows-all'."""
        return str(self) if self.per_label else "rows-" + str(self).removesuffix(" rows")

    def __str__(self) -> str:
        if self.per_label:
            return str(self.per_label)
        return "all rows" if self.rows == float("inf") else f"{self.rows:.0f} rows"


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


DATA_FIELDS = ("data", "text", "label", "ordinal", "test", "ood")
"""Fields that make a task of files; without `data` they mean nothing."""
DIFFICULTY_FIELDS = tuple(DifficultySettings.model_fields)
PART_FIELDS = tuple(PartSettings.model_fields)
"""Fields that belong to a part of the strategy."""
TRAINING_FIELDS = tuple(TrainingSettings.model_fields)
"""Fields that mean something only where something trains."""
SECTIONS = {
    "Task and data": (*TaskSettings.model_fields, *DIFFICULTY_FIELDS),
    "Model": tuple(ModelSettings.model_fields),
    "Strategy": PART_FIELDS,
    "Training": TRAINING_FIELDS,
    "Evaluation": tuple(EvaluationSettings.model_fields),
}
"""Section of the help -> its fields; `strategy` is an argument or an option of its own."""

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
"""Pydantic's error types as sentences."""

MAX_SHOWN_CHARACTERS = 40
"""Characters of a value that an error repeats."""


def make_config(values: Mapping[str, Any]) -> RunConfig:
    """A RunConfig from strings of a command line or from numbers; '' and None count as not given.

    Raises:
        InputError: everything that is wrong, each with parameter, value and law.
    """
    known = RunConfig.model_fields
    for name in values:
        if name not in known:
            raise InputError(
                f"unknown parameter {name!r}.{nearest(name, known)} `python -m effft run --help` lists them."
            )
    given = {name: value for name, value in values.items() if value is not None and value != ""}
    if "per_label" in given and "rows" in given:
        raise InputError(
            f"per_label={given['per_label']} and rows={given['rows']}: give one of --per-label and --rows, not both."
        )
    try:
        return RunConfig(**with_data(with_peft(given), known["task"].default, DATA_FIELDS))
    except ValidationError as error:
        raise InputError(" ".join(_sentence(fault) for fault in error.errors())) from None


def _sentence(fault: Any) -> str:
    """One pydantic error as a sentence: parameter, value, law, flag, nearest valid value."""
    name, hint = str(fault["loc"][0]), ""
    bounds = {key: f"{b:.15g}" if isinstance(b, float) else b for key, b in fault.get("ctx", {}).items()}
    message = fault["msg"].removeprefix("Value error, ")
    law = CONSTRAINT_MESSAGES.get(fault["type"], "{message}").format(message=message, **bounds).replace("'', ", "")
    given = str(fault["input"])
    shown = given if len(given) <= MAX_SHOWN_CHARACTERS else f"{given[:MAX_SHOWN_CHARACTERS]}..."
    if fault["type"] == "literal_error":
        hint = nearest(given, re.findall(r"'(\w+)'", fault["ctx"]["expected"]))
    return f"{name}={shown}: {law} (flag --{name.replace('_', '-')}).{hint}"
