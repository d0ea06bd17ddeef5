"""Values in the form that MLflow takes: lengths, sentences without secrets, JSON without NaN."""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence

from effft.redaction import redact

LONGEST_PARAM, LONGEST_TAG = 6000, 8000


def truncate(value: object, longest: int) -> str:
    """The value as text; a longer one ends in a hash of the whole, so that different values stay different."""
    text = str(value)
    if len(text) <= longest:
        return text
    tail = "...#" + hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:12]
    return text[: longest - len(tail)] + tail


def sentence_of(error: BaseException, longest: int = 300) -> str:
    """The message of an error in one line, without secrets, SQL and links to manuals."""
    message = re.split(r"\[SQL:|\(Background on this", str(error))[0]
    return redact(" ".join(message.split()))[:longest]


def table_json(columns: Mapping[str, Sequence[object]]) -> str:
    """Rows as the JSON that MLflow's UI shows as a table ('split' orientation); NaN and infinities become null."""
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    try:
        return json.dumps({"columns": list(columns), "data": rows}, default=_json_value, allow_nan=False)
    except ValueError:  # JSON has no NaN, and a browser does not read it
        finite = [[_finite(_json_value(value)) for value in row] for row in rows]
        return json.dumps({"columns": list(columns), "data": finite}, default=str)


def _json_value(value: object) -> object:
    item = getattr(value, "item", None)  # numpy and torch scalars
    if callable(item):
        return item()
    return value if value is None or isinstance(value, (bool, int, float, str, list, dict, tuple)) else str(value)


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value
