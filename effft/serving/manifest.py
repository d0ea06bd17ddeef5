"""`effft.json`: what a saved model says of itself, and all that is needed to build it again."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator

from effft.disk import SMALL_FILES, file_digest, read_text
from effft.errors import InputError
from effft.strategies.strategy import Strategy, compose
from effft.tasks.source import StrictModel
from effft.tasks.task import Task

MANIFEST_FILE, LARGEST = "effft.json", 1 << 26  # Its name, and the most bytes of it: it holds the demonstrations.
WeightsKind = Literal["adapter", "full", "part", "none"]

READ_SUFFIXES = (*SMALL_FILES, ".safetensors")
"""Files that a loader might read, so none of them may lie in a saved model beside those that were saved."""


class BaseReference(StrictModel):
    """The pre-trained model under the strategy: `inside` the folder, a `folder` elsewhere, or on the `hub`.

    sha256 covers configuration, tokenizer and weights of a folder (of an adapter or a GGUF file it is the digest of its
    weights); a hub model is pinned by its revision.
    """

    kind: Literal["inside", "folder", "hub"]
    name: str
    path: str = ""
    revision: str = ""
    sha256: str = ""


class Demonstration(StrictModel):
    """A solved example that stands in every prompt, or in those of the texts that it is near to."""

    texts: tuple[str, ...]
    label: int


class CalibrationRecord(StrictModel):
    """What `effft.strategies.calibration.Calibration` holds."""

    scale: float = Field(allow_inf_nan=False)
    bias: tuple[Annotated[float, Field(allow_inf_nan=False)], ...]


class RiskRecord(StrictModel):
    """What `effft.strategies.risk.RiskCurve` holds."""

    confidence: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(min_length=1)
    answered: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...]
    wrong: tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...]


class Member(StrictModel):
    """A saved model inside another one, which answers with the mean of the members' probabilities."""

    folder: str = Field(pattern=r"^members/\d+$")
    weight: float = Field(gt=0, le=1)


class Manifest(StrictModel):
    """weights: where what moved is: a PEFT `adapter`, the whole model in `base/`, `part` of it, or `none`.

    metrics: flat keys as the run logged them. run: the run's readable name. normalization: how a value becomes a text:
    `strip` writes numbers out and removes white space at both ends, `bytes_repr` also undoes Python's b'...'. files:
    SHA-256 of every other file in the folder by its relative name, but for the model card. members: where there are
    some, the model is their mean, and what is said of strategy, base and weights is that of the first one.
    """

    model_config = ConfigDict(ser_json_inf_nan="constants")

    format: Literal[1] = 1
    run: str
    strategy: str
    parameters: dict[str, Any]
    task: dict[str, Any]
    base: BaseReference
    weights: WeightsKind
    precision: str
    max_length: int
    metric: str
    per_label: int = 0
    rows: str = ""
    seeds: tuple[int, int]
    normalization: Literal["strip", "bytes_repr"] = "strip"
    demonstrations: tuple[Demonstration, ...] = ()
    calibration: CalibrationRecord | None = None
    risk: RiskRecord | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    members: tuple[Member, ...] = ()
    files: dict[str, str]

    @model_validator(mode="after")
    def _check(self) -> Self:
        task = self.read_task()
        answers = task.score_shape[-1]
        self.read_strategy()
        for shown in self.demonstrations:
            if not 0 <= shown.label < answers or len(shown.texts) != len(self.fields) + task.multi_label:
                raise ValueError("a demonstration does not fit the task's labels and fields")
        if self.risk is not None and len({len(values) for _, values in self.risk}) > 1:
            raise ValueError("the risk curve has not one count for each confidence")
        if self.calibration is not None and len(self.calibration.bias) != answers:
            raise ValueError("the calibration does not fit the task's labels")
        if self.members and abs(sum(member.weight for member in self.members) - 1) > 1e-6:
            raise ValueError("the weights of its members do not add up to 1")
        return self

    @property
    def method(self) -> str:
        """The strategy's name, or `average` where it is the mean of several models."""
        return "average" if self.members else self.strategy

    def read_strategy(self) -> Strategy:
        """The composed strategy with its parameters."""
        return compose(self.strategy).with_parameters(self.parameters)

    def read_task(self) -> Task:
        """The task; where its files lay matters no more."""
        return Task.model_validate(self.task, context={"allow_outside": True})

    @property
    def fields(self) -> tuple[str, ...]:
        """The text fields, in order."""
        return tuple(self.task["fields"])

    @property
    def multi_label(self) -> bool:
        """Whether a text can have several labels."""
        return bool(self.task.get("multi_label"))

    @property
    def answer_names(self) -> tuple[str, ...]:
        """The names of an answer's values, in their order."""
        given = ("labels",) if self.multi_label else ("label", "label_name")
        return (*given, *(f"probability_{name}" for name in self.labels))

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names in label order."""
        return tuple(self.task["labels"])


def hash_files(folder: Path) -> dict[str, str]:
    """Relative name -> SHA-256 of the files of a saved model, but for its manifest and its card."""
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return {name: file_digest(folder / name) for name in names if name not in (MANIFEST_FILE, "README.md")}


def read_manifest(folder: Path, verify: bool = False) -> Manifest:
    """The record of a saved model. verify: compare every file of the folder with it too.

    Raises:
        InputError: the folder holds none, or one of another format; a file is missing, was changed or added.
    """
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise InputError(f"{folder} holds no {MANIFEST_FILE}, so it is not a model that effft saved.")
    try:
        manifest = Manifest.model_validate_json(read_text(path, "manifest", LARGEST))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        reason = " ".join(first["msg"].removeprefix("Value error, ").split())[:300].rstrip(".")
        raise InputError(
            f"{path} cannot be read as format 1 of a saved model: {key + ': ' if key else ''}{reason}. "
            "Fetch the model again, or save it anew with --log-model true."
        ) from None
    present = hash_files(folder) if verify else manifest.files
    for name, digest in manifest.files.items():
        if present.get(name) != digest:
            what = "was changed after it was saved" if name in present else "is missing"
            raise InputError(f"the model in {folder}: its file {name} {what}; fetch the model again.")
    added = [name for name in present if name.endswith(READ_SUFFIXES) and name not in manifest.files]
    if added:
        raise InputError(
            f"the model in {folder}: {added[0]} is none of its files; remove it, or fetch the model again."
        )
    return manifest
