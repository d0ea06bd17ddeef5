"""One bad input: how a good start is spoilt, and what the sentence about it must say."""

import contextlib
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

Maker = Callable[[Path], None]


@dataclass(frozen=True)
class Case:
    """says: fragments of the sentence: where (file, key or flag), the value, the remedy.

    options: flags of `effft run STRATEGY`, over those of the good start. task: text replaced in the task file, or the
    whole of it. files: written beside the task file. make: does anything else to that folder.
    """

    name: str
    says: tuple[str, ...]
    options: Mapping[str, str] = field(default_factory=dict)
    strategy: str = "vanilla"
    task: tuple[str, str] | str | bytes = ""
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    make: Maker | None = None
    words: tuple[str, ...] = ()
    """A whole command instead."""


TASK = """\
name: mood
fields: [text]
labels: [bad, good]
label_words: {bad: " No", good: " Yes"}
patterns: {minimal: "{text} ?"}
train: train.csv
in_domain: {file: test.csv, slices: [label, [label, kind]]}
ood:
  tweets: {file: sub/tweets.jsonl, fields: {text: body}, label: {column: mood, map: {"-1": bad, "1": good}, drop: "0"}}
"""
TRAIN = "text,label\n" + "".join(f"the {w},bad\nold {w} runs,good\n" for w in ("cat", "dog", "cats", "dogs", "new"))
GOOD: dict[str, str | bytes] = {
    "train.csv": TRAIN,
    "test.csv": "kind,text,label\na,see cat,bad\nb,see dog,good\n",
    "sub/tweets.jsonl": '{"body": "x", "mood": 0}\n{"body": "old cat", "mood": -1.0}\n',
}


def odd(kind: str, suffix: str = "csv") -> Maker:
    """Makes `odd.csv`, which is no regular file."""

    def make(folder: Path) -> None:
        path = folder / f"odd.{suffix}"
        if kind == "pipe (FIFO)":
            os.mkfifo(path)
        elif kind == "socket":
            with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(folder):
                server.bind(path.name)
        else:
            path.symlink_to("/dev/zero" if kind == "device" else path.name)

    return make


def lay(folder: Path, case: Case) -> Path:
    """The good start in `folder`, spoilt; the task file."""
    (folder / "sub").mkdir()
    for name, content in {**GOOD, **case.files}.items():
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    text = case.task
    if isinstance(text, tuple):
        old, new = text
        assert old in TASK
        text = TASK.replace(old, new, 1)
    task = folder / "mood.yaml"
    task.write_bytes(text if isinstance(text, bytes) else (text or TASK).encode())
    if case.make:
        case.make(folder)
    return task
