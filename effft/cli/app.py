"""The top-level command: which commands there are; each is imported only when it is called."""

from importlib import import_module

import click

from effft.cli.options import Group, examples
from effft.errors import InputError, lookup
from effft.strategies.strategy import compose
from effft.version import __version__

SECTIONS = {
    "Train and compare": {
        "run": ("run:run", "Train one strategy on a task; evaluate it in domain and out of domain."),
        "compare": ("compare:compare", "Run several strategies on the same examples; print one table."),
        "search": ("search:search", "Tune a strategy on validation data, then measure the winner."),
        "choose": ("choose:choose", "Say which strategy to take for your rows, memory and minutes."),
        "report": ("report:report", "Write the runs of a task as one page, with statistics and figures."),
        "reference": ("compare:reference", "Compare every strategy on the built-in tasks; write reports/reference."),
    },
    "Look before a run": {
        "task": ("task:task", "Write the task file of a file of labelled rows: `effft task new FILE`."),
        "tasks": ("inspect:tasks", "List the tasks, their labels and evaluation sets."),
        "strategies": ("inspect:strategies", "List the strategies and what they are made of."),
        "show": ("inspect:show", "Print prompts of real examples, as the model reads them."),
        "estimate": ("inspect:estimate", "Estimate parameters, memory and time without training."),
        "fetch": ("fetch:fetch", "Download tasks and a model, for work without a network."),
    },
    "Models": {
        "models": ("models:models", "List the registered models with their metrics."),
        "register": ("models:register", "Register the model of a run."),
        "predict": ("models:predict", "Classify texts, or a file of them, with a model."),
        "export": ("models:export", "Write a model as a Hugging Face folder."),
        "pretrain": ("pretrain:pretrain", "Make a small language model such as the built-in tiny-lm."),
    },
    "Tracking and shell": {
        "ui": ("tracking:ui", "Open the MLflow UI on the runs of this folder."),
        "resend": ("tracking:resend", "Send results that a run kept while its tracking server was away."),
        "completion": ("tracking:completion", "Print the completion script of a shell."),
    },
}
"""Section of the help -> command -> (module and name, its line in the help)."""

COMMANDS = {name: place for commands in SECTIONS.values() for name, (place, _) in commands.items()}


class App(Group):
    """A group that imports a command when it is called, and names the nearest one when there is none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        """The command.

        Raises:
            InputError: an unknown name; the name of a strategy is answered with `effft run`.
        """
        try:
            module, name = lookup("command", cmd_name, COMMANDS).split(":")
        except InputError as unknown:
            try:
                compose(cmd_name)
            except InputError:
                raise unknown from None
            raise InputError(f"{cmd_name!r} is a strategy, not a command; type `effft run {cmd_name}`.") from None
        command = getattr(import_module(f"effft.cli.{module}"), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The lines of SECTIONS, so that `--help` imports nothing."""
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, line) for name, (_, line) in commands.items()])


app = App(
    name="effft",
    help="Adapt a language model to a text-classification task with few labelled examples: which strategy works best, "
    "in domain and out of domain, and at what cost?",
    epilog=examples(
        "effft run lora --per-label 32",
        "effft compare --strategies vanilla,pbft,lora,icl --seeds 3",
        "effft show agreement --strategy icl --shots 4",
    ),
    context_settings={
        "token_normalize_func": lambda token: token.replace("_", "-"),  # MLflow writes `--per_label`
        "max_content_width": 120,
        "help_option_names": ["-h", "--help"],
    },
    params=[click.Option(["--traceback"], is_flag=True, help="Show the traceback of an unexpected error.")],
    callback=lambda traceback: None,
)
click.version_option(__version__, message="%(prog)s %(version)s")(app)
