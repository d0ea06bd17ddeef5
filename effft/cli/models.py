"""`effft models`, `effft predict`, `effft export`: the models of the registry, and their use."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from effft.errors import InputError

if TYPE_CHECKING:
    from effft.serving.load import SavedModel

URI = "models:/NAME@champion, models:/NAME/VERSION, runs:/RUN_ID/model, or a folder"
STORE = click.Option(["--tracking-uri"], default="", help="MLflow store  [default: MLflow's own, ./mlflow.db]")
MODEL = click.Option(["--model"], required=True, metavar="URI", help=URI)


def list_models(task: str, tracking_uri: str) -> None:
    """A line a version, newest first, with its metrics side by side."""
    from rich.table import Table
    from rich.text import Text

    from effft.cli.console import console
    from effft.tracking.registry import open_client, versions

    found = versions(open_client(tracking_uri), task)
    if not found:
        raise InputError("no model is registered yet; `effft register RUN_ID` registers a run made with --log-model.")
    ood = sorted({key for version in found for key in version.tags if key.startswith("ood/")})
    table = Table(box=None, padding=(0, 2, 0, 0))
    heads = ["model", "alias", "strategy", "backbone", "per label", "metric", "validation", "in domain", *ood]
    for place, head in enumerate((*heads, "study")):
        table.add_column(head, justify="right" if 4 <= place < len(heads) and place != 5 else "left", overflow="fold")
    for version in found:
        tags = version.tags
        cells = [f"models:/{version.name}/{version.number}", ", ".join(version.aliases)]
        cells += [tags.get(key, "-") for key in ("strategy", "backbone", "per_label", "metric")]
        cells += [_short(tags.get(key, "")) for key in ("validation", "in_domain", *ood)]
        table.add_row(*(Text(cell) for cell in (*cells, tags.get("study", ""))))
    console().print(table)


def _short(number: str) -> str:
    try:
        return f"{float(number):.3f}"
    except ValueError:
        return "-"


def register_run(run_id: str, tracking_uri: str) -> None:
    """Make a version of the run's model."""
    from effft.tracking.registry import register

    version = register(run_id, tracking_uri)
    said = "champion by validation" if version.aliases else "the champion stays (validation is not above its own)"
    click.echo(f"models:/{version.name}/{version.number}: {said}")


def predict_texts(
    model: str, text: tuple[str, ...], input_file: str, output: str, device: str, tracking_uri: str
) -> None:
    """Answer texts given one by one, or a file."""
    if bool(text) == bool(input_file):
        raise InputError("predict answers --text ..., or the rows of --input FILE; give one of the two.")
    if output and not input_file:
        raise InputError("--output belongs to --input; the answer to --text is printed.")
    if input_file:
        from effft.serving.rows import FORMATS, format_of

        kind = format_of(Path(input_file), "--input")
        if not Path(input_file).is_file():
            raise InputError(f"--input {input_file}: no such file.")
        if output and FORMATS.get(Path(output).suffix.lower()) != kind:
            raise InputError(f"--output {output}: answers are written in the format of the input ({kind}).")
        if output and Path(output).resolve() == Path(input_file).resolve():
            raise InputError(f"--output {output}: this is the input; name another file.")
    loaded = _load(model, device, tracking_uri)
    if input_file:
        _answer_file(loaded, Path(input_file), output)
    else:
        _answer_texts(loaded, text)


def _load(model: str, device: str, tracking_uri: str) -> "SavedModel":
    from effft.serving.load import SavedModel, use_few_threads

    loaded = SavedModel.load(_fetch(model, tracking_uri), device)
    use_few_threads(loaded)
    return loaded


def _fetch(model: str, tracking_uri: str) -> Path:
    local = Path(model).expanduser()
    if (local / "effft.json").is_file():  # a plain folder asks no store
        return local
    from effft.tracking.models import fetch
    from effft.tracking.registry import open_client

    return fetch(model, open_client(tracking_uri))


def _answer_texts(model: "SavedModel", texts: tuple[str, ...]) -> None:
    import json

    width = len(model.fields)
    if len(texts) % width:
        raise InputError(f"the model reads {width} texts a row ({', '.join(model.fields)}); give --text for each.")
    rows = [texts[at : at + width] for at in range(0, len(texts), width)]
    for row, answer in zip(rows, model.answers(rows), strict=True):
        click.echo(json.dumps(dict(zip(model.fields, row, strict=True)) | answer, ensure_ascii=False))


def _answer_file(model: "SavedModel", path: Path, output: str) -> None:
    from effft.cli.progress import Progress
    from effft.serving.batch_prediction import answer_file
    from effft.serving.rows import AnswerWriter, TextRows

    rows = TextRows(path, model.fields)
    try:
        file = open(output, "w", encoding="utf-8", newline="") if output else sys.stdout  # noqa: SIM115 - closed below
    except OSError as error:
        raise InputError(f"--output {output}: cannot be written ({error.strerror or error}).") from None
    try:
        with Progress() as progress:
            count = answer_file(
                model, rows, AnswerWriter(file, rows.kind), lambda d, t: progress("predict (bytes)", d, t)
            )
    finally:
        if output:
            file.close()
    click.echo(f"{count} rows answered" + (f" in {output}" if output else ""), err=True)


def export_model(model: str, to: str, merge: bool, tracking_uri: str) -> None:
    """Write a plain Hugging Face folder."""
    from effft.serving.export import export as write

    files = write(_fetch(model, tracking_uri), Path(to).expanduser(), merge)
    click.echo(f"{to}: {', '.join(files)}")


models = click.Command(
    "models",
    callback=list_models,
    help="The registered models, their aliases and metrics. `champion` is the best by validation, never by OOD.",
    params=[click.Option(["--task"], default="", help="one task's models only"), STORE],
)
register = click.Command(
    "register",
    callback=register_run,
    help="Register the model that run RUN_ID logged (--log-model true) as a version of effft-<task>.",
    params=[click.Argument(["run_id"]), STORE],
)
predict = click.Command(
    "predict",
    callback=predict_texts,
    help="Answer texts with a model: label, label name, and a probability per label.",
    epilog="\b\nExamples:\n  effft predict --model models:/effft-cola@champion --text 'The cat sleep.'\n"
    "  effft predict --model models:/effft-cola@champion --input texts.csv --output answers.csv\n"
    "  effft predict --model models:/effft-mnli/2 --text 'A man sleeps.' --text 'Nobody is awake.'",
    params=[
        MODEL,
        click.Option(["--text"], multiple=True, help="a text; once for every text field of the task, in their order"),
        click.Option(["--input", "input_file"], default="", help="csv, tsv or jsonl with the task's text fields"),
        click.Option(["--output"], default="", help="where the answers go  [default: stdout]"),
        click.Option(["--device"], default="auto", show_default=True, help="auto, cpu, cuda, cuda:N"),
        STORE,
    ],
)
export = click.Command(
    "export",
    callback=export_model,
    help="Write a model as a plain Hugging Face folder, which transformers and peft load without effft.",
    params=[
        MODEL,
        click.Option(["--to"], required=True, metavar="DIR", help="a new folder"),
        click.Option(["--merge"], is_flag=True, help="add a LoRA adapter to the weights it stands on"),
        STORE,
    ],
)
