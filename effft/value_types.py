"""The types of the values that a run is configured with: their bounds, and how they are spelled."""

import json
import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

LARGEST_OPTIONS = 100_000  # Characters of a JSON object of options.
LARGEST_INTEGER = 10**9  # Catches typos; the real limits come from the task and the model.

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
Metric = Literal[
    "accuracy", "balanced_accuracy", "mcc", "macro_f1", "quadratic_kappa", "micro_f1", "subset_accuracy",
    "worst_slice_accuracy",
]  # fmt: skip


def _rows(value: object) -> str:
    text = str(value)
    if text != "all" and not (re.fullmatch(r"[0-9]{1,9}", text) and int(text)):
        raise ValueError("must be all, or a whole number of at least 1")
    return text if text == "all" else str(int(text))


def _folds(value: object) -> str:
    text = str(value)
    found = re.fullmatch(r"([0-9]{1,4})x([0-9]{1,3})", text)
    if text not in ("auto", "none") and not (found and int(found[1]) > 1 and int(found[2])):
        raise ValueError("must be auto, none, or folds x repeats such as 10x3, with at least 2 folds and 1 repeat")
    return text


def _layers(value: object) -> int | str:
    text = str(value).removesuffix(".0")
    found = re.fullmatch(r"([0-9]{1,4})-([0-9]{1,4})", text)
    if found and int(found[1]) <= int(found[2]):
        return text
    if not (re.fullmatch(r"[0-9]{1,9}", text) and int(text)):
        raise ValueError("must be a whole number of at least 1, or a range of blocks such as 0-3, the lowest being 0")
    return int(text)


def _way(value: object) -> float | str:
    text = str(value)
    if text == "folds":
        return text
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ValueError("must be a share from 0 to 1, or folds, which choose it")
    return share


def _peft_type(value: object) -> str:
    return str(value).strip().lower().replace("-", "_")


def _json_object(value: object) -> str:
    """Options as canonical JSON, whether given as text or, from YAML and Python, as a mapping."""
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or len(text := json.dumps(found, sort_keys=True)) > LARGEST_OPTIONS:
        raise ValueError('must be a JSON object such as {"r": 8}')
    return text


Layers = Annotated[int | str, BeforeValidator(_layers)]
Way = Annotated[float | str, BeforeValidator(_way)]
Rows = Annotated[str, BeforeValidator(_rows)]
JsonObject = Annotated[str, BeforeValidator(_json_object)]
PeftType = Annotated[str, BeforeValidator(_peft_type)]
FoldsByRepeats = Annotated[str, BeforeValidator(_folds)]


Chat = Annotated[
    Literal["off", "one", "turns"], BeforeValidator(lambda value: "off" if value in (False, "false") else value)
]
"""YAML reads a bare `off` as false."""
