"""Records in YAML files (tasks, recipes): small, plain, and every complaint has a line number."""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from effft.config import CONSTRAINT_MESSAGES
from effft.data.table import is_text
from effft.disk import read_text
from effft.errors import InputError, nearest

DEEPEST = 20  # Levels of nesting; a task needs six.

LAWS = CONSTRAINT_MESSAGES | {
    "too_short": "needs at least {min_length}",
    "too_long": "holds {actual_length:,} where {max_length:,} are the most",
    "string_type": "must be a text",
    "dict_type": "must be a mapping of keys",
    "tuple_type": "must be a list",
    "model_type": "must be a mapping of keys",
    "missing_argument": "this value is missing",
}
"""Pydantic's kinds of error in our words."""

M = TypeVar("M", bound=BaseModel)


def read_record(path: Path, model: type[M], kind: str, named: bool = False, context: Any = None) -> M:
    """A record from a YAML file; every value is a text until the model converts it, so `no` stays a label.

    Args:
        path: the file.
        model: the record.
        kind: what sentences call the file, for example `task file`.
        named: whether the file's name is the record's `name` where it gives none.
        context: what pydantic tells the record's own checks.

    Raises:
        InputError: not readable, no plain YAML, or a value that breaks a law: the sentence has file, line and key.
    """
    root, values = _parse(path, kind, _TextLoader)
    if not isinstance(root, yaml.MappingNode):
        keys = ", ".join(name for name, field in model.model_fields.items() if field.is_required())
        raise InputError(f"{path}: a {kind} is a mapping of keys ({keys}).")
    try:
        return model.model_validate({"name": path.stem} | values if named else values, context=context)
    except ValidationError as error:
        # A mistyped key also makes the right one missing: report the typing error.
        first = min(error.errors(include_url=False), key=lambda fault: fault["type"] != "extra_forbidden")
    key = ".".join(str(part) for part in first["loc"])
    sentence = _sentence(first, model)
    subject = sentence.split(":")[0].split()[0]  # a check of the whole record names its key in the sentence
    loc = first["loc"] or (*subject.split("/"), f"{subject}s", *sentence.split("'")[1:2])
    raise InputError(f"{path}, line {_line(root, loc)}: {key + ': ' if key else ''}{sentence}")


def read_values(path: Path, kind: str) -> Any:
    """What a YAML file holds: numbers, texts, lists, mappings."""
    return _parse(path, kind, _ValueLoader)[1]


def _line(node: yaml.Node, loc: tuple[int | str, ...]) -> int:
    """The line of a key path, or of the nearest thing above it."""
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


class _PlainNodes(yaml.composer.Composer):
    """Refuses what a file written by hand does not need."""

    path: Path
    kind: str
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """One node of the file, with everything below it."""
        event: Any = self.peek_event()  # type: ignore[attr-defined]
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise InputError(f"{self.path}, line {line}: a {self.kind} has no aliases (*{event.anchor}); write it out.")
        if self.depth == DEEPEST:
            raise InputError(f"{self.path}: nested too deeply for a {self.kind}.")
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


class _TextLoader(_PlainNodes, yaml.BaseLoader):
    """Every value is a text."""


class _ValueLoader(_PlainNodes, yaml.SafeLoader):
    """Numbers are numbers; `4:32` is a range, and not the 272 of YAML 1.1, which counts in sixties."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The value of a node."""
        ranged = isinstance(node, yaml.ScalarNode) and ":" in node.value
        return node.value if ranged else super().construct_object(node, deep)


def _parse(path: Path, kind: str, kind_of_loader: Any) -> tuple[yaml.Node | None, Any]:
    """The file as nodes and values; an empty one is None."""
    try:
        loader = kind_of_loader(read_text(path, kind))
        loader.path, loader.kind = path, kind
        root = loader.get_single_node()
        return root, None if root is None else loader.construct_document(root)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if isinstance(mark, yaml.Mark) else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise InputError(f"{path}{where}: no valid YAML: {problem}.") from None


def _sentence(error: Any, model: type[BaseModel]) -> str:
    kind, loc, value = error["type"], error["loc"], error["input"]
    if kind == "missing":
        return f"this key is missing{', add it' if len(loc) > 1 else ' at the top level of the file'}."
    if kind == "extra_forbidden":
        inner = model.model_json_schema()["$defs"].values()
        known = model.model_fields if len(loc) == 1 else {key for part in inner for key in part.get("properties", ())}
        return f"unknown key {loc[-1]!r}; known here: {', '.join(sorted(known))}.{nearest(str(loc[-1]), known)}"
    if kind == "literal_error":
        known = {part.strip("' ") for part in error["ctx"]["expected"].replace(" or ", ", ").split(", ")} - {""}
        return f"unknown value {value!r}; known: {', '.join(sorted(known))}.{nearest(str(value), known)}"
    if kind == "value_error":
        return str(error["ctx"]["error"]).rstrip(".?") + ("?" if str(error["ctx"]["error"]).endswith("?") else ".")
    shown = repr(value) if len(repr(value)) < 80 else repr(value)[:77] + "..."
    law = LAWS.get(kind, error["msg"][0].lower() + error["msg"][1:]).format(**error.get("ctx", {}))
    return f"{law}, not {shown}."
