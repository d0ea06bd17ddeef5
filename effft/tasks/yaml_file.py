"""A task file as YAML: small, plain, and every complaint has a line number."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from effft.config import CONSTRAINT_MESSAGES
from effft.data.table import is_text
from effft.disk import check_regular
from effft.errors import InputError, nearest
from effft.tasks.source import LabelRule, Source, Split

LARGEST = 1 << 20
"""Bytes; a task file is a page, not a data set."""

DEEPEST = 20
"""Levels of nesting; a task needs six."""

LAWS = CONSTRAINT_MESSAGES | {
    "too_short": "needs at least {min_length}",
    "string_type": "must be a text",
    "dict_type": "must be a mapping of keys",
    "tuple_type": "must be a list",
    "model_type": "must be a mapping of keys",
    "missing_argument": "this value is missing",
}
"""Pydantic's kinds of error in our words."""

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Document:
    """The values of one YAML file and where they stand.

    values: only strings, lists and mappings: `no` stays the text 'no'; the models convert what they need.
    """

    path: Path
    values: dict[str, Any]
    root: yaml.MappingNode

    def validate(self, model: type[M], values: dict[str, Any], context: Mapping[str, object] | None = None) -> M:
        """The values as a record. context: what pydantic tells the record's own checks.

        Raises:
            InputError: the first thing wrong, with file, line and key.
        """
        try:
            return model.model_validate(values, context=context)
        except ValidationError as error:
            # A mistyped key also makes the right one missing: report the typing error.
            first = min(error.errors(include_url=False), key=lambda fault: fault["type"] != "extra_forbidden")
        key = ".".join(str(part) for part in first["loc"])
        sentence = _sentence(first, set(model.model_fields))
        subject = sentence.split(":")[0].split()[0]  # a check of the whole record names its key in the sentence
        loc = first["loc"] or (*subject.split("/"), f"{subject}s", *sentence.split("'")[1:2])
        raise InputError(f"{self.path}, line {self._line(loc)}: {key + ': ' if key else ''}{sentence}")

    def _line(self, loc: tuple[int | str, ...]) -> int:
        """The line of a key path, or of the nearest thing above it."""
        node: yaml.Node = self.root
        line: int = node.start_mark.line
        for part in loc:
            if isinstance(node, yaml.MappingNode):
                found = next(((k, v) for k, v in node.value if k.value == str(part)), None)
                if found is None:
                    continue
                line, node = found[0].start_mark.line, found[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
                line = node.start_mark.line
        return line + 1


class _Loader(yaml.BaseLoader):
    """Makes strings, lists and mappings only, and refuses what a task file does not need."""

    path: Path
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """One node of the file, with everything below it."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise InputError(f"{self.path}, line {line}: a task file has no aliases (*{event.anchor}); write it out.")
        if self.depth == DEEPEST:
            raise InputError(f"{self.path}: nested too deeply for a task file.")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        if isinstance(node, yaml.ScalarNode) and not is_text(node.value):
            raise InputError(f"{self.path}, line {line}: {node.value!r} is no text (NUL or half a pair); write it out.")
        if isinstance(node, yaml.MappingNode):
            self._check_keys(node)
        return node

    def _check_keys(self, node: yaml.MappingNode) -> None:
        names = set()
        for key, _ in node.value:
            place = f"{self.path}, line {key.start_mark.line + 1}"
            if not isinstance(key, yaml.ScalarNode):
                raise InputError(f"{place}: a key must be a plain word; quote texts that start with a brace.")
            if key.value in names:
                raise InputError(f"{place}: key {key.value!r} stands there twice; keep one.")
            names.add(key.value)


def parse(path: Path) -> Document:
    """The file as nodes and values.

    Raises:
        InputError: not readable, too large, no YAML, aliases, a key twice, or no mapping.
    """
    try:
        loader = _Loader(_text(path))
        loader.path = path
        root = loader.get_single_node()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if isinstance(mark, yaml.Mark) else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise InputError(f"{path}{where}: no valid YAML: {problem}.") from None
    if not isinstance(root, yaml.MappingNode):
        raise InputError(f"{path}: a task file is a mapping of keys (name, fields, labels, train, in_domain).")
    return Document(path, loader.construct_document(root), root)


def _text(path: Path) -> str:
    if not path.exists():
        beside = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        place = ""
        if not path.is_absolute():
            place = (
                f" It was looked for at {path.absolute()}; `mlflow run` works in the project's folder, so give it "
                "the whole path."
            )
        raise InputError(f"task file {path}: no such file.{nearest(path.name, beside)}{place}")
    if path.is_dir():
        raise InputError(f"task file {path} is a folder; name the .yaml file in it.")
    check_regular(path)
    try:
        if path.stat().st_size > LARGEST:
            raise InputError(f"task file {path} has {path.stat().st_size:,} bytes; 1 MB is the most.")
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"task file {path} is no UTF-8 text (byte {error.start}); save it as UTF-8.") from None
    except OSError as error:
        raise InputError(f"task file {path} cannot be read: {error.strerror or error}.") from None


def _sentence(error: Any, top: set[str]) -> str:
    kind, loc, value = error["type"], error["loc"], error["input"]
    if kind == "missing":
        return f"this key is missing{', add it' if len(loc) > 1 else ' at the top level of the file'}."
    if kind == "extra_forbidden":
        known = top if len(loc) == 1 else {*Source.model_fields, *Split.model_fields, *LabelRule.model_fields}
        return f"unknown key {loc[-1]!r}; known here: {', '.join(sorted(known))}.{nearest(str(loc[-1]), known)}"
    if kind == "literal_error":
        known = {part.strip("' ") for part in error["ctx"]["expected"].replace(" or ", ", ").split(", ")} - {""}
        return f"unknown value {value!r}; known: {', '.join(sorted(known))}.{nearest(str(value), known)}"
    if kind == "value_error":
        return str(error["ctx"]["error"]).rstrip(".?") + ("?" if str(error["ctx"]["error"]).endswith("?") else ".")
    shown = repr(value) if len(repr(value)) < 80 else repr(value)[:77] + "..."
    law = LAWS.get(kind, error["msg"][0].lower() + error["msg"][1:]).format(**error.get("ctx", {}))
    return f"{law}, not {shown}."
