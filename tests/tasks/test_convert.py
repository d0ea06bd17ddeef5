"""What rows mean: outer spaces are no text, an empty text is a fault, JSON's true is the word true."""

import pytest

from effft.data.table import Table
from effft.errors import InputError
from effft.tasks.rows import to_examples
from effft.tasks.source import Source


def examples(rows, **source):
    table = Table(("text", "label"), rows, "x.csv", range(2, 2 + len(rows)))
    return to_examples(table, Source(file="x.csv", **source), ["text"], ["false", "true"], [])


def test_outer_spaces_are_no_part_of_a_text():
    assert [e.texts for e in examples([("  hi ", " true "), ("yo", "false")])] == [("hi",), ("yo",)]
    assert examples([("b' hi '", "true")], clean="bytes_repr")[0].texts == ("hi",)


def test_an_empty_text_is_a_sentence_with_its_line():
    with pytest.raises(InputError, match=r"x\.csv, line 3: the text \(text\) is empty"):
        examples([("hi", "true"), ("   ", "false")])


def test_a_json_truth_value_is_a_label_word():
    assert [e.label for e in examples([("hi", True), ("yo", False)])] == [1, 0]
