"""Every example in a help page is a command that would start; the cheap ones run."""

import json
import re
import shlex
from pathlib import Path

import click
import pytest
from mlflow import pyfunc
from pandas import DataFrame

from effft.cli.app import COMMANDS, app
from effft.cli.exit_codes import run_command_line
from effft.cli.run import COMPOSED
from effft.config import RunConfig, make_config
from effft.strategies.strategy import NAMED
from tests.helpers import parsed

ROOT = Path(__file__).parents[2]
QUICK = ("--evaluation-limit=4", "--bootstrap=0", "--threads=1")
RUNS = {"run lora ": ("--steps=2", *QUICK), "show": (), "estimate": (), "completion": (), "tasks": ()}
"""Beginnings of examples that run, and flags that make them quick (a later flag wins)."""


def pages() -> list[click.Command]:
    """Every command, every strategy, and `task new`."""
    context = click.Context(app)
    commands = {name: app.get_command(context, name) for name in COMMANDS}
    below = [commands["run"].get_command(context, name) for name in (*NAMED, *COMPOSED)]
    return [app, *commands.values(), *below, *commands["task"].commands.values()]


def written() -> list[str]:
    """The examples of the help pages, and the commands of README and docs that call effft."""
    lines = [line for page in pages() for line in (page.epilog or "").splitlines()]
    pages_of_text = [path.read_text() for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))]
    blocks = [block for text in pages_of_text for block in re.findall(r"^```\w*\n(.*?)^```", text, re.S | re.M)]
    lines += [
        line.split("  #")[0].replace("python -m effft", "effft") for block in blocks for line in block.splitlines()
    ]
    lines = [line for line in lines if "kubectl" not in line and "secret" not in line]
    return sorted({match.group(1) for line in lines if (match := re.search(r"(?:^|\s|\()effft (\w[^>)]*)", line))})


@pytest.mark.parametrize("example", written())
def test_examples_parse_and_their_values_are_valid(
    example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = shlex.split(example)
    if "adapter_config.json" in words:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "adapter_config.json").write_text('{"peft_type": "IA3"}')
    if "--help" in words:
        assert run_command_line(words) == 0
        return
    context = parsed(words)
    ranged = context.command.name in ("search", "compare")  # a range or a list where one value would stand
    values = {k: v for k, v in context.params.items() if k in RunConfig.model_fields and not isinstance(v, tuple)}
    values = {k: v for k, v in values.items() if not (ranged and re.search(r"[:|]", str(v)))}
    make_config({k: v for k, v in values.items() if k != "task" and "," not in str(v)})


@pytest.mark.parametrize("example", [e for e in written() if f"{e} ".startswith(tuple(RUNS)) and "path/to" not in e])
def test_cheap_examples_run(example: str, tmp_path: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if re.search(r"mnli|cola|pretrained/|my_|reviews", example):
        pytest.skip("needs data or a model that is not here")
    monkeypatch.chdir(tmp_path)
    quick = next(flags for start, flags in RUNS.items() if f"{example} ".startswith(start))
    quick += (f"--tracking-uri={tracking_uri}",) if quick else ()
    assert run_command_line([*shlex.split(example), *(quick if "--help" not in example else ())]) == 0


def test_the_name_of_a_strategy_is_answered_with_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["lora+pbft"]) == 2
    assert "type `effft run lora+pbft`" in capsys.readouterr().err


@pytest.mark.parametrize("width", [80, 120])
def test_help_wraps_between_words(width: int) -> None:
    for page in pages():
        text = page.get_help(page.context_class(page, info_name=page.name, terminal_width=width))
        lines = text.split("Examples:")[0].splitlines()
        assert max(map(len, lines)) <= width, page.name
        assert not [line for line in lines if line.rstrip().endswith("-")], page.name


SHORT = "--epochs=1 --evaluation-limit=8 --bootstrap=0 --threads=1 --per-label=4"
SHORTENED = {
    "run lora --log-model": SHORT,
    "compare": f"{SHORT} --seeds=1",
    "search": f"{SHORT} --trials=1 --seeds=1 --reseeds=1",
    "report": "",
    "register": "",
    "predict": "",
}
"""The README's commands that need no hub, by their beginnings, and flags that make them quick."""


@pytest.mark.slow
def test_the_commands_of_the_readme_run(
    tracking_uri: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
    (Path.cwd() / "search").symlink_to(ROOT / "search")
    lines = re.findall(r"^effft (.*?)(?:  +#.*)?$", (ROOT / "README.md").read_text(), re.M)
    asked = {start: [line for line in lines if line.startswith(start)] for start in SHORTENED}
    assert all(len(found) == 1 for found in asked.values()), asked
    run_id = ""
    for start, (line,) in asked.items():
        words = shlex.split(f"{line} {SHORTENED[start]}".replace("RUN_ID", run_id))
        assert run_command_line(words) == 0, (line, capsys.readouterr().err)
        said = capsys.readouterr().out
        run_id = run_id or re.findall(r"run id +([0-9a-f]{32})", said)[0]
        assert said
    uri, body = re.search(r"-m (models:\S+).*? -d '(.*?)'", (ROOT / "README.md").read_text(), re.S).groups()
    answers = pyfunc.load_model(uri).predict(DataFrame(json.loads(body)["dataframe_records"]))
    assert list(answers["label_name"]) in (["acceptable"], ["unacceptable"])
