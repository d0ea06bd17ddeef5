"""A task: its texts, labels, patterns, metric and splits. A record, the built-in ones too."""

import json
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from string import Formatter
from typing import Any, Self

from pydantic import Field, PrivateAttr, model_validator

from effft.data.examples import UNLABELLED, Example, Label
from effft.data.table import is_text, listed
from effft.errors import InputError, lookup, nearest, quoted
from effft.tasks.builtin.lexicon import DIFFICULTY_SETTINGS
from effft.tasks.source import Names, Split, StrictModel
from effft.tasks.yaml_file import read_record
from effft.value_types import Metric

RECORDS = Path(__file__).parent / "records"
NAME_CHARACTERS = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")


class Task(StrictModel):
    """Texts, labels, patterns, metric and splits.

    labels: names; their order is the class index. ordinal: whether the order means something (`low, medium, high`), so
    that an answer can be more or less wrong. multi_label: whether a row can have several labels, or none.
    label_words: label name -> word, exact, with its leading space;
    other_label_words: more such words in the order of the labels, among which a search chooses.
    patterns: by name, the first is the default; `{field}` placeholders and at most one `{answer}`. in_domain: without
    it, what a run reaches in domain is estimated by cross-validation on its training examples. unlabelled: texts for a
    distilled student; without it they are taken from `train`.
    """

    version: int = Field(default=1, ge=1, le=1)
    name: str
    description: str = ""
    fields: Names = Field(min_length=1, max_length=20)
    labels: tuple[str, ...] = Field(min_length=2, max_length=1000)
    ordinal: bool = False
    multi_label: bool = False
    metric: Metric = "accuracy"
    label_words: dict[str, str] = Field(default_factory=dict)
    other_label_words: tuple[tuple[str, ...], ...] = ()
    patterns: dict[str, str] = Field(default_factory=dict)
    train: Split
    in_domain: Split | None = None
    ood: dict[str, Split] = Field(default_factory=dict)
    unlabelled: Split | None = None
    _folder: Path | None = PrivateAttr(default=None)
    _outside: bool = PrivateAttr(default=False)
    _notes: tuple[str, ...] = PrivateAttr(default=())

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
            if twice := [name for i, name in enumerate(names) if name in names[:i]]:
                raise ValueError(f"{what} {twice[0]!r} is named twice in {what}s; each {what} once")
            if not all(name.strip() for name in names):
                raise ValueError(f"{what}s holds an empty name; name every {what}")
            if odd := [name for name in names if not is_text(name)]:
                raise ValueError(
                    f"{what} {odd[0]!r} is no text (NUL, or half a pair of \\u escapes); name it otherwise"
                )
        for field in self.fields:
            if not field.isidentifier() or field in ("answer", "label"):
                raise ValueError(
                    f"field {field!r} cannot stand in a pattern as {{{field}}}; use another name (letters, digits, _)"
                    f" and say its column in each split (`fields: {{name: {quoted(field)}}}`)"
                )
        for what, name in (("name", self.name), *(("ood set", n) for n in self.ood)):
            if not set(name) <= NAME_CHARACTERS or not name.strip(".") or len(name) > 60:
                raise ValueError(f"{what} {name!r}: use 1 to 60 letters, digits, '_', '-' and '.', not dots alone")
        for name, split in (("train", self.train), ("in_domain", self.in_domain)):
            if split and not split.labelled:
                raise ValueError(f"{name} has no labels (label: none), which only ood and unlabelled sets may lack")
        for name, split in self.ood.items():
            if not split.labelled and "label" in split.dimensions:
                raise ValueError(
                    f"ood set {name!r} has slices by label and no labels (label: none); remove one of them"
                )
        if "metric" in self.model_fields_set:
            _must_be_known(f"metric {self.metric!r} is none of this task", self.metric, self.metrics)
        self._check_label_words()
        if self.multi_label:
            self._check_multi_label()
        for name, pattern in self.patterns.items():
            _check_pattern(name, pattern, (*self.fields, "label") if self.multi_label else self.fields)
        for name in self.split_names:
            for source in self.split(name).sources:
                for field in source.fields:
                    _must_be_known(f"{name}: fields names {field!r}, which is no text field", field, self.fields)
                for label in source.label.map.values():
                    _must_be_known(f"{name}: label map leads to {label!r}, which is no label", label, self.labels)
        return self

    def _check_multi_label(self) -> None:
        """Several labels a row have no order, and no slices by the one label."""
        if self.ordinal:
            raise ValueError("ordinal and multi_label cannot both be true; several labels of a row have no order")
        if self.other_label_words:
            raise ValueError("other_label_words means nothing with multi_label: the answers are yes and no; remove it")
        for name in self.split_names:
            if "label" in self.split(name).dimensions:
                raise ValueError(
                    f"{name} has slices by label, but its rows can have several (multi_label); remove them"
                )

    def _check_label_words(self) -> None:
        """Each label has its own word, or there are none at all."""
        labels: dict[str, str] = {}
        for label, word in self.label_words.items():
            _must_be_known(f"label_words names {label!r}, which is no label", label, self.labels)
            if word in labels:
                raise ValueError(
                    f"label_words: {labels[word]!r} and {label!r} have the same word {word!r}; each its own"
                )
            labels[word] = label
        for label in self.labels if self.label_words else ():
            if not self.label_words.get(label, "").strip():
                raise ValueError(
                    f'label_words has no word for label {label!r}; add one (for example {quoted(label)}: " Yes")'
                )

        for words in self.other_label_words:
            if len(set(words)) != len(self.labels) or not all(word.strip() and "," not in word for word in words):
                raise ValueError(
                    f"other_label_words holds {list(words)}; each entry needs {len(self.labels)} different words, one "
                    "for each label, without commas"
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
    def notes(self) -> tuple[str, ...]:
        """Sentences about how a task was made of a file alone."""
        return self._notes

    @property
    def split_names(self) -> tuple[str, ...]:
        """`train`, `in_domain` and `unlabelled` where the task has them, then every `ood/<name>`."""
        named = [name for name in ("in_domain", "unlabelled") if getattr(self, name)]
        return ("train", *named, *(f"ood/{name}" for name in self.ood))

    @property
    def metrics(self) -> tuple[str, ...]:
        """What its metric may be."""
        if self.multi_label:
            return ("macro_f1", "micro_f1", "subset_accuracy")
        plain = ("accuracy", "balanced_accuracy", "mcc", "macro_f1", "worst_slice_accuracy")
        return (*plain, *(("quadratic_kappa",) if self.ordinal else ()))

    @property
    def score_shape(self) -> tuple[int, ...]:
        """Of the scores of one row: (labels,), or, where it can have several, (labels, 2): no and yes for each."""
        return (len(self.labels), 2) if self.multi_label else (len(self.labels),)

    @property
    def question(self) -> "Task":
        """Where a row can have several labels, what a verbalizer is asked for each: yes or no. Else the task itself."""
        if not self.multi_label:
            return self
        answers = {"labels": ("no", "yes"), "label_words": {"no": " No", "yes": " Yes"}, "multi_label": False}
        return self.model_copy(update={"fields": (*self.fields, "label"), **answers})

    def questions(self, examples: Sequence[Example]) -> list[Example]:
        """Examples of `question`: for each label one, whose last text is what the label is called."""
        if not self.multi_label:
            return list(examples)
        words = [word.strip() for word in self.ordered_label_words]
        return [
            replace(e, texts=(*e.texts, word), label=e.label[place] if isinstance(e.label, tuple) else UNLABELLED)
            for e in examples
            for place, word in enumerate(words)
        ]

    def named(self, label: Any) -> list[str]:
        """The names of a class index, or of the labels that have a 1."""
        places = [label] if isinstance(label, int) else [place for place, given in enumerate(label) if given]
        return [self.labels[place] for place in places]

    def written(self, label: Any) -> str:
        """The same as text: the name, or, where a row can have several labels, a list of names in JSON."""
        names = self.named(label)
        return json.dumps(names, ensure_ascii=False) if self.multi_label else names[0]

    def read(self, written: str) -> Label:
        """The label that `written` made this text of."""
        if not self.multi_label:
            return self.labels.index(written)
        names = json.loads(written)
        return tuple(int(name in names) for name in self.labels)

    @property
    def default_amount(self) -> dict[str, int | str]:
        """How many examples a run draws where it is not said: all rows without a test file, or of several labels."""
        return {"per_label": 32} if self.in_domain and not self.multi_label else {"rows": "all"}

    @property
    def ordered_label_words(self) -> tuple[str, ...]:
        """The label words in label order: the task's own, else made of the labels' names."""
        words = self.label_words or propose_words(self.labels)
        return tuple(words[label] for label in self.labels)

    @property
    def label_word_choices(self) -> tuple[str, ...]:
        """What `label_words` may be in a search, comma-separated: the label words and the other ones."""
        choices = (self.ordered_label_words, *self.other_label_words) if self.other_label_words else ()
        return tuple(",".join(word.strip() for word in words) for words in choices)

    def pattern(self, name: str = "") -> str:
        """The pattern of that name; '' is the default, the first."""
        if not self.patterns:
            raise InputError(
                f"task {self.name!r} has no patterns; add `patterns: {{minimal: '{{{self.fields[0]}}} ?'}}` to it, "
                "or take a strategy without a pattern."
            )
        return lookup(f"pattern of task {self.name!r}", name or next(iter(self.patterns)), self.patterns)

    @property
    def difficulty(self) -> dict[str, float]:
        """The difficulty of the built-in task that the training examples come from; {} where they are real ones."""
        source = next((source for source in self.train.sources if source.builtin), None)
        return {name: getattr(source, name) for name in DIFFICULTY_SETTINGS[source.builtin]} if source else {}

    def with_difficulty(self, settings: Mapping[str, float]) -> Self:
        """A copy whose built-in sources have these difficulty settings; other sources stay as they are.

        Raises:
            InputError: none of the sources has such a setting.
        """
        if not settings:
            return self
        splits = {name: self.split(name) for name in self.split_names}
        builtin = {source.builtin for split in splits.values() for source in split.sources} - {""}
        for name in settings:
            if not any(name in DIFFICULTY_SETTINGS[task] for task in builtin):
                known = ", ".join(task for task, names in DIFFICULTY_SETTINGS.items() if name in names)
                raise InputError(
                    f"task {self.name!r} has no setting {name} (flag --{name.replace('_', '-')}); the built-in tasks "
                    f"that have it: {known}."
                )
        for name, split in splits.items():
            sources = (s.model_copy(update=dict(settings)) if s.builtin else s for s in split.sources)
            splits[name] = split.model_copy(update={"sources": tuple(sources)})
        ood = {name: splits[f"ood/{name}"] for name in self.ood}
        named = {name: splits.get(name) for name in ("train", "in_domain", "unlabelled")}
        return self.model_copy(update={**named, "ood": ood})

    def split(self, name: str) -> Split:
        """The record of one split."""
        named = {"train": self.train, "in_domain": self.in_domain, "unlabelled": self.unlabelled}
        table = {key: split for key, split in named.items() if split}
        table |= {f"ood/{key}": split for key, split in self.ood.items()}
        return lookup(f"split of task {self.name!r}", name, table)


def propose_words(labels: Sequence[str]) -> dict[str, str]:
    """Label words made of the labels' names: 'very_good' -> ' very good', '👍' -> ' thumbs up sign' (its Unicode name).

    Names that would become one word stay as they are.
    """
    words = {label: f" {_spoken(label)}" for label in labels}
    count = Counter(words.values())
    return {label: word if count[word] == 1 and word.strip() else f" {label}" for label, word in words.items()}


def _spoken(label: str) -> str:
    """A name as words."""
    if not any(map(str.isalnum, label)) and not label.isascii():
        names = (unicodedata.name(character, "") for character in label)
        label = " ".join(name.lower() for name in names if name and "selector" not in name.lower())
    return " ".join(label.replace("_", " ").split())


def known_tasks() -> dict[str, Path]:
    """Name -> file of the tasks that come with this package."""
    return {path.stem: path for path in sorted(RECORDS.glob("*.yaml"))}


def load_task(spec: str, allow_outside: bool = False) -> Task:
    """The task of that name, or of that file: a path ends in .yaml or .yml, or has a separator.

    allow_outside: the file may name files outside its own folder.

    Raises:
        InputError: unknown name, or a file that is no task: the sentence has file, line and key.
    """
    own = spec.endswith((".yaml", ".yml")) or "/" in spec or "\\" in spec
    path = Path(spec).expanduser() if own else lookup("task", spec, known_tasks())
    task = read_record(path, Task, "task file", named=True, context={"allow_outside": allow_outside and own})
    if own:
        task._folder, task._outside = path.parent.resolve(), allow_outside
    return task


def _must_be_known(what: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        raise ValueError(f"{what}; known: {listed(known)}.{nearest(name, known)}")


def _check_pattern(name: str, pattern: str, fields: Sequence[str]) -> None:
    """A pattern has every field and at most one answer slot, and nothing else in braces."""
    if name in ("", "all"):  # --pattern all reads every pattern
        raise ValueError(f"patterns holds a pattern called {name!r}; name it otherwise, for example `minimal`")
    try:
        parts = [part for part in Formatter().parse(pattern) if part[1] is not None]
    except ValueError as error:
        raise ValueError(f"pattern {name!r}: {error}; write a real brace as {{{{ or }}}}") from None
    slots = [str(slot) for _, slot, _, _ in parts]
    for slot, (_, _, form, conversion) in zip(slots, parts, strict=True):
        if form or conversion:
            raise ValueError(f"pattern {name!r}: {{{slot}}} takes no format and no conversion; write {{{slot}}}")
        _must_be_known(f"pattern {name!r} has {{{slot}}}, which is no field", slot, (*fields, "answer"))
    for field in fields:
        if field not in slots:
            raise ValueError(f"pattern {name!r} leaves out the field {{{field}}}; add it to {pattern!r}")
    if slots.count("answer") > 1:
        raise ValueError(f"pattern {name!r} has {slots.count('answer')} answer slots; keep one {{answer}}")
