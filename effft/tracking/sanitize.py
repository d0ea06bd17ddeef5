"""Keys and values in the form that MLflow takes: allowed characters, lengths, JSON without NaN."""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence

from effft.redaction import redact

LONGEST_PARAM, LONGEST_TAG, LONGEST_KEY = 6000, 8000, 250


def safe_key(key: str) -> str:
    """A key that MLflow takes.

    Letters and digits of any script and ' _-.:/' stay, anything else becomes '_'. Keys are read as paths, so empty
    steps go and the steps '.' and '..' become '_'.
    """
    steps = [step for step in re.sub(r"[^\w\-. :/]", "_", key).split("/") if step]
    return truncate("/".join("_" if step in (".", "..") else step for step in steps) or "_", LONGEST_KEY)


def truncate(value: object, longest: int) -> str:
    """The value as text; one that is too long ends in a hash of the whole, so that different values stay different."""
    text = str(value)
    if len(text) <= longest:
        return text
    tail = "...#" + hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:12]
    return text[: longest - len(tail)] + tail


def sentence_of(error: BaseException, longest: int = 300) -> str:
    """What an error says, in one line without passwords, SQL and advertisements of manuals."""
    said = re.split(r"\[SQL:|\(Background on this", str(error))[0]
    return redact(" ".join(said.split()))[:longest]


def table_json(columns: Mapping[str, Sequence[object]]) -> str:
    """Rows as the JSON that MLflow's UI shows as a table ('split' orientation); NaN and infinities become null."""
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    try:
        return json.dumps({"columns": list(columns), "data": rows}, default=_plain, allow_nan=False)
    except ValueError:  # a number that JSON does not have, and that a browser does not read
        clean = [[_finite(_plain(value)) for value in row] for row in rows]
        return json.dumps({"columns": list(columns), "data": clean}, default=str)


def _plain(value: object) -> object:
    item = getattr(value, "item", None)  # numpy and torch scalars
    if callable(item):
        return item()
    return value if value is None or isinstance(value, (bool, int, float, str, list, dict, tuple)) else str(value)


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value
