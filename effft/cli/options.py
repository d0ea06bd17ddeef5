"""Options and commands: made from the fields of RunConfig, grouped by purpose in the help."""

import textwrap
import types
from collections.abc import Iterable
from typing import Any, Literal, Union, get_args, get_origin

import click
from click.shell_completion import CompletionItem

from effft.config import PART_FIELDS, SECTIONS, TRAINING_FIELDS, RunConfig, TrackingTarget
from effft.strategies.strategy import Strategy
from effft.tasks.task import known_tasks

FIELDS = tuple(name for names in SECTIONS.values() for name in names)
FILE_FIELDS = ("task", "data", "test", "ood", "model", "data_dir")
COMMON_FIELDS = tuple(name for name in FIELDS if name not in PART_FIELDS + TRAINING_FIELDS)
TRACKING = "Tracking"
SECTION_OF = {name: title for title, names in SECTIONS.items() for name in names}


class Formatter(click.HelpFormatter):
    """Wraps at the terminal's width and never inside a word or a flag (click breaks `--per-label` at its hyphens)."""

    def write_text(self, text: str) -> None:
        """A paragraph."""
        super().write_text(text.replace("-", "\N{NON-BREAKING HYPHEN}"))

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """A list of terms and what they mean."""
        super().write_dl([(term, text.replace("-", "\N{NON-BREAKING HYPHEN}")) for term, text in rows], col_max)

    def getvalue(self) -> str:
        """The page."""
        return super().getvalue().replace("\N{NON-BREAKING HYPHEN}", "-")


class Context(click.Context):
    """What a command's help is written with."""

    formatter_class = Formatter


class Group(click.Group):
    """A group whose help is written as that of the other commands."""

    context_class = Context


class Command(click.Command):
    """A command whose help shows its options in sections."""

    context_class = Context

    def invoke(self, ctx: click.Context) -> Any:
        """Call it; the options that say where runs are kept (`tracking_options`) are one `target` for it."""
        assert self.callback is not None
        given = dict(ctx.params)
        if "no_tracking" in given:
            place = (given.pop(name) for name in ("tracking_uri", "experiment", "no_tracking"))
            given["target"] = TrackingTarget(*place)
        return ctx.invoke(self.callback, **given)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """A section for every `Option.section`, in the order of the first option of each."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if record := parameter.get_help_record(ctx):
                sections.setdefault(getattr(parameter, "section", "Options"), []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


MANY = "NAME"
"""What stands for a value where the choices are too many for a line."""


class Option(click.Option):
    """An option with its section of the help; '' counts as not given, as MLproject passes what nobody set.

    Args:
        name: The parameter's name: `per_label` is `--per-label`, `import_` is `--import`.
        default: The value when none is given; shown in the help unless it is '' or None.
        section: Title in the help.
        also: Another spelling of the name.
        more: What click.Option takes besides.
    """

    def __init__(
        self, name: str, help: str, default: Any = "", section: str = "Options", *, also: str = "", **more: Any
    ) -> None:
        if is_switch := more.pop("is_flag", False):  # it may have a value, as MLflow gives one: -P json=true
            more |= {"is_flag": False, "flag_value": "true", "type": bool, "metavar": ""}
        kind = more.get("type", str if default is None else type(default))
        numbers = {int: "INT", click.IntRange: "INT", float: "FLOAT", str: "TEXT"}
        more.setdefault("metavar", numbers.get(kind) or numbers.get(type(kind)))
        shown = default not in ("", None) and not is_switch
        default = spell(default) if more.get("type") is bool else default
        spelt = [flag(word) for word in (name, also) if word]
        super().__init__([*spelt, name], help=help, default=default, show_default=shown, **more)
        self.section = section

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        """The value as the type wants it."""
        return super().type_cast_value(ctx, self.get_default(ctx) if value == "" else value)


class Words(click.Choice[str]):
    """Choices for the help and the shell; `make_config` checks them together with all other values."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The word as it was given."""
        return str(value)


def examples(*lines: str) -> str:
    """The end of a command's help; a test runs every line."""
    return "\b\nExamples:\n" + textwrap.indent("\n".join(lines), "  ")


def fields_of(strategy: Strategy) -> tuple[str, ...]:
    """The fields that mean something for a strategy, in the order of the help."""
    applicable = (*COMMON_FIELDS, *strategy.parameters, *(TRAINING_FIELDS if strategy.trains else ()))
    return tuple(name for name in FIELDS if name in applicable)


def default_of(name: str, strategy: Strategy | None = None) -> Any:
    """The value when the option is not given: the strategy's for a field of its parts; None = it depends."""
    if strategy is not None and name in strategy.parameters:
        return strategy.parameters[name]
    return RunConfig.model_fields[name].default


def option(name: str, strategy: Strategy | None = None, hidden: bool = False, has_default: bool = True) -> Option:
    """One field as an option. Values stay strings: `make_config` checks them all at once."""
    default = default_of(name, strategy)
    text = str(RunConfig.model_fields[name].description).removesuffix(".")
    if metavar(name) == MANY:
        text += f" ({', '.join(choices(name))})"
    shown = "" if default in (None, "") or not has_default else f"  [default: {spell(default)}]"
    complete: dict[str, Any] = {"shell_complete": _complete_files} if name in FILE_FIELDS else {}
    return Option(
        name,
        f"{text}{shown}",
        None,
        SECTION_OF[name],
        type=Words(choices(name)) if choices(name) else str,
        metavar=metavar(name),
        hidden=hidden,
        **complete,
    )


def flag(name: str) -> str:
    """`per_label` -> `--per-label`, `import_` -> `--import`."""
    return "--" + name.rstrip("_").replace("_", "-")


def spell(value: object) -> str:
    """A default as a user would type it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def choices(name: str) -> tuple[str, ...]:
    """The allowed values of a choice or truth value; () for the others."""
    kind = _type_of(name)
    if kind is bool:
        return ("true", "false")
    return tuple(filter(None, get_args(kind))) if get_origin(kind) is Literal else ()


def metavar(name: str) -> str:
    """What stands for the value in `--help`; choices that fill more than a line stand in its text."""
    joined = "|".join(choices(name))
    if len(joined) > 60:
        return MANY
    return joined or {int: "INT", float: "FLOAT"}.get(_type_of(name), "TEXT")


def _type_of(name: str) -> Any:
    """The field's type without `| None` and without its bounds."""
    kind: Any = RunConfig.model_fields[name].annotation
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(part for part in get_args(kind) if part is not type(None))
    return kind.__origin__ if hasattr(kind, "__metadata__") else kind


def _complete_files(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of tasks for `--task`, else files."""
    known = known_tasks() if param.name == "task" else ()
    return [CompletionItem(name) for name in known if name.startswith(incomplete)] or [
        CompletionItem(incomplete, type="file")
    ]


def tracking_uri_option() -> Option:
    """The store of a command that reads runs or models."""
    return Option(
        "tracking_uri", "MLflow tracking URI  [default: MLFLOW_TRACKING_URI, else ./mlflow.db]", section=TRACKING
    )


def tracking_options(experiment: str = "effft/<task>") -> list[Option]:
    """Where the runs of a command are kept; experiment: the usual one."""
    return [
        tracking_uri_option(),
        Option("experiment", f"MLflow experiment  [default: {experiment}]", section=TRACKING),
        Option("no_tracking", "Keep no run in MLflow", False, TRACKING, is_flag=True),
    ]
