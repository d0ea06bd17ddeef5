"""What rows mean: outer spaces are no text, an empty text is a fault, JSON's true is the word true."""

import re

import pytest
import yaml

from effft.data.examples import Example
from effft.data.table import SourceRow, Table, normalize_text
from effft.errors import InputError
from effft.tasks.rows import to_examples
from effft.tasks.source import Source


def examples(rows: list[tuple[object, object]], **source: object) -> tuple[Example, ...]:
    found = [SourceRow(line, {"text": text, "label": label}) for line, (text, label) in enumerate(rows, start=2)]
    table = Table("x.csv", ("text", "label"), lambda: iter(found), "line")
    return to_examples(table, Source(file="x.csv", **source), ["text"], ["false", "true"], [])  # type: ignore[arg-type]


def test_outer_spaces_are_no_part_of_a_text() -> None:
    assert [e.texts for e in examples([("  hi ", " true "), ("yo", "false")])] == [("hi",), ("yo",)]
    assert examples([("b' hi '", "true")], clean="bytes_repr")[0].texts == ("hi",)


def test_an_empty_text_is_a_sentence_with_its_line() -> None:
    with pytest.raises(InputError, match=r"x\.csv, line 3: the text \(text\) is empty"):
        examples([("hi", "true"), ("   ", "false")])


def test_a_json_truth_value_is_a_label_word() -> None:
    assert [e.label for e in examples([("hi", True), ("yo", False)])] == [1, 0]


@pytest.mark.parametrize("value", [None, "so, so", 'it\'s {"odd"}: #1', "Ünï 😀"])
def test_kind_8_an_unknown_label_says_how_to_map_or_drop_it_and_both_work(value: str | None) -> None:
    rows: list[tuple[object, object]] = [("hi", "true"), ("yo", value)]
    with pytest.raises(InputError, match=r"line 3: .*label") as raised:
        examples(rows)
    mapped, dropped = (yaml.safe_load(said) for said in re.findall("`(label: .*?}}?)`", str(raised.value)))
    assert [e.label for e in examples(rows, **mapped)] == [1, 0]
    assert [e.label for e in examples(rows, **dropped)] == [1]


@pytest.mark.parametrize("value", [None, True, float("nan"), [1], {"a": 1}, b"x"])
def test_what_is_no_text(value: object) -> None:
    with pytest.raises(ValueError, match="no text; fill or remove it"):
        normalize_text(value)


def test_numbers_are_texts() -> None:
    assert [normalize_text(value) for value in (5, 1.5, "\t x\r\n")] == ["5", "1.5", "x"]
