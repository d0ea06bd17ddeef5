"""Files that are none or too many bytes, at every place where the command line takes the name of a file."""

import os
from pathlib import Path

from bad_numbers import SEARCH
from case import Case, odd

DOORS = {
    "compare --preset odd.yaml": "yaml",
    f"{SEARCH} --space odd.yaml": "yaml",
    f"{SEARCH} --study odd.yaml": "yaml",
    "pretrain --recipe odd.yaml": "yaml",
    "resend odd.jsonl": "jsonl",
    "run vanilla --task {task} --model {models}/llama --per-label 2 --tracking-uri sqlite:///odd.db": "db",
}
SAID = {"pipe (FIFO)": "this is a pipe", "socket": "this is a socket", "device": "a device", "loop": "Too many levels"}


def huge(folder: Path) -> None:
    """8 GB that take no room on the disk."""
    with (folder / "odd.yaml").open("wb") as file:
        os.truncate(file.fileno(), 8 << 30)


CASES = [
    Case(
        f"door: {door.split()[0]} {door.split()[-2]} {kind}",
        (f"odd.{suffix}", said),
        words=tuple(door.split()),
        make=make,
    )
    for door, suffix in DOORS.items()
    for kind, said, make in [
        *((kind, said, odd(kind, suffix)) for kind, said in SAID.items()),
        *([("of 8 GB", "bytes; 262,144 are the most", huge)] if suffix == "yaml" else []),
    ]
] + [
    Case(f"door: {words.split()[0]} {words.split()[-1]} of 5,000 characters", ("xxxx", said), words=tuple(line.split()))
    for words, said in {
        "compare --preset": "no such file",
        f"{SEARCH} --space": "no such file",
        f"{SEARCH} --storage": "File name too long",
        "run vanilla --per-label 2 --model {models}/llama --tracking-uri": "longer than names of files can be",
        "run vanilla --model": "longer than names of files can be",
        "predict --text x --model": "longer than names of files can be",
        "pretrain --out": "longer than names of files can be",
        "resend": "File name too long",
    }.items()
    for line in [words + (" sqlite:///" if "uri" in words or "storage" in words else " ./") + "x" * 5000 + ".yaml"]
]
