"""`effft pretrain`: make a small language model from generated text, such as the built-in tiny-lm."""

import shlex
from pathlib import Path

import click

from effft.cli.options import Command, Option, examples, tracking_options
from effft.config import TrackingTarget
from effft.errors import InputError

OUT = "pretrained"
EXPERIMENT = "effft/pretraining"
FLUSH_EVERY = 50  # Steps between two writes to the tracking store.


@click.command(
    cls=Command,
    params=[
        Option("out", "Folder for the training state and the finished model", OUT),
        Option("recipe", "Recipe file (.yaml)  [default: the recipe of tiny-lm]"),
        Option("seed", "Seed of weights and text", 0, type=click.IntRange(0, 2**32 - 1)),
        Option("save_every", "Steps between two saves", 200, type=click.IntRange(1)),
        *tracking_options(EXPERIMENT),
    ],
    epilog=examples(
        "effft pretrain",
        "effft pretrain --seed 1 --out pretrained-1",
        "effft run lora --model pretrained/model",
    ),
)
def pretrain(out: str, recipe: str, seed: int, save_every: int, target: TrackingTarget) -> None:
    """Pre-train a small causal language model on generated text, as the built-in tiny-lm was made.

    A command that was stopped continues from what is in the folder.
    """
    from effft.cli.output import Progress
    from effft.cli.tracking import how_to_view
    from effft.tiny_lm.recipe import DEFAULT, read_recipe
    from effft.tiny_lm.train import pretrain as train_model
    from effft.tracking import open_tracker
    from effft.tracking.tracker import tracked

    plan = read_recipe(Path(recipe) if recipe else DEFAULT)
    try:
        Path(out).mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"out={out}: it is a file, or lies in one; name a folder (flag --out).") from None
    tags = {"kind": "pretraining", "seed": str(seed), "recipe": plan.digest}
    with Progress() as progress:
        tracker = open_tracker(target, EXPERIMENT, f"pretrain · seed {seed}", tags)
        with tracked(tracker):
            tracker.params({"out": out, "seed": seed, "save_every": save_every, "recipe_digest": plan.digest})
            tracker.text("recipe.json", plan.model_dump_json(indent=2) + "\n")
            for step in train_model(Path(out), plan, seed, save_every):
                progress(f"pretrain ({step.stage})", step.index, step.total)
                numbers = {"train/loss": step.loss, "train/learning_rate": step.learning_rate}
                numbers |= {f"train/accuracy/{name}": value for name, value in step.accuracy.items()}
                tracker.metrics(numbers, step.index)
                if step.index % FLUSH_EVERY == 0:
                    tracker.flush()
    click.echo(f"the model is in {Path(out) / 'model'}; use it: effft run lora --model {shlex.quote(f'{out}/model')}")
    if not target.disabled:
        click.echo(f"view: {how_to_view(tracker, target.uri)}")
