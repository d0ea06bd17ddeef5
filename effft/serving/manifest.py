"""`effft.json`: what a saved model says of itself, and all that is needed to build it again."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from effft.errors import InputError
from effft.strategies.strategy import Strategy, compose
from effft.tasks.task import Task

MANIFEST_FILE = "effft.json"
FORMAT = 1


class StrictRecord(BaseModel):
    """Frozen, and strict about keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class BaseReference(StrictRecord):
    """The pre-trained model under the strategy: `inside` the folder, a `folder` elsewhere, or on the `hub`.

    sha256 covers configuration, tokenizer and weights of a folder; a hub model is pinned by its revision.
    """

    kind: Literal["inside", "folder", "hub"]
    name: str
    path: str = ""
    revision: str = ""
    sha256: str = ""


class Demonstration(StrictRecord):
    """A solved example that stands in every prompt."""

    texts: tuple[str, ...]
    label: int


class Manifest(StrictRecord):
    """weights: where what moved is: a PEFT `adapter`, the whole model in `base/`, `part` of it, or `none`.

    metrics: flat keys as the run logged them. run: the run's readable name. normalization: how a value becomes a text:
    `strip` writes numbers out and removes white space at both ends, `bytes_repr` also undoes Python's b'...'.
    """

    format: Literal[1] = 1
    run: str
    strategy: str
    parameters: dict[str, Any]
    task: dict[str, Any]
    base: BaseReference
    weights: Literal["adapter", "full", "part", "none"]
    precision: str
    max_length: int
    metric: str
    per_label: int
    seeds: tuple[int, int]
    normalization: Literal["strip", "bytes_repr"] = "strip"
    demonstrations: tuple[Demonstration, ...] = ()
    metrics: dict[str, float] = Field(default_factory=dict)

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
    def labels(self) -> tuple[str, ...]:
        """Label names in label order."""
        return tuple(self.task["labels"])


def answer_names(labels: Sequence[str]) -> tuple[str, ...]:
    """The names of an answer's values, in their order."""
    return ("label", "label_name", *(f"probability_{name}" for name in labels))


def write_manifest(folder: Path, record: Manifest) -> None:
    """As indented JSON."""
    (folder / MANIFEST_FILE).write_text(record.model_dump_json(indent=1) + "\n")


def read_manifest(folder: Path) -> Manifest:
    """The record of a saved model.

    Raises:
        InputError: the folder holds none, or one of another format.
    """
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise InputError(f"{folder} holds no {MANIFEST_FILE}, so it is not a model that effft saved.")
    try:
        return Manifest(**json.loads(path.read_text()))
    except (ValueError, TypeError, ValidationError) as error:
        said = " ".join(str(error).split())[:200]
        raise InputError(f"{path} cannot be read as format {FORMAT} of a saved model ({said}).") from None
