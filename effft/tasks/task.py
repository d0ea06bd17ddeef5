"""A task: its texts, labels, patterns, metric and splits. A record, the built-in ones too."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, PrivateAttr, model_validator

from effft.errors import InputError, lookup, nearest
from effft.tasks.builtin.difficulty import DIFFICULTY_SETTINGS
from effft.tasks.source import Metric, Names, Record, Split
from effft.tasks.wording import check_patterns, check_words
from effft.tasks.yaml_file import parse

RECORDS = Path(__file__).parent / "records"
NAME_CHARACTERS = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")


class Task(Record):
    """Texts, labels, patterns, metric and splits.

    labels: names; their order is the class index. label_words: label name -> word, exact, with its leading space.
    patterns: by name, the first is the default; `{field}` placeholders and at most one `{answer}`.
    """

    version: int = Field(default=1, ge=1, le=1)
    name: str
    description: str = ""
    fields: Names = Field(min_length=1)
    labels: tuple[str, ...] = Field(min_length=2)
    metric: Metric = "accuracy"
    label_words: dict[str, str] = Field(default_factory=dict)
    patterns: dict[str, str] = Field(default_factory=dict)
    train: Split
    in_domain: Split
    ood: dict[str, Split] = Field(default_factory=dict)
    _folder: Path | None = PrivateAttr(default=None)
    _outside: bool = PrivateAttr(default=False)

    @model_validator(mode="before")
    @classmethod
    def _unfold(cls, given: Any) -> Any:
        """The three kinds of split may also stand together under `splits`."""
        if isinstance(given, dict) and isinstance(given.get("splits"), dict):
            rest = {key: value for key, value in given.items() if key != "splits"}
            twice = sorted(set(rest) & set(given["splits"]))
            if twice:
                raise ValueError(f"{twice[0]!r} stands both beside and under `splits`; keep one")
            return rest | given["splits"]
        return given

    @model_validator(mode="after")
    def _check(self) -> Self:
        for what, names in (("label", self.labels), ("field", self.fields)):
            twice = [n for i, n in enumerate(names) if n in names[:i]]
            if twice:
                raise ValueError(f"{what} {twice[0]!r} is named twice in {what}s; each {what} once")
            if not all(n.strip() for n in names):
                raise ValueError(f"{what}s holds an empty name; name every {what}")
        for field in self.fields:
            if not field.isidentifier() or field in ("answer", "label"):
                raise ValueError(
                    f"field {field!r} cannot stand in a pattern as {{{field}}}; use another name (letters, digits, _)"
                    f" and say its column in each split (`fields: {{name: {field}}}`)"
                )
        for what, name in (("name", self.name), *(("ood set", n) for n in self.ood)):
            if not set(name) <= NAME_CHARACTERS or not name.strip(".") or len(name) > 60:
                raise ValueError(f"{what} {name!r}: use 1 to 60 letters, digits, '_', '-' and '.', not dots alone")
        check_words(self.label_words, self.labels)
        check_patterns(self.patterns, self.fields)
        for split in self.split_names:
            self._check_split(split)
        return self

    def _check_split(self, name: str) -> None:
        for source in self.split(name).sources:
            for field in source.fields:
                if field not in self.fields:
                    raise ValueError(
                        f"{name}: fields names {field!r}, which is no text field; known: {', '.join(self.fields)}."
                        f"{nearest(field, self.fields)}"
                    )
            for label in source.label.map.values():
                if label not in self.labels:
                    raise ValueError(
                        f"{name}: label map leads to {label!r}, which is no label; known: {', '.join(self.labels)}."
                        f"{nearest(label, self.labels)}"
                    )

    @property
    def folder(self) -> Path | None:
        """The folder of a user's task file; None for a task of this package."""
        return self._folder

    @property
    def allows_outside(self) -> bool:
        """Whether its files may lie outside of its folder: never, unless the user said so."""
        return self._outside

    @property
    def split_names(self) -> tuple[str, ...]:
        """`train`, `in_domain`, then every `ood/<name>`."""
        return ("train", "in_domain", *(f"ood/{name}" for name in self.ood))

    @property
    def words(self) -> tuple[str, ...]:
        """The label words in label order; () when the task has none."""
        return tuple(self.label_words[label] for label in self.labels) if self.label_words else ()

    def pattern(self, name: str = "") -> str:
        """The pattern of that name; '' is the default, the first.

        Raises:
            InputError: no such pattern, or the task has none.
        """
        if not self.patterns:
            raise InputError(
                f"task {self.name!r} has no patterns; add `patterns: {{minimal: '{{{self.fields[0]}}} ?'}}` to it, "
                "or take a strategy without a pattern."
            )
        return lookup(f"pattern of task {self.name!r}", name or next(iter(self.patterns)), self.patterns)

    @property
    def knobs(self) -> dict[str, float]:
        """The difficulty of the built-in task that the training examples come from; {} where they are real ones."""
        source = next((source for source in self.train.sources if source.builtin), None)
        return (
            {}
            if source is None
            else {name: getattr(source.knobs, name) for name in DIFFICULTY_SETTINGS[source.builtin]}
        )

    def turned(self, knobs: Mapping[str, float]) -> Self:
        """A copy whose built-in sources have these knobs.

        Raises:
            InputError: none of the sources has such a knob, or the value is out of range.
        """
        if not knobs:
            return self
        owners = {source.builtin for name in self.split_names for source in self.split(name).sources} - {""}
        for name in knobs:
            if not any(name in DIFFICULTY_SETTINGS.get(owner, ()) for owner in owners):
                known = ", ".join(task for task, own in DIFFICULTY_SETTINGS.items() if name in own)
                raise InputError(
                    f"task {self.name!r} has no knob {name} (flag --{name.replace('_', '-')}); the built-in tasks that "
                    f"have it: {known}."
                )
        changed = {"train": self.train.turned(knobs), "in_domain": self.in_domain.turned(knobs)}
        return self.model_copy(update=changed | {"ood": {n: split.turned(knobs) for n, split in self.ood.items()}})

    def split(self, name: str) -> Split:
        """The record of one split."""
        table = {"train": self.train, "in_domain": self.in_domain}
        table |= {f"ood/{key}": split for key, split in self.ood.items()}
        return lookup(f"split of task {self.name!r}", name, table)


def known_tasks() -> dict[str, Path]:
    """Name -> file of the tasks that come with this package."""
    return {path.stem: path for path in sorted(RECORDS.glob("*.yaml"))}


def load_task(spec: str, allow_outside: bool = False) -> Task:
    """The task of that name, or of that file: a path ends in .yaml or .yml, or has a separator.

    allow_outside: the file may name files outside its own folder.

    Raises:
        InputError: unknown name, or a file that is no task: the sentence has file, line and key.
    """
    if not spec.endswith((".yaml", ".yml")) and "/" not in spec and "\\" not in spec:
        return _read(lookup("task", spec, known_tasks()))
    path = Path(spec).expanduser()
    task = _read(path, allow_outside)
    task._folder, task._outside = path.parent.resolve(), allow_outside
    return task


def _read(path: Path, allow_outside: bool = False) -> Task:
    document = parse(path)
    values: dict[str, Any] = {"name": path.stem} | document.values
    return document.validate(Task, values, {"allow_outside": allow_outside})
