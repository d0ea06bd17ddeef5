"""Small things many tests share: a task about word lists, learners on tiny backbones, command lines, a bomb."""

from collections.abc import Callable
from pathlib import Path

import click
import torch

from effft.cli.app import app
from effft.data.examples import Example
from effft.models.backbone import Backbone, load
from effft.strategies.learner import Learner
from effft.strategies.prompting import PromptEncoder
from effft.strategies.strategy import Strategy
from effft.tasks.task import Task


class Bomb:
    """Unpickling this writes a file."""

    def __init__(self, ran: Path) -> None:
        self.ran = ran

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.ran,)


def parsed(words: list[str]) -> click.Context:
    """The command line as click reads it; nothing runs."""
    context, command = app.make_context("effft", [], resilient_parsing=True), app
    while isinstance(command, click.Group):
        command = command.get_command(context, words.pop(0))
    return command.make_context(command.name, words, parent=context)


SPLIT = {"sources": [{"file": "x.csv"}]}


def small_task(**changes: object) -> Task:
    """One text, two labels."""
    record = {
        "name": "small",
        "fields": ["text"],
        "labels": ["not", "are"],
        "label_words": {"not": " No", "are": " Yes"},
        "patterns": {"minimal": "{text} ?", "slot": "Question : {text} ?{answer}", "early": "{answer} : {text}"},
        "train": SPLIT,
        "in_domain": SPLIT,
    }
    return Task(**{**record, **changes})


EXAMPLES = tuple(
    Example((text,), label, index)
    for index, (text, label) in enumerate(
        [
            ("the cat sees dogs", 1),
            ("the cats sees a dog run", 0),
            ("old dogs see", 1),
            ("a dog", 0),
            ("the new cat runs . the old dogs see the cat", 1),
            ("cats", 0),
        ]
    )
)


def learner_on(
    folder: Path,
    strategy: Strategy,
    seed: int = 0,
    demos: tuple[Example, ...] = (),
    dtype: torch.dtype = torch.float32,
    precision: str = "fp32",
) -> Learner:
    """A learner on a freshly loaded backbone."""
    backbone: Backbone = load(str(folder), need_lm_head=strategy.needs_lm_head)
    backbone.model.to(dtype)
    task = small_task()
    reader = PromptEncoder(strategy, task, backbone, 64, demos)
    learner = Learner(strategy, task, backbone, reader, torch.Generator().manual_seed(seed), precision)
    if learner.head is not None:
        learner.head.to(dtype)
    return learner
