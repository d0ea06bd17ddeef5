"""`effft run STRATEGY`: a command for every strategy that composes, with exactly the options it has."""

from collections.abc import Mapping
from typing import Any

import click
from click.shell_completion import CompletionItem

from effft.cli.options import FIELDS, fields_of, flag, option, tracking_options
from effft.config import PART_FIELDS, make_config
from effft.errors import InputError
from effft.strategies.parts import NAMED, PARTS, SUMMARY
from effft.strategies.strategy import Strategy, compose

COMPOSED = ("lora+pbft", "adaptive+pbft", "bitfit+pbft", "lora+distill", "pattern+classifier")
"""Compositions worth offering to someone who has not asked for one."""

PART_EXAMPLES = {
    "rank": "--rank 4 --alpha 8 --lora-modules all",
    "layers": "--layers 1 --train-final-norm true",
    "teacher_shots": "--teacher-shots 8 --kl-weight 1.0",
    "shots": "--shots 8 --pattern minimal",
    "pooling": "--pooling mean",
}
"""A parameter -> options that make a good example for a strategy that has it; the first match counts."""


class Strategies(click.Group):
    """A group whose commands are the strategies: the named ones and every composition of parts."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The named ones, and some compositions."""
        return [*NAMED, *COMPOSED]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        """The command of a strategy; what does not compose is an InputError."""
        return command_for(compose(cmd_name))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Each strategy in a line."""
        with formatter.section("Strategies"):
            formatter.write_dl([(name, SUMMARY[name]) for name in NAMED])
        with formatter.section("Joined by '+' (any parts that fit)"):
            formatter.write_dl([(name, describe(compose(name))) for name in COMPOSED])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names; after 'lora+' the parts that can be joined to it."""
        names = joinable(incomplete.rpartition("+")[0]) if "+" in incomplete else self.list_commands(ctx)
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def joinable(left: str) -> list[str]:
    """'lora' -> 'lora+pbft', 'lora+distill', ...: what composes."""
    found = []
    for part in PARTS:
        try:
            found.append(compose(f"{left}+{part}").name)
        except InputError:
            continue
    return found


def describe(strategy: Strategy) -> str:
    """The four choices in words."""
    return "; ".join(part.about for part in strategy.parts)


def command_for(strategy: Strategy) -> click.Command:
    """`effft run <strategy>`. Options of other strategies are known but hidden: given a value, they are refused."""
    own = fields_of(strategy)
    options: list[click.Parameter] = [option(name, strategy) for name in own]
    options += [option(name, hidden=True) for name in FIELDS if name not in own]

    def start(tracking_uri: str, experiment: str, no_tracking: bool, **values: str | None) -> None:
        check_own(strategy, values)
        start_run({**values, "strategy": strategy.name}, tracking_uri, experiment, no_tracking)

    return click.Command(
        strategy.name,
        params=[*options, *tracking_options()],
        callback=start,
        help=f"{SUMMARY.get(strategy.name, 'Joined parts')}.\n\nMade of: {describe(strategy)}.",
        epilog=examples(strategy),
    )


def check_own(strategy: Strategy, values: Mapping[str, str | None]) -> None:
    """Refuse a value for a parameter that the strategy does not have ('' counts as not given)."""
    own = fields_of(strategy)
    for name, value in values.items():
        if name in own or value is None or value == "":
            continue
        if name in PART_FIELDS:
            known = ", ".join(flag(n) for n in strategy.parameters) or "none"
            owners = ", ".join(n for n in NAMED if name in compose(n).parameters)
            raise InputError(
                f"strategy {strategy.name!r} has no parameter {flag(name)} (it belongs to: {owners}); its own: {known}."
            )
        raise InputError(f"strategy {strategy.name!r} trains nothing, so {flag(name)} has no meaning; leave it out.")


def examples(strategy: Strategy) -> str:
    """The end of a strategy's help."""
    call = f"effft run {strategy.name}"
    part = next((text for name, text in PART_EXAMPLES.items() if name in strategy.parameters), "--max-length 128")
    third = "--learning-rate 3e-4 --selection validation" if strategy.trains else "--evaluation-limit 500"
    return (
        f"\b\nExamples:\n  {call} --task agreement --per-label 16\n  {call} {part}\n"
        f"  {call} --task mnli --data-dir data --model path/to/model {third}"
    )


def start_run(values: Mapping[str, Any], tracking_uri: str, experiment: str, no_tracking: bool) -> None:
    """Check everything, open the MLflow run, work, and say what came out."""
    config = make_config(values)
    from effft.cli.tracking import check_tracker, how_to_view, open_tracker

    check_tracker(tracking_uri, no_tracking)
    from effft.cli.memory import with_estimate
    from effft.cli.panel import print_summary
    from effft.cli.progress import Progress
    from effft.distributed.process_group import join_process_group
    from effft.runs.experiment import execute
    from effft.runs.plan import prepare
    from effft.runs.session import Session
    from effft.tracking.tracker import tracked

    with join_process_group(config.device) as here, Progress(speaks=here.rank == 0) as progress, with_estimate(config):
        progress("load", 0, 0)
        plan = prepare(config, Session(keep=False))
        quiet = no_tracking or here.rank > 0
        tracker = open_tracker(experiment or plan.experiment, plan.name, plan.tags, tracking_uri, quiet)
        with tracked(tracker):
            result = execute(plan, tracker, progress)
    if here.rank == 0:
        print_summary(result, how_to_view(tracker, tracking_uri))


run = Strategies(
    "run",
    help="Adapt a backbone to a task with STRATEGY, and measure it in domain and out of domain (OOD).\n\n"
    "`effft run STRATEGY --help` lists the options of a strategy with their defaults.",
    epilog="\b\nExamples:\n  effft run lora\n  effft run lora+pbft --rank 4 --per-label 16\n  effft run icl --help",
    subcommand_metavar="STRATEGY [OPTIONS]",
    no_args_is_help=True,
)
