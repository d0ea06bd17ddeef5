"""The MLproject file: short, and its parameters are flags of the commands with their defaults."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml

from effft.cli.options import FIELDS, default_of, spell
from effft.config import DATA_FIELDS, make_config
from effft.strategies.strategy import NAMED, compose
from tests.helpers import parsed

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "MLproject").read_text()
POINTS = yaml.safe_load(TEXT)["entry_points"]


def command_of(point: str, **given: str) -> list[str]:
    """The words after `python -m effft` as MLflow makes them: the entry point's command, then undeclared parameters."""
    values = {name: record["default"] for name, record in POINTS[point]["parameters"].items()} | given
    line = POINTS[point]["command"].format(**{name: shlex.quote(str(value)) for name, value in values.items()})
    rest = [f"--{name} {value}" for name, value in given.items() if name not in POINTS[point]["parameters"]]
    words = shlex.split(" ".join([line, *rest]))
    assert words[:3] == ["python", "-m", "effft"]
    return words[3:]


def test_every_strategy_has_an_entry_point_in_a_short_file() -> None:
    assert {"main", "compare", "run", "search", "choose", "pretrain", "report", *NAMED} == set(POINTS)
    assert len(TEXT.splitlines()) <= 130
    assert all(3 <= len(point["parameters"]) <= 8 for point in POINTS.values())


@pytest.mark.parametrize("point", POINTS)
def test_parameters_are_flags_with_their_defaults(point: str) -> None:
    parameters = POINTS[point]["parameters"]
    used = re.findall(r"(?:--([\w-]+) )?\{(\w+)\}", POINTS[point]["command"])
    assert sorted(name for _, name in used) == sorted(parameters)
    assert all(flag in ("", name.replace("_", "-")) for flag, name in used)
    context = parsed(command_of(point))
    known = {parameter.name: parameter for parameter in context.command.params}
    for name, record in parameters.items():
        assert record["type"] == ("string" if isinstance(record["default"], str) else "float")
        if (point, name) == ("run", "strategy") or record["default"] == "":
            continue  # an argument; and an empty value stands for whatever the default is
        strategy = compose(point) if point in NAMED else None
        default = default_of(name, strategy) if name in FIELDS else known[name].default
        assert point == "main" or spell(record["default"]) == spell(default), name


@pytest.mark.parametrize("point", POINTS)
def test_empty_values_are_not_given(point: str) -> None:
    """-P name='' counts as the flag's default, for numbers and words alike."""
    names = [name for name in POINTS[point]["parameters"] if name != "strategy"]
    empty, usual = (
        parsed(command_of(point, **dict.fromkeys(names, ""))),
        parsed(command_of(point)[: 2 if point == "run" or point in NAMED else 1]),
    )
    for name in names:
        assert empty.params[name] in (usual.params[name], ""), name


def test_undeclared_parameters_pass_through_and_later_flags_win() -> None:
    context = parsed(command_of("lora", rank="4", lora_dropout="0.2", per_label="8"))
    assert [context.params[name] for name in ("rank", "lora_dropout", "per_label")] == ["4", "0.2", "8"]
    assert parsed(command_of("main", seeds="3")).params["seeds"] == 3


@pytest.mark.parametrize("point", ["run", "lora"])
def test_data_take_the_place_of_the_usual_task(point: str) -> None:
    given = parsed(command_of(point, data="reviews.csv", label="stars")).params
    config = make_config({name: given[name] for name in ("task", *DATA_FIELDS)})
    assert (config.task, config.label) == ("reviews.csv", "stars")


def test_the_environment_lists_third_parties_only() -> None:
    environment = yaml.safe_load((ROOT / "conda.yaml").read_text())
    packages = environment["dependencies"][-1]["pip"]
    assert environment["dependencies"][:2] == ["python=3.11", "pip"]
    assert [p for p in packages if p.startswith("torch")] == ["torch==2.13.0"]
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert sorted(re.split(r"[<>=!]", p)[0] for p in packages) == sorted(re.split(r"[<>=!]", p)[0] for p in wanted)
