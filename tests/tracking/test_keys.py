import json

import numpy as np
import pytest

from effft.redaction import redact
from effft.tracking.sanitize import LONGEST_KEY, safe_key, table_json, truncate


@pytest.mark.parametrize(
    ("key", "safe"),
    [
        ("ood/hans/a=b,é/accuracy", "ood/hans/a_b_é/accuracy"),
        ("/a//b/", "a/b"),
        ("a/../b/.", "a/_/b/_"),
        ("", "_"),
        ("阴/mcc", "阴/mcc"),
    ],
)
def test_safe_key(key: str, safe: str) -> None:
    from mlflow.utils.validation import _validate_metric_name

    assert safe_key(key) == safe
    _validate_metric_name(safe_key(key))


def test_what_is_cut_stays_different() -> None:
    first, second = safe_key("x" * 300 + "a"), safe_key("x" * 300 + "b")
    assert len(first) == len(second) == LONGEST_KEY
    assert first != second
    assert truncate("short", 10) == "short"


def test_tables_are_json_that_a_browser_reads() -> None:
    columns = {"row": np.arange(2), "score": np.array([0.5, np.nan], dtype=np.float32), "text": ["é", None]}
    found = json.loads(table_json(columns), parse_constant=pytest.fail)
    assert found == {"columns": ["row", "score", "text"], "data": [[0, 0.5, "é"], [1, None, None]]}


def test_without_secrets() -> None:
    assert redact("at https://me:p@ss@host/x and http://host") == "at https://***@host/x and http://host"
