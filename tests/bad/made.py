"""What the property tests are fed: task files and tables, good, spoilt, and any bytes."""

import gzip
import json
from collections.abc import Callable
from typing import Any

import yaml
from case import TASK
from hypothesis import strategies as st

from effft.data.files import Layout
from effft.tasks.source import Source
from effft.tasks.task import Task

GOOD = yaml.safe_load(TASK.replace("train: train.csv", "train: {file: train.csv, rows: [0, 4], where: {a: [b, c]}}"))
KEYS = sorted({*Task.model_fields, *Source.model_fields, "sources", "slices", "splits", "column", "map", "drop"})
WORDS = st.sampled_from([*KEYS, "bad", "good", " Yes", "{text}", "{answer}", "{", "..", "/", "a.csv", "tweets", "text"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | WORDS | st.dates()
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of everything in nested lists and mappings."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, child in inner for place in places(child, (*path, key)))]


def changed(value: Any, path: tuple[Any, ...], change: Callable[[Any], Any]) -> Any:
    """A copy with what stands at the path changed."""
    if not path:
        return change(value)
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = changed(copy[path[0]], path[1:], change)
    return copy


@st.composite
def task_values(draw: st.DrawFn) -> Any:
    """A good task with some of it replaced, removed, or something added."""
    value: Any = GOOD
    for _ in range(draw(st.integers(0, 3))):
        path = draw(st.sampled_from(places(value)))
        kind = draw(st.sampled_from(["replace", "remove", "add"]))
        new, key = draw(VALUES), draw(WORDS | st.text(max_size=4))
        if kind == "replace" or not path:
            value = changed(value, path, lambda _, new=new: new)
        elif kind == "remove":
            rest = lambda old, last=path[-1]: (  # noqa: E731
                {k: v for k, v in old.items() if k != last}
                if isinstance(old, dict)
                else [v for i, v in enumerate(old) if i != last]
            )
            value = changed(value, path[:-1], rest)
        else:
            add = lambda old, key=key, new=new: {**old, key: new} if isinstance(old, dict) else old  # noqa: E731
            value = changed(value, path, add)
    return value


@st.composite
def task_texts(draw: st.DrawFn) -> bytes:
    """Task files: good and spoilt values, spoilt text, and any bytes."""
    kind = draw(st.sampled_from(["values", "values", "values", "cut", "noise", "text", "bytes"]))
    if kind == "bytes":
        return draw(st.binary(max_size=80))
    if kind == "text":
        return draw(st.text(max_size=120)).encode("utf-8", "replace")
    text = yaml.dump(draw(task_values()), allow_unicode=draw(st.booleans()), sort_keys=False)
    if kind == "values":
        return text.encode("utf-8", "replace")
    at = draw(st.integers(0, len(text)))
    noise = draw(
        st.text(max_size=4)
        | st.sampled_from(["\t", "&a ", "*a", "!!python/name:os.system ", "? ", "- ", "|", '"\\ud800"', '"\\0"'])
    )
    spoilt = text[:at] if kind == "cut" else text[:at] + noise + text[at:]
    return spoilt.encode("utf-8", "replace")


CELLS = st.text(max_size=8) | st.sampled_from(
    ["bad", "good", "", " ", '"', "a,b", "a\tb", "x\ny", "\r", "1", "1.0", "nan", "\ud800"]
)
SUFFIXES = ("csv", "tsv", "txt", "jsonl", "csv.gz", "jsonl.gz", "parquet", "xml")


@st.composite
def files(draw: st.DrawFn) -> tuple[str, bytes]:
    """A suffix and what stands in the file: rows written well or badly, or any bytes."""
    suffix = draw(st.sampled_from(SUFFIXES))
    kind = suffix.split(".")[0]
    rows = draw(st.lists(st.lists(CELLS, min_size=1, max_size=3), max_size=4))
    rows = draw(st.sampled_from([[], [["text", "label"]]])) + rows
    how = draw(st.sampled_from(["well", "well", "badly", "bytes"]))
    mark = {"csv": ",", "tsv": "\t", "txt": "\t"}.get(kind, ";")
    if how == "bytes":
        content = draw(st.binary(max_size=60))
    elif kind == "jsonl":
        records: list[Any] = [dict(zip(("text", "label", "more"), row, strict=False)) for row in rows]
        records += draw(st.lists(VALUES, max_size=2)) if how == "badly" else []
        content = "\n".join(json.dumps(r, default=str) for r in records).encode("utf-8", "replace")
    elif how == "well" and kind == "csv":
        quoted = ("".join(f'"{c.replace(chr(34), chr(34) * 2)}"{mark}' for c in row)[:-1] for row in rows)
        content = "\r\n".join(quoted).encode("utf-8", "replace")
    else:
        content = "\n".join(mark.join(row) for row in rows).encode(
            draw(st.sampled_from(["utf-8", "utf-16"])), "replace"
        )
    zipped = gzip.compress(content) if suffix.endswith("gz") else content
    return suffix, zipped[: draw(st.sampled_from([None, None, None, -1, 5]))]


LAYOUTS = st.builds(
    Layout,
    columns=st.sampled_from([(), (), ("text", "label"), ("text", "label", "more")]),
    header=st.sampled_from([None, None, True, False]),
    quoting=st.sampled_from([None, None, True, False]),
    delimiter=st.sampled_from(["", "", ";", "|", "x"]),
    skip_incomplete=st.booleans(),
)
SOURCE = Source(file="x.csv", label={"map": {"1": "good"}, "drop": ["nan"]})  # type: ignore[arg-type]
