"""Keys of metrics: injective, readable, valid in MLflow, and read back as they were made."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name

from effft.data.examples import Example
from effft.errors import RunError
from effft.evaluation.evaluate import slice_rows
from effft.evaluation.metric_keys import (
    LONGEST_KEY,
    MetricKey,
    bounds,
    collect,
    from_table,
    ood_sets,
    parse,
    slices_with,
    splits_with,
    to_table,
)
from effft.tracking.sanitize import table_json

TEXT = st.text(max_size=400) | st.sampled_from(
    ["", " ", ".", "..", "/", ":", "_", "(blank)", ":blank:", "a.b", "slice"]
)
PAIRS = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5).map(tuple)


@pytest.mark.parametrize(
    ("pairs", "path"),
    [
        ((("heuristic", "lexical_overlap"),), "slice/heuristic.lexical_overlap"),
        ((("label", "bad"), ("topic", "films & tv")), "slice/label.bad/topic.films :ampersand: tv"),
        ((("topic", ""),), "slice/topic.:blank:"),
        ((("emoji", "😀"), ("a.b", "../x")), "slice/emoji.:grinning face:/a:full stop:b...:solidus:x"),
    ],
)
def test_a_key_names_its_dimension_and_is_read_back(pairs: tuple[tuple[str, str], ...], path: str) -> None:
    key = MetricKey("ood/far", "accuracy", pairs)
    assert str(key) == f"ood/far/{path}/accuracy"
    assert parse(str(key)) == key


@settings(max_examples=500, deadline=None)
@given(PAIRS)
def test_mlflow_takes_a_key_of_any_text(pairs: tuple[tuple[str, str], ...]) -> None:
    key = str(MetricKey(f"ood/{'x' * 60}", "balanced_accuracy_high", pairs))
    _validate_metric_name(key)
    assert len(key) <= LONGEST_KEY
    known = parse(key)
    assert known is not None
    assert (known.split, known.metric) == (f"ood/{'x' * 60}", "balanced_accuracy_high")
    if ":more " not in key:
        assert known.slice == pairs


@settings(max_examples=500, deadline=None)
@given(st.lists(PAIRS, min_size=2, max_size=6, unique=True))
@pytest.mark.slow
def test_kind_1_no_two_slices_share_a_key(slices: list[tuple[tuple[str, str], ...]]) -> None:
    keys = {str(MetricKey("in_domain", "accuracy", pairs)) for pairs in slices}
    assert len(keys | {"in_domain/accuracy"}) == len(slices) + 1


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=20))
def test_the_rows_of_a_slice_are_those_of_its_value(values: list[tuple[str, str]]) -> None:
    examples = [Example(("x",), 0, i, (("a", one), ("b", other))) for i, (one, other) in enumerate(values)]
    rows = slice_rows(["only"], examples, [("a",), ("b",), ("a", "b"), ("a",)])
    for dimensions, place in ((("a",), 0), (("b",), 1)):
        for value in {pair[place] for pair in values}:
            expected = [i for i, pair in enumerate(values) if pair[place] == value]
            assert rows[tuple(zip(dimensions, (value,), strict=True))] == expected
    assert sum(map(len, rows.values())) == 3 * len(values)


def test_what_a_report_reads() -> None:
    sliced = str(MetricKey("ood/far", "mcc", (("topic", "films"),)))
    metrics = {"ood/far/mcc": 0.5, sliced: 0.1, "in_domain/mcc": 0.7, "validation/mcc": 0.6, "train/loss": 1.0}
    metrics |= {"resources/train_seconds": 1.0, "ood/far/mcc_low": 0.4, "ood/far/mcc_high": 0.6, "ood/near/gap": 0.0}
    assert splits_with(metrics, "mcc") == ["validation", "in_domain", "ood/far"]
    assert ood_sets(metrics, "mcc") == ("far",)
    assert list(slices_with(metrics, "ood/far", "mcc")) == [sliced]
    assert bounds(metrics, "ood/far", "mcc") == (0.4, 0.6)
    assert bounds(metrics, "in_domain", "mcc") is None
    assert [parse(key) for key in ("resources/train_seconds", "train/loss", "ood/far", "")] == [None] * 4


def test_two_metrics_never_share_a_key() -> None:
    with pytest.raises(RunError, match="two metrics have the key 'in_domain/mcc'"):
        collect({"in_domain/mcc": 0.1}, {"in_domain/mcc": 0.2})


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@given(st.dictionaries(st.text("ab/. C", min_size=1), NUMBERS | st.tuples(NUMBERS, NUMBERS, NUMBERS)))
def test_a_table_of_metrics_is_read_back_to_the_bit(measured: dict[str, float | tuple[float, ...]]) -> None:
    metrics = {"ood/far/slice/a.b/mcc": 0.1, "in_domain/examples": 5.0, "resources/train_seconds": 0.1}
    for key, value in measured.items():
        values = value if isinstance(value, tuple) else (value,)
        metrics |= dict(zip((key, f"{key}_low", f"{key}_high"), values, strict=False))
    table = json.loads(table_json(to_table(metrics)))
    assert from_table(table["columns"], table["data"]) == metrics
