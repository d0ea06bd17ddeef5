"""`effft run STRATEGY`: a command for every strategy, with exactly the options it has."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import click
from click.shell_completion import CompletionItem

from effft.cli.options import FIELDS, Command, Group, examples, fields_of, flag, option, tracking_options
from effft.config import PART_FIELDS, TrackingTarget, make_config
from effft.errors import InputError
from effft.strategies.strategy import NAMED, PARTS, SUMMARY, Strategy, compose

COMPOSED = ("lora+pbft", "adaptive+pbft", "bitfit+pbft", "lora+distill", "pattern+classifier")
"""Joined parts that the help offers."""

PART_EXAMPLES = {
    "rank": "--rank 4 --alpha 8 --lora-modules all",
    "layers": "--layers 1 --train-final-norm true",
    "teacher_shots": "--teacher-shots 8 --kl-weight 1.0",
    "shots": "--shots 8 --pattern minimal",
    "pooling": "--pooling mean",
}
"""A parameter -> options that make a good example for a strategy that has it; the first match counts."""


class Strategies(Group):
    """A group whose commands are the strategies: the named ones and every combination of parts."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The named ones, and some combinations."""
        return [*NAMED, *COMPOSED]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        """The command of a strategy."""
        return command_for(compose(cmd_name))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """A line per strategy."""
        with formatter.section("Strategies"):
            formatter.write_dl([(name, SUMMARY[name]) for name in NAMED])
        with formatter.section("Joined by '+' (any parts that fit)"):
            formatter.write_dl([(name, describe(compose(name))) for name in COMPOSED])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names; after 'lora+' the parts that can be joined to it."""
        names = joinable(incomplete.rpartition("+")[0]) if "+" in incomplete else self.list_commands(ctx)
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def joinable(left: str) -> list[str]:
    """'lora' -> 'lora+pbft', 'lora+distill', ...: the combinations that are valid."""
    valid = []
    for part in PARTS:
        try:
            valid.append(compose(f"{left}+{part}").name)
        except InputError:
            continue
    return valid


def describe(strategy: Strategy) -> str:
    """The four choices in words."""
    return "; ".join(part.about for part in strategy.parts)


def command_for(strategy: Strategy) -> Command:
    """`effft run <strategy>`. Options of other strategies are hidden; given a value, they are refused with a reason."""
    visible = fields_of(strategy)

    def run_strategy(target: TrackingTarget, **values: str | None) -> None:
        check_applicable(strategy, values)
        run_once({**values, "strategy": strategy.name}, target)

    call = f"effft run {strategy.name}"
    part = next((text for name, text in PART_EXAMPLES.items() if name in strategy.parameters), "--max-length 128")
    last = "--learning-rate 3e-4 --selection validation" if strategy.takes_steps else "--evaluation-limit 500"
    return Command(
        strategy.name,
        params=[*(option(name, strategy, hidden=name not in visible) for name in FIELDS), *tracking_options()],
        callback=run_strategy,
        help=f"{SUMMARY.get(strategy.name, 'Joined parts')}.\n\nMade of: {describe(strategy)}.",
        epilog=examples(
            f"{call} --task agreement --per-label 16",
            f"{call} {part}",
            f"{call} --task mnli --data-dir data --model path/to/model {last}",
        ),
    )


def check_applicable(strategy: Strategy, values: Mapping[str, str | None]) -> None:
    """Refuse a value for a parameter that the strategy does not have; '' counts as not given."""
    applicable = fields_of(strategy)
    for name, value in values.items():
        if name in applicable or value is None or value == "":
            continue
        if name in PART_FIELDS:
            known = ", ".join(flag(n) for n in strategy.parameters) or "none"
            owners = ", ".join(n for n in PARTS if name in compose(n).parameters)
            raise InputError(
                f"strategy {strategy.name!r} has no parameter {flag(name)} (strategies that have it: {owners}); "
                f"parameters of its own: {known}."
            )
        raise strategy.without_meaning(name)


def run_once(values: Mapping[str, Any], target: TrackingTarget) -> None:
    """Check everything, open the MLflow run, train and evaluate, and print the numbers."""
    config = make_config(values)
    from effft.cli.tracking import how_to_view
    from effft.tracking import check_target

    check_target(target, config.log_model)
    from effft.api import track_run
    from effft.cli.exit_codes import with_estimate
    from effft.cli.output import Progress, print_summary
    from effft.distributed.process_group import join_process_group

    with join_process_group(config.device) as here, Progress(silent=here.rank > 0) as progress, with_estimate(config):
        target = replace(target, disabled=target.disabled or here.rank > 0)
        result, tracker = track_run(config, target, progress)
    if here.rank == 0:
        print_summary(result, tracker.run_id, how_to_view(tracker, target.uri))


run = Strategies(
    "run",
    help="Train one strategy on a task, and evaluate it in domain and out of domain (OOD).\n\n"
    "`effft run STRATEGY --help` lists the options of a strategy with their defaults.",
    epilog=examples("effft run lora", "effft run lora+pbft --rank 4 --per-label 16", "effft run icl --help"),
    subcommand_metavar="STRATEGY [OPTIONS]",
    no_args_is_help=True,
)
