"""Which options a strategy has, and what their help says."""

import shlex

import click
import pytest
from click.testing import CliRunner

from effft.cli.app import COMMANDS, app
from effft.cli.compare import again, compare
from effft.cli.options import COMMON_FIELDS, FIELDS, Option, choices, fields_of, flag, metavar
from effft.cli.run import COMPOSED, command_for, joinable, run
from effft.config import TRAINING_FIELDS
from effft.strategies.strategy import NAMED, compose

ALL = (*NAMED, *COMPOSED)


def shown(name: str) -> set[str]:
    """Names of the visible options of a strategy."""
    return {str(o.name) for o in command_for(compose(name)).params if isinstance(o, click.Option) and not o.hidden}


@pytest.mark.parametrize("name", ALL)
def test_a_strategy_offers_exactly_what_it_has(name: str) -> None:
    strategy = compose(name)
    wanted = {*COMMON_FIELDS, *strategy.parameters, *(TRAINING_FIELDS if strategy.trains else ())}
    assert shown(name) - {"tracking_uri", "experiment", "no_tracking"} == wanted


@pytest.mark.parametrize("name", ALL)
def test_help_has_every_flag_and_examples(name: str) -> None:
    result = CliRunner().invoke(app, ["run", name, "--help"])
    assert result.exit_code == 0
    assert all(flag(field) in result.output for field in fields_of(compose(name)))
    assert result.output.count(f"effft run {name}") >= 3


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (
            ["run", "lora", "--help"],
            ["[default: 8]", "query_value|attention|all", "depends on the strategy", "linear|cosine"],
        ),
        (["run", "icl", "--help"], ["[default: 16]", "--shots INT"]),
        (["run", "adaptive", "--help"], ["--train-embeddings true|false", "[default: false]"]),
        (["run", "--help"], [*NAMED, "lora+pbft"]),
        (["compare", "--help"], ["--strategies", "--data-seeds", "--rank INT", "--teacher-shots INT"]),
        (["pretrain", "--help"], ["[default: effft/pretraining]"]),
        (["task", "new", "--help"], ["Column of DATA with the texts", "rows like those of DATA"]),
        (["--help"], ["run", "compare", "pretrain", "Examples"]),
    ],
)
def test_help_says(arguments: list[str], fragments: list[str]) -> None:
    output = " ".join(CliRunner().invoke(app, arguments).output.split())
    assert [f for f in fragments if " ".join(f.split()) not in output] == []


def test_what_is_fetched_has_no_default() -> None:
    assert "[default:" not in CliRunner().invoke(app, ["fetch", "--help"]).output


@pytest.mark.parametrize("name", COMMANDS)
def test_a_flag_without_a_value_may_have_one_as_mlflow_gives_it(name: str) -> None:
    command = app.get_command(click.Context(app), name)
    switches = [o for o in command.params if isinstance(o, Option) and o.flag_value == "true"]
    for option in switches:
        for value, meant in (((), True), (("true",), True), (("false",), False), (("",), False)):
            with command.make_context(name, [option.opts[0], *value], resilient_parsing=True) as context:
                assert context.params[option.name] is meant


def test_composed_strategies_have_the_parameters_of_their_parts() -> None:
    assert {"rank", "pattern", "label_words", "shots"} <= shown("lora+pbft")
    assert "pooling" not in shown("lora+pbft")


def test_choices_come_from_the_types() -> None:
    assert choices("schedule") == ("linear", "cosine", "constant")
    assert choices("pooling") == ("auto", "last", "first", "mean")
    assert choices("rank") == ()
    assert [metavar(n) for n in ("rank", "alpha", "train_embeddings", "task")] == ["INT", "FLOAT", "true|false", "TEXT"]
    assert all(metavar(name) for name in FIELDS)


def test_names_complete() -> None:
    context = click.Context(run)
    assert [item.value for item in run.shell_complete(context, "lo")] == ["lora", "lora+pbft", "lora+distill"]
    assert "lora+distill" in joinable("lora")
    assert "lora+vanilla" not in joinable("lora")


def test_tasks_complete() -> None:
    task = next(o for o in command_for(compose("lora")).params if o.name == "task")
    found = task.shell_complete(click.Context(run), "a")
    assert [item.value for item in found] == ["agreement"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str) -> None:
    result = CliRunner().invoke(app, ["completion", shell])
    assert result.exit_code == 0
    assert "_EFFFT_COMPLETE" in result.output


def test_the_command_that_makes_a_comparison_again_can_be_typed() -> None:
    words = ["--preset", "quick", "--label-words", "No, Yes", "--json", "--no-tracking", "--seeds", "2"]
    with compare.make_context("compare", list(words)) as context:
        told = shlex.split(again())
        assert told[:2] == ["effft", "compare"]
        with compare.make_context("compare", told[2:]) as repeated:
            assert repeated.params == context.params


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["fetch", "agreement", "--revision", "v1"], "revision=v1: it is that of a model"),
        (["fetch", "--model", "tiny-lm", "--revision", "v1"], "'tiny-lm' is on this machine, where"),
        (["pretrain", "--out", __file__], "it is a file, or lies in one; name a folder"),
        (["pretrain", "--out", f"{__file__}/x"], "it is a file, or lies in one; name a folder"),
        (["pretrain", "--seed", str(2**64)], "Invalid value for '--seed'"),
    ],
)
def test_what_cannot_be_is_a_sentence(arguments: list[str], sentence: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert sentence in f"{result.output} {result.exception}"
