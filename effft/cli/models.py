"""`effft models`, `effft register`, `effft predict`, `effft export`: the models of the registry, and their use."""

import json
import math
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from effft.cli.options import Command, Option, examples, tracking_uri_option
from effft.config import Amount
from effft.disk import written_whole
from effft.errors import InputError, RunError, positive
from effft.evaluation.metric_keys import CROSS_VALIDATED

if TYPE_CHECKING:
    from effft.serving.load import SavedModel

MODEL = Option(
    "model", "models:/NAME@champion, models:/NAME/VERSION, runs:/RUN_ID/model, or a folder", required=True,
    metavar="URI",
)  # fmt: skip


@click.command(
    cls=Command,
    params=[
        Option("task", "Only the models of this task"),
        Option("json", "Print JSON, with every tag", False, is_flag=True),
        tracking_uri_option(),
    ],
)
def models(task: str, json: bool, tracking_uri: str) -> None:
    """List the registered models, best validation first.

    `champion` is the best by validation, never by in-domain or OOD scores.
    """
    from effft.cli.output import print_json, print_table
    from effft.tracking.registry import versions
    from effft.tracking.store import open_client

    records: list[dict[str, object]] = [
        {"model": f"models:/{version.name}/{version.number}", "aliases": list(version.aliases), **version.tags}
        for version in versions(open_client(tracking_uri), task)
    ]
    if json:
        print_json(records)
        return
    if not records:
        raise InputError("no model is registered yet; `effft register RUN_ID` registers a run made with --log-model.")
    records.sort(key=lambda record: (str(record["model"]).rpartition("/")[0], -_number(record.get("validation"))))
    known = {key for record in records for key in record}
    home = [CROSS_VALIDATED] if CROSS_VALIDATED in known else []
    scores = ("validation", *home, "in_domain", *sorted(key for key in known if key[:4] == "ood/"))
    heads = ("model", "strategy", "per label", *(name.replace("_", " ") for name in scores))
    rows = [
        [str(record.get(name) or "-") for name in ("model", "strategy")]
        + [str(Amount.of(record)) if record.get("per_label") or record.get("rows") else "-"]
        + [f"{value:.3f}" if math.isfinite(value := _number(record.get(name))) else "-" for name in scores]
        for record in records
    ]
    print_table(heads, rows, (0, 1), *map(_about, records))


def _about(record: Mapping[str, object]) -> str:
    aliases = f" ({', '.join(map(str, given))})" if isinstance(given := record["aliases"], list) and given else ""
    study = f", study {record['study']}" if record.get("study") else ""
    return f"{record['model']}{aliases}: {record.get('metric', '-')}, model {record.get('backbone', '-')}{study}"


def _number(text: object) -> float:
    try:
        return float(str(text))
    except ValueError:
        return float("-inf")


@click.command(cls=Command, params=[click.Argument(["run_id"]), tracking_uri_option()])
def register(run_id: str, tracking_uri: str) -> None:
    """Register the model that run RUN_ID logged (--log-model true) as a version of effft-<task>."""
    from effft.tracking.registry import register as register_run

    version = register_run(run_id, tracking_uri)
    click.echo(f"models:/{version.name}/{version.number}: {version.verdict}")


@click.command(
    cls=Command,
    params=[
        MODEL,
        Option("text", "A text; give it once for every text field of the task, in their order", None, multiple=True),
        Option("input", "File of rows with the task's text fields: csv, tsv, txt, jsonl, parquet, also .gz"),
        Option("output", "File for the answers: csv, tsv, txt or jsonl  [default: standard output]"),
        Option("abstain", "Withhold the least sure answers: at most this share of the others is wrong (0.05)"),
        Option("device", "auto, cpu, cuda or cuda:N", "auto"),
        tracking_uri_option(),
    ],
    epilog=examples(
        "effft predict --model models:/effft-cola@champion --text 'The cat sleep.'",
        "effft predict --model models:/effft-cola@champion --input texts.csv --output answers.csv",
        "effft predict --model models:/effft-mnli/2 --text 'A man sleeps.' --text 'Nobody is awake.'",
    ),
)
def predict(
    model: str, text: tuple[str, ...], input: str, output: str, abstain: str, device: str, tracking_uri: str
) -> None:
    """Classify texts, or a file of them, with a model: label, label name, and a probability per label."""
    if bool(text) == bool(input):
        raise InputError("predict answers --text ..., or the rows of --input FILE; give one of the two.")
    if output and not input:
        raise InputError("--output belongs to --input; the answer to --text is printed.")
    if blank := [number for number, one in enumerate(text, 1) if not one.strip()]:
        raise InputError(f"--text number {blank[0]} is empty, so there is nothing to classify; give it a text.")
    error = positive("abstain", abstain, 1, "a number above 0 and below 1") if abstain else None
    folder = _fetch(model, tracking_uri)
    if input:
        _answer_file(folder, Path(input), output, device, error)
    else:
        _answer_texts(_load(folder, device, error), text)


def _load(folder: Path, device: str, error: float | None) -> "SavedModel":
    from effft.serving.load import SavedModel

    model = SavedModel.load(folder, device)
    if error is not None:
        model.abstain(error)
    return model


def _fetch(model: str, tracking_uri: str) -> Path:
    local = Path(model).expanduser()
    if (local / "effft.json").is_file():  # a folder needs no tracking store
        return local
    from effft.tracking.models import fetch
    from effft.tracking.store import open_client

    return fetch(model, open_client(tracking_uri))


def _answer_texts(model: "SavedModel", texts: tuple[str, ...]) -> None:
    width = len(model.fields)
    if len(texts) % width:
        raise InputError(f"the model reads {width} texts a row ({', '.join(model.fields)}); give --text for each.")
    rows = [texts[at : at + width] for at in range(0, len(texts), width)]
    for row, answer in zip(rows, model.answers(rows), strict=True):
        click.echo(json.dumps(dict(zip(model.fields, row, strict=True)) | answer, ensure_ascii=False))


def _answer_file(folder: Path, path: Path, output: str, device: str, error: float | None) -> None:
    """Answer the rows of a file; everything about the files is checked before the model is loaded."""
    from effft.cli.output import Progress
    from effft.serving.batch_prediction import answer_file, answer_format, open_input
    from effft.serving.manifest import read_manifest

    rows, suffix = open_input(path, read_manifest(folder).read_task()), answer_format(path, output)
    place = Path(output).expanduser()
    try:
        if output and place.exists() and place.samefile(path):
            raise InputError(f"--output {output}: this is the input; name another file.")
        if output and not place.parent.is_dir():
            raise InputError(f"--output {output}: there is no folder {place.parent}; make it first.")
        model = _load(folder, device, error)
        with ExitStack() as stack:
            file: TextIO = sys.stdout
            if output:  # a device or a pipe cannot be replaced
                draft = place if place.exists() and not place.is_file() else stack.enter_context(written_whole(place))
                file = stack.enter_context(draft.open("w", encoding="utf-8", newline=""))
            answer_file(model, rows, file, suffix, stack.enter_context(Progress()))
    except OSError as error:
        raise RunError(f"--output {output}: cannot be written ({error.strerror or error}).") from None
    click.echo(f"{rows.count} rows answered" + (f" in {output}" if output else ""), err=True)


@click.command(
    cls=Command,
    params=[
        MODEL,
        Option("to", "A new folder", required=True, metavar="DIR"),
        Option("merge", "Add an adapter to the weights of the model", False, is_flag=True),
        tracking_uri_option(),
    ],
)
def export(model: str, to: str, merge: bool, tracking_uri: str) -> None:
    """Write a model as a Hugging Face folder, which transformers and peft load without effft."""
    from effft.serving.export import export as write

    files = write(_fetch(model, tracking_uri), Path(to).expanduser(), merge)
    click.echo(f"{to}: {', '.join(files)}")
