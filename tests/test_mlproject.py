"""The MLproject file: generated, complete, and equal to the command line and to RunConfig."""

import re
from pathlib import Path

import click
import pytest
import yaml

from effft.cli.compare import compare
from effft.cli.mlproject import plain, text
from effft.cli.options import COMMON_FIELDS, default_of, fields_of
from effft.cli.pretrain import pretrain
from effft.cli.run import command_for
from effft.cli.search import SEARCHED, search
from effft.config import RunConfig, make_config
from effft.strategies.parts import NAMED
from effft.strategies.strategy import compose

ROOT = Path(__file__).parents[1]
FILE = yaml.safe_load(text())
POINTS = FILE["entry_points"]


def defaults(point: str) -> dict[str, object]:
    return {name: record["default"] for name, record in POINTS[point]["parameters"].items()}


def visible(command: click.Command) -> set[str]:
    tracking = {"tracking_uri", "experiment", "no_tracking"}
    return {str(o.name) for o in command.params if isinstance(o, click.Option) and not o.hidden} - tracking


def test_the_file_is_what_the_commands_imply() -> None:
    assert (ROOT / "MLproject").read_text() == text(), "run: python -m effft mlproject > MLproject"


def test_every_strategy_has_an_entry_point() -> None:
    assert {"main", "compare", "run", "search", "pretrain", *NAMED} <= set(POINTS)


@pytest.mark.parametrize("name", NAMED)
def test_parameter_is_flag_is_field(name: str) -> None:
    assert set(defaults(name)) == visible(command_for(compose(name))) == set(fields_of(compose(name)))
    assert set(defaults(name)) <= set(RunConfig.model_fields)


def test_run_has_every_field() -> None:
    assert set(defaults("run")) == set(RunConfig.model_fields)


@pytest.mark.parametrize("name", ["compare", "main"])
def test_comparison_has_every_flag(name: str) -> None:
    assert set(defaults(name)) == visible(compare)


def test_search_has_every_flag() -> None:
    assert set(defaults("search")) == visible(search)
    assert all(defaults("search")[name] == "" for name in SEARCHED), "a searched parameter is fixed by a default"


def test_pretrain_has_every_flag() -> None:
    assert set(defaults("pretrain")) == visible(pretrain)


@pytest.mark.parametrize("name", [*NAMED, "run"])
def test_defaults_are_the_real_ones(name: str) -> None:
    given = {"strategy": name} | defaults(name) if name in NAMED else defaults(name)
    config = make_config({key: str(value) for key, value in given.items()})
    assert config.strategy == (name if name in NAMED else "lora")
    for key in COMMON_FIELDS:
        assert getattr(config, key) == default_of(key)
    for key, value in compose(config.strategy).parameters.items():
        assert getattr(config, key) in (value, None)


@pytest.mark.parametrize("point", list(POINTS))
def test_commands_use_every_parameter_once(point: str) -> None:
    used = re.findall(r"\{(\w+)\}", POINTS[point]["command"])
    assert sorted(used) == sorted(POINTS[point]["parameters"])
    assert "\n" not in POINTS[point]["command"].strip()


@pytest.mark.parametrize("point", list(POINTS))
def test_numbers_are_numbers(point: str) -> None:
    for name, record in POINTS[point]["parameters"].items():
        numeric = isinstance(record["default"], int | float)
        assert (record["type"] == "float") == numeric, name
        assert numeric or isinstance(record["default"], str), name


def test_every_parameter_says_what_it_is() -> None:
    lines = [line for line in text().splitlines() if "{type:" in line]
    assert all(len(line.split("  # ")[1]) > 5 for line in lines)


@pytest.mark.parametrize(("number", "spelt"), [(1e-05, "0.00001"), (0.001, "0.001"), (16.0, "16.0"), (8, "8")])
def test_yaml_reads_numbers_back(number: float, spelt: str) -> None:
    assert plain(number) == spelt
    assert yaml.safe_load(spelt) == number


def test_the_environment_lists_third_parties_only() -> None:
    environment = yaml.safe_load((ROOT / "conda.yaml").read_text())
    packages = environment["dependencies"][-1]["pip"]
    assert environment["dependencies"][:2] == ["python=3.11", "pip"]
    assert [p for p in packages if p.startswith("torch")] == ["torch==2.13.0"]
    wanted = re.findall(r'^    "([\w-]+)', (ROOT / "pyproject.toml").read_text().split("[project.optional")[0], re.M)
    assert sorted(re.split(r"[<>=!]", p)[0] for p in packages) == sorted(wanted)
