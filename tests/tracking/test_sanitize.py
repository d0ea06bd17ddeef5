import json

import numpy as np
import pytest

from effft.redaction import redact
from effft.tracking.sanitize import table_json, truncate


def test_what_is_cut_stays_different() -> None:
    first, second = truncate("x" * 300 + "a", 250), truncate("x" * 300 + "b", 250)
    assert len(first) == len(second) == 250
    assert first != second
    assert truncate("short", 10) == "short"


def test_tables_are_json_that_a_browser_reads() -> None:
    columns = {"row": np.arange(2), "score": np.array([0.5, np.nan], dtype=np.float32), "text": ["é", None]}
    found = json.loads(table_json(columns), parse_constant=pytest.fail)
    assert found == {"columns": ["row", "score", "text"], "data": [[0, 0.5, "é"], [1, None, None]]}


def test_without_secrets() -> None:
    assert redact("at https://me:p@ss@host/x and http://host") == "at https://***@host/x and http://host"
