"""What can go wrong, said in sentences: the law, the value given, the nearest valid one, the remedy."""

import difflib
import json
import math
from collections.abc import Iterable, Mapping
from typing import TypeVar

from effft.redaction import redact

T = TypeVar("T")


class EffftError(Exception):
    """A failure with a sentence for the user, without secrets; the command line ends with `exit_code`."""

    exit_code = 1

    def __init__(self, sentence: object = "") -> None:
        super().__init__(redact(str(sentence)))


class InputError(EffftError, ValueError):
    """The user asked for something that cannot be; found before any training. Exit code 2."""

    exit_code = 2


class UnavailableError(InputError):
    """Data that cannot be had from here now: not on this machine, and no network or hub gives them."""


class RunError(EffftError):
    """Something failed while running (a loss that is not finite, a disk that is full). Exit code 1."""


class DivergedError(RunError):
    """A loss, a gradient or a score is no finite number; the same training diverges again."""


class MemoryShortError(RunError):
    """Memory is short, and no smaller part of the work is left."""


def shortened(name: object) -> str:
    """A name as a sentence shows it: at most 200 characters."""
    text = str(name)
    return text if len(text) <= 200 else f"{text[:200]}... ({len(text):,} characters)"


def quoted(text: str) -> str:
    """A text as YAML takes it, whatever it holds."""
    return json.dumps(text, ensure_ascii=False)


def positive(name: str, text: str, below: float = math.inf, law: str = "a number above 0") -> float:
    """The number that was given for a flag, above 0 and below `below`; anything else is an InputError."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < below:
        raise InputError(f"{name}={text}: must be {law} (flag --{name.replace('_', '-')}).")
    return value


def nearest(name: str, known: Iterable[str]) -> str:
    """' Did you mean 'x'?' for the known name closest to `name`, or '' when none is close."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def lookup(kind: str, name: str, table: Mapping[str, T]) -> T:
    """`table[name]`; an unknown name is an InputError that lists the known ones and the nearest."""
    try:
        return table[name]
    except KeyError:
        known = ", ".join(sorted(table))
        raise InputError(f"unknown {kind} {name!r}; known: {known}.{nearest(name, table)}") from None
