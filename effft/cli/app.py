"""The top-level command: which commands there are; each is imported only when it is asked for."""

from importlib import import_module

import click

from effft.errors import lookup

COMMANDS = {
    "run": ("effft.cli.run:run", "Adapt a backbone to a task with one strategy; measure it in domain and OOD."),
    "compare": ("effft.cli.compare:compare", "Several strategies on the same shots, and one table."),
    "reference": ("effft.cli.reference:reference", "Every strategy on the built-in tasks, as one table."),
    "report": ("effft.cli.report:report", "The runs of a task as one page, with statistics and figures."),
    "reference-report": (
        "effft.cli.reference_report:remake",
        "The full comparison of both built-in tasks.",
    ),
    "models": ("effft.cli.models:models", "The registered models with their metrics."),
    "register": ("effft.cli.models:register", "Register the model of a run."),
    "predict": ("effft.cli.models:predict", "Answer texts, or a file of them, with a model."),
    "export": ("effft.cli.models:export", "Write a model as a plain Hugging Face folder."),
    "resend": ("effft.cli.resend:resend", "Send the results that a run kept while its server was away."),
    "search": ("effft.cli.search:search", "Tune a strategy under a budget, on validation alone, and go on later."),
    "estimate": ("effft.cli.estimate:estimate", "What runs would take: parameters, memory, time. Nothing is trained."),
    "tasks": ("effft.cli.listing:tasks", "The tasks, their splits and labels."),
    "strategies": ("effft.cli.listing:strategies", "The strategies and what they are made of."),
    "show": ("effft.cli.inspect:show", "The prompts of real examples, as the model reads them."),
    "pretrain": ("effft.cli.pretrain:pretrain", "Make the built-in backbone tiny-lm."),
    "mlproject": ("effft.cli.listing:mlproject", "Print the MLproject file that these commands imply."),
    "ui": ("effft.cli.ui:ui", "Open the MLflow UI on the runs of this folder."),
    "completion": ("effft.cli.ui:completion", "Print the completion script of a shell."),
}
"""Name -> (where the command is, its line in `--help`)."""

EXAMPLES = """\
\b
Examples:
  effft run lora --per-label 32
  effft compare --strategies vanilla,pbft,lora,icl --seeds 3
  effft show agreement --strategy icl --shots 4
"""


class App(click.Group):
    """A group that imports a command when it is called, and names the nearest one when there is none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        """The command; an unknown one is an InputError."""
        place, _ = lookup("command", cmd_name, COMMANDS)
        module, name = place.split(":")
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The lines of the table, so that `--help` imports nothing."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


def dashes(token: str) -> str:
    """`--per_label` (as MLflow spells an undeclared parameter) is `--per-label`."""
    return token.replace("_", "-")


app = App(
    name="effft",
    help="Adapt a language model to a text-classification task with few labelled examples: which strategy works best, "
    "in domain and out of domain, and at what cost?",
    epilog=EXAMPLES,
    context_settings={"token_normalize_func": dashes, "max_content_width": 110, "help_option_names": ["-h", "--help"]},
    params=[click.Option(["--traceback"], is_flag=True, help="Show where an unexpected error came from.")],
    callback=lambda traceback: None,
)
