"""A small task on disk and tiny backbones beside it: what the tests of saved models and of the report run on."""

import csv
import random
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from backbones import WORDS, save_backbone

from effft.config import make_config
from effft.runs.experiment import Result, run
from effft.runs.session import Session
from effft.tracking.tracker import MemoryTracker, Tracker

TASK = """
name: dogs
fields: [text]
labels: [without, with_dog]
metric: mcc
label_words: {without: " No", with_dog: " Yes"}
patterns: {minimal: "{text} ?", question: "{text} Question : dog ?"}
splits:
  train: {file: train.csv}
  in_domain: {file: test.csv, slices: [length]}
  ood:
    far: {file: far.csv, slices: [length, [label, length]]}
"""

CHAT = (
    "{% for m in messages %}<s> {{ m.role }} {{ m.content }} </s> {% endfor %}"
    "{% if add_generation_prompt %}<s> good {% endif %}"
)
"""A chat template in the words of the tiny backbones."""


def write_rows(path: Path, size: int, seed: int, words: int) -> None:
    rng = random.Random(seed)
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["text", "label", "length"])
        for number in range(size):
            picked = [rng.choice(WORDS[4:14]) for _ in range(rng.randint(2, words))]
            if number % 2:
                picked[rng.randrange(len(picked))] = "dog"
            label = "with_dog" if "dog" in picked else "without"
            out.writerow([" ".join(picked), label, "long" if len(picked) > 5 else "short"])


def make_place(folder: Path, *kinds: str) -> Path:
    (folder / "task.yaml").write_text(TASK)
    for name, size, words in (("train", 120, 6), ("test", 60, 6), ("far", 40, 12)):
        write_rows(folder / f"{name}.csv", size, size, words)
    for kind in kinds:
        save_backbone(folder / kind, kind)
    return folder


@dataclass
class Copying(MemoryTracker):
    """Keeps a copy of the saved model."""

    to: Path = field(default_factory=Path)

    def model(self, folder: Path, metrics: Mapping[str, float]) -> str:
        shutil.copytree(folder, self.to)
        return super().model(folder, metrics)


def go(place: Path, tracker: Tracker, strategy: str, kind: str = "llama", **values: object) -> Result:
    base = {"task": str(place / "task.yaml"), "model": str(place / kind), "per_label": 8, "epochs": 2}
    config = make_config({**base, "strategy": strategy, "bootstrap": 20, "log_model": True, **values})
    return run(config, tracker, Session(keep=False))
