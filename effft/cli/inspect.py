"""`effft show TASK`: what the model reads."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from effft.cli.options import option
from effft.config import make_config

if TYPE_CHECKING:
    from effft.data.examples import Example
    from effft.runs.plan import Plan
    from effft.strategies.prompting import PromptEncoder

FIELDS = (
    "model", "revision", "data_dir", "allow_outside", "per_label", "data_seed", "pattern", "shots", "teacher_shots",
    "label_words", "max_length",
)  # fmt: skip
"""The RunConfig fields that change what a model reads."""

EXAMPLES = """\
\b
Examples:
  effft show agreement
  effft show overlap --strategy icl --shots 4 --examples 1 --split ood/far
  effft show my_task.yaml --strategy vanilla --model path/to/model
"""


def start(task: str, strategy: str, split: str, examples: int, **values: str | None) -> None:
    """Make everything a run would make, and print the prompts instead of training."""
    config = make_config({**values, "task": task, "strategy": strategy})
    from effft.runs.plan import prepare
    from effft.runs.session import Session

    plan = prepare(config, Session())
    for line in lines(plan, split, examples):
        click.echo(line)


def lines(plan: "Plan", split: str, count: int) -> Iterator[str]:
    """The head, then `count` examples of a split."""
    from effft.errors import lookup

    examples = lookup(
        "split", split, {"train": plan.few_shot.train} | {n: s.examples for n, s in plan.evaluated.items()}
    )
    pattern = plan.resolved.settings.get("pattern")
    about = f", pattern {pattern!r}" if pattern else ""
    yield f"task {plan.task.name}, strategy {plan.strategy.name}, backbone {plan.config.model}{about}"
    for note in plan.notes:
        yield f"note: {note}"
    for who, reader in readers(plan):
        yield from words(reader, plan)
        for example in examples[:count]:
            yield ""
            yield from prompt(reader, example, plan.task.labels[example.label], f"{who}{split}")


def readers(plan: "Plan") -> "Iterator[tuple[str, PromptEncoder]]":
    """The strategy's reader; with distillation, the student's and the teacher's."""
    from effft.strategies.parts import DistillKL, Verbalizer
    from effft.strategies.prompting import PromptEncoder

    backbone = plan.session.pristine_backbone(plan.config, isinstance(plan.strategy.head, Verbalizer))
    shown = plan.demonstrations
    if isinstance(plan.strategy.loss, DistillKL):
        yield "student: ", PromptEncoder(plan.strategy, plan.task, backbone, plan.config.max_length)
        yield "teacher: ", PromptEncoder(plan.strategy, plan.task, backbone, plan.config.max_length, shown)
    else:
        yield "", PromptEncoder(plan.strategy, plan.task, backbone, plan.config.max_length, shown)


def words(reader: "PromptEncoder", plan: "Plan") -> Iterator[str]:
    """The label words with their ids, or the labels of a classifier."""
    labels = plan.task.labels
    if not reader.label_ids:
        yield "labels of the classifier: " + ", ".join(f"{i} {name}" for i, name in enumerate(labels))
        return
    found = zip(labels, reader.words, reader.label_ids, strict=True)
    yield "label words: " + ", ".join(f"{label} {word!r} (token {number})" for label, word, number in found)


def prompt(reader: "PromptEncoder", example: "Example", label: str, where: str) -> Iterator[str]:
    """One prompt: every token the model reads, special ones too, and what it should answer."""
    (encoded,) = reader.encode([example.texts])
    read = reader.tokenizer.decode(encoded.ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    cut = ", its text was cut" if encoded.cut else ""
    yield f"{where}, row {example.index}: {label}, {len(encoded.ids)} tokens{cut}"
    yield from (f"  | {line}" for line in read.split("\n"))
    if reader.label_ids:
        token = reader.tokenizer.convert_ids_to_tokens(encoded.ids[encoded.answer])
        yield f"  answer: {reader.words[example.label]!r}, read after {token!r} (position {encoded.answer})"


show = click.Command(
    "show",
    callback=start,
    help="Print the prompts of real examples of TASK exactly as the model reads them; the label words and their ids.",
    epilog=EXAMPLES,
    params=[
        click.Argument(["task"]),
        click.Option(["--strategy"], default="pbft", show_default=True, help="whose prompts"),
        click.Option(
            ["--split"], default="in_domain", show_default=True, help="train, validation, in_domain, ood/NAME"
        ),
        click.Option(["--examples"], default=3, type=click.IntRange(1), show_default=True, help="how many"),
        *(option(name) for name in FIELDS),
    ],
)
