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
    rows = [[_json_value(value) for value in row] for row in zip(*columns.values(), strict=True)]
    return json.dumps({"columns": list(columns), "data": rows}, default=str)


def _json_value(value: object) -> object:
    item = getattr(value, "item", None)
    value = item() if callable(item) else value  # numpy and torch scalars
    return None if isinstance(value, float) and not math.isfinite(value) else value  # JSON has no NaN
