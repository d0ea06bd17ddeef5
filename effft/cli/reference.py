"""`effft reference`: the table of all strategies on the built-in tasks, with rows that know less beside them."""

import csv
import io
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from effft.errors import InputError

if TYPE_CHECKING:
    from effft.runs.cells import Measured

EXAMPLES = """\
\b
Examples:
  effft reference
  effft reference --tasks overlap --per-label 8,32 --pairs 3 --out reference-overlap
  effft reference --model pretrained/model --workers 4
  effft reference --strengths 1,0.9,0.75,0.5,0 --per-label 32
"""


def start(
    model: str,
    tasks: str,
    per_label: str,
    pairs: int,
    evaluation_limit: int,
    workers: int,
    out: str,
    seed: int,
    strengths: str,
) -> None:
    """Run every cell and write `out/reference.md` and `out/reference.csv`; what `out/cells.jsonl` has is not run again.

    Raises:
        InputError: a value out of range, `out` no folder.
    """
    from effft.cli.compare import words
    from effft.cli.output import Progress
    from effft.runs.cells import Kept, measure_kept
    from effft.runs.curve import cells as curve_cells
    from effft.runs.plan import prepare
    from effft.runs.reference import cells
    from effft.runs.session import Session

    if Path(out).is_file():
        raise InputError(f"out={out}: this is a file; name a folder (flag --out).")
    names, counts = words(tasks, "--tasks"), [_count(text) for text in words(per_label, "--per-label")]
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, Progress() as progress:
        random_model = _random_model(Path(folder), seed)
        every = cells(model, random_model, names, counts, pairs, evaluation_limit)
        if strengths:
            every += curve_cells(model, words(strengths, "--strengths"), middle(counts), pairs, evaluation_limit)
        session = Session()
        for done, cell in enumerate(every):
            progress("check", done, len(every))
            prepare(cell.config, session)
        Path(out).mkdir(parents=True, exist_ok=True)
        measured, kept = [], Kept(Path(out) / "cells.jsonl", session)
        for done, one in enumerate(measure_kept(every, workers, kept), start=1):
            measured.append(one)
            progress("reference", done, len(every))
    places = {cell: place for place, cell in enumerate(every)}
    measured.sort(key=lambda one: places[one.cell])
    text = document(measured, names, counts, evaluation_limit, time.monotonic() - begun)
    (Path(out) / "reference.md").write_text(text, encoding="utf-8")
    (Path(out) / "reference.csv").write_text(csv_text(measured), encoding="utf-8")
    click.echo(text)
    click.echo(f"kept in {Path(out) / 'reference.md'} and {Path(out) / 'reference.csv'}")


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise InputError(f"per_label={text}: must be a whole number of at least 1 (flag --per-label).")
    return int(text)


def middle(per_label: "list[int]") -> int:
    """The number per label that slices and curve are shown at."""
    return sorted(per_label)[(len(per_label) - 1) // 2]


def _random_model(folder: Path, seed: int) -> str:
    """The architecture of tiny-lm with random weights, as a folder."""
    from effft.tiny_lm.recipe import read_recipe
    from effft.tiny_lm.train import export, make_model

    recipe = read_recipe()
    export(make_model(recipe.model, seed), recipe, seed, folder / "random")
    return str(folder / "random")


def document(measured: "list[Measured]", tasks: list[str], per_label: list[int], limit: int, seconds: float) -> str:
    """The tables as one Markdown text."""
    from effft.runs.curve import curve
    from effft.runs.reference import markdown, slices, table

    pairs = len({m.cell.config.seed for m in measured})
    shown = f"{limit} examples a split" if limit else "every example of a split"
    plain = [m for m in measured if m.cell.config.overlap_strength is None]
    text = (
        f"Mean ± standard deviation over {pairs} pairs of seed and data_seed, {shown}, {len(measured)} runs in "
        f"{seconds / 60:.0f} minutes. Numbers after the comma: labelled examples per label.\n"
    )
    for task in tasks:
        text += f"\n### {task}\n\n{markdown(*table(plain, task))}"
        text += f"\nOOD slices at {middle(per_label)} per label:\n\n{markdown(*slices(plain, task, middle(per_label)))}"
    if len(plain) < len(measured):
        text += f"\n### overlap, accuracy against the shortcut's strength, {middle(per_label)} per label\n\n"
        text += markdown(*curve(measured))
    return text


def csv_text(measured: "list[Measured]") -> str:
    """One line a run and metric."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["row", "task", "per_label", "seed", "data_seed", "overlap_strength", "metric", "value"])
    for m in measured:
        c = m.cell.config
        place = [m.cell.row, c.task, c.per_label, c.seed, c.data_seed, c.overlap_strength]
        writer.writerows([*place, key, value] for key, value in m.metrics.items())
    return out.getvalue()


reference = click.Command(
    "reference",
    callback=start,
    help="Every strategy on the built-in tasks, in domain and OOD, beside a majority row, a bag of words and the same "
    "architecture with random weights. Nothing is tracked: the tables and the numbers go to a folder.",
    epilog=EXAMPLES,
    params=[
        click.Option(["--model"], default="tiny-lm", show_default=True, help="backbone: tiny-lm, or a folder"),
        click.Option(["--tasks"], default="agreement,overlap", show_default=True, help="built-in tasks"),
        click.Option(["--per-label"], default="8,32,128", show_default=True, help="labelled examples per label"),
        click.Option(
            ["--pairs"], default=5, type=click.IntRange(1), show_default=True, help="pairs of seed and data_seed"
        ),
        click.Option(
            ["--evaluation-limit"],
            default=500,
            type=click.IntRange(0),
            show_default=True,
            help="examples evaluated a split (0 = all)",
        ),
        click.Option(
            ["--workers"], default=2, type=click.IntRange(1), show_default=True, help="processes, a thread each"
        ),
        click.Option(["--out"], default="reference", show_default=True, help="folder of the tables"),
        click.Option(["--strengths"], default="", help="overlap_strength values: adds the curve of three strategies"),
        click.Option(["--seed"], default=0, type=click.IntRange(0), show_default=True, help="seed of random weights"),
    ],
)
