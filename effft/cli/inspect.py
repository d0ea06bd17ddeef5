"""`effft tasks`, `strategies`, `show TASK`, `estimate`: what can be run, what the model would read, what it takes."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from effft.cli.options import Command, Option, examples, option
from effft.config import DATA_FIELDS, PART_FIELDS, make_config
from effft.data.examples import UNLABELLED
from effft.errors import InputError, lookup
from effft.strategies.parts import DistillKL
from effft.strategies.strategy import AXES, NAMED, PARTS, PEFT_PARTS, SUMMARY, compose
from effft.tasks.task import known_tasks, load_task

if TYPE_CHECKING:
    from effft.data.examples import Example
    from effft.runs.plan import Plan
    from effft.strategies.prompting import EncodedPrompt, PromptEncoder

SHOWN = (
    *DATA_FIELDS, "data_dir", "allow_outside", "per_label", "rows", "data_seed", "model", "revision", "max_length",
    "cut", "windows", "pattern", "shots", "demonstrations", "demo_order", "demo_seed",
    "chat", "label_words", "label_score", "teacher_shots",
)  # fmt: skip
"""The RunConfig fields that change what a model reads."""

ESTIMATED = (
    "task", *DATA_FIELDS, "data_dir", "allow_outside", "per_label", "rows", "model", "revision", "max_length",
    "precision", "device", "threads", *PART_FIELDS, "epochs", "steps", "batch_size", "evaluation_limit",
)  # fmt: skip
"""The RunConfig fields that change what a run takes."""


@click.command(cls=Command, params=[Option("json", "Print JSON", False, is_flag=True)])
def tasks(json: bool) -> None:
    """List the tasks: labels, metric, out-of-domain sets, patterns.

    A task of your own is a file of rows, --data reviews.csv, or a YAML file, --task my.yaml.
    """
    from effft.cli.output import print_json, print_table

    records = []
    for task in map(load_task, known_tasks()):
        ood = [split.removeprefix("ood/") for split in task.split_names if split.startswith("ood/")]
        values = (task.name, list(task.labels), task.metric, ood, list(task.patterns))
        records.append(dict(zip(("task", "labels", "metric", "ood", "patterns"), values, strict=True)))
    if json:
        print_json(records)
        return
    rows = [[", ".join(v) if isinstance(v, list) else str(v) for v in record.values()] for record in records]
    print_table(("task", "labels", "metric", "OOD sets", "patterns"), rows, range(5))


@click.command(cls=Command)
def strategies() -> None:
    """List the strategies, the four choices each is made of, and the names that join by '+'."""
    from effft.cli.output import print_table
    from effft.cli.run import COMPOSED

    rows = [[name, *(part.about for part in compose(name).parts)] for name in (*NAMED, *COMPOSED)]
    joined = [f"- {name}: {SUMMARY[name]}" for name in PARTS if name not in NAMED]
    notes = "\nNames join by '+'; these have no line above:", *joined
    notes += (f"- types of peft, each a name: {', '.join(PEFT_PARTS)}",)
    last = "\n`effft run STRATEGY --help` lists the parameters of a strategy."
    print_table(("strategy", *AXES), rows, range(5), *notes, last)


@click.command(
    cls=Command,
    params=[
        click.Argument(["task"], required=False),
        Option("strategy", "Strategy whose prompts are shown", "pbft"),
        Option("split", "train, validation, in_domain or ood/NAME  [default: in_domain, where the task has it]"),
        Option("examples", "Number of examples", 3, type=click.IntRange(1)),
        *(option(name) for name in SHOWN),
    ],
    epilog=examples(
        "effft show agreement",
        "effft show overlap --strategy icl --shots 4 --examples 1 --split ood/traps",
        "effft show my_task.yaml --strategy vanilla --model path/to/model",
    ),
)
def show(task: str | None, strategy: str, split: str, examples: int, **values: str | None) -> None:
    """Print prompts of real examples of TASK exactly as the model reads them, and the label words with their ids."""
    if not task and not values["data"]:
        raise InputError("show needs a task or data: `effft show agreement`, or `effft show --data FILE`.")
    config = make_config({**values, "task": task, "strategy": strategy})
    from effft.runs.plan import prepare
    from effft.runs.session import Session

    for line in prompt_lines(prepare(config, Session()), split, examples):
        click.echo(line)


def prompt_lines(plan: "Plan", split: str, count: int) -> Iterator[str]:
    """The head, then `count` examples of a split."""
    splits = {"train": plan.draw.train} | {n: s.examples for n, s in plan.evaluated.items()}
    split = split or ("in_domain" if plan.task.in_domain else "train")
    examples = lookup("split", split, splits)
    pattern = plan.resolved.settings.get("pattern")
    named = f", pattern {pattern!r}" if pattern else ""
    yield f"task {plan.task.name}, strategy {plan.strategy.name}, model {plan.config.model}{named}"
    for note in plan.notes:
        yield f"note: {note}"
    for role, encoder in encoders(plan):
        yield from label_lines(encoder)
        for example in encoder.questions(examples[:count]):
            yield ""
            label = encoder.task.written(example.label) if example.label != UNLABELLED else "no label"
            yield from prompt(encoder, example, label, f"{role}{split}")


def encoders(plan: "Plan") -> "Iterator[tuple[str, PromptEncoder]]":
    """The encoder of the strategy's prompts; with distillation, the student's and the teacher's."""
    from effft.strategies.prompting import PromptEncoder

    backbone = plan.session.loaded_backbone(plan.config, plan.strategy.needs_lm_head)
    demonstrations = plan.demonstrations
    if isinstance(plan.strategy.loss, DistillKL):
        yield "student: ", PromptEncoder(plan.strategy, plan.task, backbone, plan.config.max_length)
        yield "teacher: ", PromptEncoder(plan.strategy, plan.task, backbone, plan.config.max_length, demonstrations)
    else:
        yield "", PromptEncoder(plan.strategy, plan.task, backbone, plan.config.max_length, demonstrations)


def label_lines(encoder: "PromptEncoder") -> Iterator[str]:
    """The label words with their ids, or the labels of a classifier."""
    labels = encoder.task.labels
    if encoder.label_tokens is None:
        yield "labels of the classifier: " + ", ".join(f"{i} {name}" for i, name in enumerate(labels))
        return
    triples = zip(labels, encoder.label_words, encoder.label_tokens.ids, strict=True)
    named = (f"{label} {word!r} (token {' + '.join(map(str, ids))})" for label, word, ids in triples)
    score = encoder.label_tokens.score
    yield "label words: " + ", ".join(named) + (f"; score: {score}" if score != "first" else "")


def prompt(encoder: "PromptEncoder", example: "Example", label: str, where: str) -> Iterator[str]:
    """One prompt: every token the model reads, special tokens included, and the expected answer."""
    (encoded,) = encoder.encode([example.texts])
    for version in encoded.patterns or (encoded,):
        named = f", pattern {encoder.pattern_names[version.pattern]!r}" if encoded.patterns else ""
        yield from one_prompt(encoder, version.reads, example, f"{where}, row {example.index}{named}: {label}")


def one_prompt(
    encoder: "PromptEncoder", reads: "Sequence[EncodedPrompt]", example: "Example", head: str
) -> Iterator[str]:
    """What is read in one pattern: the prompt, or its windows."""
    for number, read in enumerate(reads, start=1):
        text = encoder.tokenizer.decode(read.ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        cut = f", window {number} of {len(reads)}" if len(reads) > 1 else ", text cut" * read.cut
        yield f"{head}, {len(read.ids)} tokens{cut}"
        yield from (f"  | {line}" for line in text.split("\n"))
        if encoder.label_tokens is not None:
            place = "in the decoder" if encoder.start else f"(position {read.answer})"
            before = encoder.start or (read.ids[read.answer],)
            token = " ".join(encoder.tokenizer.convert_ids_to_tokens(before))
            answer = "not known" if example.label == UNLABELLED else repr(encoder.label_words[example.labels[0]])
            yield f"  answer: {answer}, read after {token!r} {place}"


@click.command(
    cls=Command,
    params=[
        Option("strategies", "Names, or parts joined by '+', comma-separated  [default: all named strategies]"),
        Option("json", "Print JSON, with floating-point operations", False, is_flag=True),
        *(option(name) for name in ESTIMATED),
    ],
    epilog=examples(
        "effft estimate --model facebook/opt-1.3b --task mnli --per-label 32",
        "effft estimate --strategies lora,lora+pbft,vanilla --epochs 10 --threads 1",
    ),
)
def estimate(strategies: str, per_label: str | None, rows: str | None, json: bool, **values: str | None) -> None:
    """Estimate memory by kind, floating-point operations, and time on this machine.

    Only the configuration and the tokenizer of the model are read; nothing is trained.
    """
    from effft.cli.output import print_json, print_table
    from effft.runs.comparison_file import comparison_of
    from effft.runs.estimate import Skeletons
    from effft.runs.estimate import estimate as estimate_run

    given = comparison_of("", strategies, per_label or "", rows or "", 1, 1, 1, **values)
    skeletons = Skeletons()
    estimates = [estimate_run(run.config, skeletons) for run in given.runs()]
    if json:
        print_json([vars(one) for one in estimates])
        return
    heads = ("strategy", "trainable", "weights", "state", "activ.", "peak MB", "train s", "eval s")
    lines = [
        [one.strategy, f"{one.trainable:,}"]
        + [f"{b / 1e6:,.0f}" for b in (one.weights, one.gradients + one.optimizer, one.activations, one.peak)]
        + [f"{seconds:,.3g}" for seconds in (one.train_seconds, one.evaluation_seconds)]
        for one in estimates
    ]
    note = (
        f"\nSizes in MB, of {estimates[0].total:,} parameters in {estimates[0].precision}: weights, training state "
        "(gradients and optimizer), activations, and the peak above the start of the process. Times at half of this "
        "machine's matrix-product rate, measured now. --json has every number."
    )
    print_table(heads, lines, (0,), note)
