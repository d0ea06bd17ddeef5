"""`effft fetch`: fill the caches of a machine that will be without a network."""

import click

from effft.cli.options import Command, examples, option
from effft.errors import InputError, UnavailableError
from effft.tasks.task import load_task


@click.command(
    cls=Command,
    params=[click.Argument(["tasks"], nargs=-1), option("model", has_default=False), option("revision")],
    epilog=examples("effft fetch cola mnli --model facebook/opt-125m", "effft fetch agreement"),
)
def fetch(tasks: tuple[str, ...], model: str | None, revision: str | None) -> None:
    """Download the data of TASKS and a model, and print where they lie and of which commit they are.

    Afterwards the same commands work with HF_HUB_OFFLINE=1. Weights in `.bin` files are converted too.
    """
    from effft.cli.output import Progress
    from effft.models.files import check_name, check_revision, commit_of, model_folder, with_weights
    from effft.tasks.loading import missing_ood, read_split

    if not tasks and not model:
        raise InputError(
            "nothing to fetch; name tasks, a model, or both: `effft fetch cola --model facebook/opt-125m`."
        )
    if revision and not model:
        raise InputError(f"revision={revision}: it is that of a model; name one (--model), or leave it out.")
    with Progress():
        for task in map(load_task, tasks):
            absent = [f"ood/{name}" for name in missing_ood(task)]
            for split in (name for name in task.split_names if name not in absent):
                try:
                    examples = read_split(task, split)
                except UnavailableError as error:
                    if not split.startswith("ood/"):
                        raise
                    click.echo(f"{task.name} {split}: left out: {error}")
                    continue
                click.echo(f"{task.name} {split}: {len(examples):,} examples of {examples.origin}")
            for split in absent:
                click.echo(f"{task.name} {split}: left out: it is on no hub; give --data-dir where it is evaluated")
        if model:
            check_name(model)
            check_revision(model, revision or "")
            folder = with_weights(model_folder(model, revision or ""), model)
            click.echo(f"{model} @ {commit_of(model, revision or '') or 'this machine'}: {folder}")
