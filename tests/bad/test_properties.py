"""Ten thousand generated inputs: each is accepted, and then survives being written and read again, or refused by us."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made import LAYOUTS, SOURCE, files, task_texts

from effft.cli.options import flag
from effft.config import RunConfig, make_config
from effft.data.files import Layout, open_table
from effft.data.table import normalize_text
from effft.errors import InputError
from effft.tasks.rows import to_examples
from effft.tasks.task import load_task

QUIET = {"deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}
FEW = settings(max_examples=25, **QUIET)  # type: ignore[arg-type]
MANY = settings(max_examples=3500, **QUIET)  # type: ignore[arg-type]
LEAST = settings(max_examples=3000, **QUIET)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("generated")


def attempt(call: Callable[[], Any], *names: str) -> Any:
    """What the call gives; None when it refuses with one sentence of ours that holds the names."""
    try:
        return call()
    except InputError as error:
        said = str(error)
        assert "\n" not in " ".join(said.split())
        assert [name for name in names if name not in said] == []
        assert len(said) < 2000
        return None


# ---- task files ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@MANY
@given(content=task_texts())
def test_task_files(folder: Path, content: bytes) -> None:
    path = folder / "mood.yaml"
    path.write_bytes(content)
    task = attempt(lambda: load_task(str(path)), str(path))
    if task is None:
        return
    again = folder / "again.yaml"
    again.write_text(yaml.safe_dump(task.model_dump(mode="json", exclude_unset=True), allow_unicode=True))
    assert load_task(str(again)) == task


def test_most_kinds_of_task_file_are_made(folder: Path) -> None:
    """The generator reaches both ends."""
    seen: set[bool] = set()

    @settings(max_examples=40, **QUIET)  # type: ignore[arg-type]
    @given(content=task_texts())
    def look(content: bytes) -> None:
        (folder / "mood.yaml").write_bytes(content)
        seen.add(attempt(lambda: load_task(str(folder / "mood.yaml"))) is None)

    look()
    assert seen == {True, False}


# ---- tables -------------------------------------------------------------------------------------------------------


def check_table(folder: Path, made: tuple[str, bytes], layout: Layout) -> None:
    suffix, content = made
    path = folder / f"x.{suffix}"
    path.write_bytes(content)
    table = attempt(lambda: open_table(path, layout), str(path))
    rows = attempt(lambda: list(table), str(path)) if table else None
    if rows is None:
        return
    assert rows
    assert all(set(row.values) <= set(table.columns) for row in rows)
    cells = [[row.values.get(name) for name in table.columns] for row in rows]
    if table.columns and all(isinstance(cell, str) for row in cells for cell in row) and all(table.columns):
        again = folder / "again.csv"
        with again.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, quoting=csv.QUOTE_ALL).writerows([list(table.columns), *cells])
        assert [list(row.values.values()) for row in open_table(again)] == cells
    examples = attempt(lambda: to_examples(table, SOURCE, ("text",), ("bad", "good"), ("label",)), str(path))
    for example in examples or ():
        assert example.label in (0, 1)
        assert example.texts == (normalize_text(rows[example.index].values["text"]),)


@FEW
@given(made=files(), layout=LAYOUTS)
def test_a_few_tables(folder: Path, made: tuple[str, bytes], layout: Layout) -> None:
    check_table(folder, made, layout)


@pytest.mark.slow
@MANY
@given(made=files(), layout=LAYOUTS)
def test_many_tables(folder: Path, made: tuple[str, bytes], layout: Layout) -> None:
    check_table(folder, made, layout)


# ---- options ------------------------------------------------------------------------------------------------------

NUMBERS = (
    st.integers().map(str) | st.floats().map(str) | st.sampled_from(["", "1e-3", "0", "1_0", " 1", "true", "٣", "0x1"])
)
OPTIONS = st.dictionaries(
    st.sampled_from(sorted(RunConfig.model_fields)) | st.text(max_size=5),
    NUMBERS | st.text(max_size=8) | st.none(),
    max_size=4,
)


def check_options(values: dict[str, str | None]) -> None:
    config = attempt(lambda: make_config(values))
    if config is not None:
        assert make_config(json.loads(json.dumps(config.model_dump()))) == config
        assert all(flag(name).startswith("--") for name in values)


@FEW
@given(values=OPTIONS)
def test_a_few_options(values: dict[str, str | None]) -> None:
    check_options(values)


@pytest.mark.slow
@LEAST
@given(values=OPTIONS)
def test_many_options(values: dict[str, str | None]) -> None:
    check_options(values)
