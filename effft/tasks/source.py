"""Where the rows of a split come from, and how a row becomes an example: the `train:`, `in_domain:` and `ood:` keys."""

import re
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator

from effft.config import DIFFICULTY_FIELDS
from effft.data.files import Layout
from effft.errors import nearest, shortened
from effft.tasks.builtin.lexicon import DIFFICULTY_SETTINGS, LARGEST_LEXICON, SMALLEST_LEXICON, Difficulty

HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
"""What may be asked of the hub: `glue`, `nyu-mll/glue`; a path is none."""

LAYOUT_KEYS = ("columns", "header", "quoting", "delimiter", "skip_incomplete")
KEYS_OF = {
    "file": LAYOUT_KEYS,
    "hub": ("config", "split", "revision", *LAYOUT_KEYS),
    "url": LAYOUT_KEYS,
    "builtin": ("split", "size", "seed", *DIFFICULTY_FIELDS),
}
"""Kind of source -> the keys that only mean something there."""

ROW_KEYS = ("rows", "where", "fields", "label", "clean", "lacks")
"""Keys of a source that a split may also give once for all its sources."""


Names = Annotated[tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)]
"""One value stands for a list of one."""


class StrictModel(BaseModel):
    """Frozen, and strict about keys: a typo is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class LabelRule(StrictModel):
    """How a label value becomes a label name.

    column: where it stands (of several names the first that exists; where rows can have several labels, one column of
    1 and 0 for each label, called as it); none where rows have no labels. map: value ->
    label name; values not named keep their own spelling. drop: values whose rows are left out.
    """

    column: Names = ("label",)
    map: dict[str, str] = Field(default_factory=dict)
    drop: Names = ()

    @model_validator(mode="before")
    @classmethod
    def _none(cls, given: Any) -> Any:
        """`label: none` says that rows have no labels."""
        return {"column": ()} if given == "none" else given


class Source(StrictModel):
    """One place to read a split from: exactly one of `file`, `hub`, `url`, `builtin`.

    fields: text field -> column (of several names the first that exists). where: column -> values to keep.
    rows: first row and the one after the last, before any filter. clean: `bytes_repr` undoes Python's b'...'.
    lacks: slice dimensions this source has no column for (their value is `unknown`).
    skip_incomplete: leave out lines with too few columns (GLUE's QQP has some). overlap_strength, lexicon_size,
    ood_distance: the difficulty of a built-in task (effft.tasks.builtin.lexicon).
    """

    file: str = ""
    hub: str = ""
    url: str = ""
    builtin: str = ""
    columns: tuple[str, ...] = ()
    header: bool | None = None
    quoting: bool | None = None
    delimiter: str = ""
    skip_incomplete: bool = False
    config: str = ""
    split: str = ""
    revision: str = ""
    size: int = Field(default=0, ge=0, le=100_000)
    seed: int = Field(default=0, ge=0)
    overlap_strength: float = Field(default=1.0, ge=0, le=1, allow_inf_nan=False)
    lexicon_size: int = Field(default=LARGEST_LEXICON, ge=SMALLEST_LEXICON, le=LARGEST_LEXICON)
    ood_distance: float = Field(default=0.0, ge=0, le=1, allow_inf_nan=False)
    rows: tuple[int, int] | None = None
    where: dict[str, Names] = Field(default_factory=dict)
    fields: dict[str, Names] = Field(default_factory=dict)
    label: LabelRule = LabelRule()
    lacks: Names = ()
    clean: Literal["", "bytes_repr"] = ""

    @property
    def kind(self) -> str:
        """`file`, `hub`, `url` or `builtin`."""
        return next(kind for kind in KEYS_OF if getattr(self, kind))

    @property
    def layout(self) -> Layout:
        """What a delimited file of this source does not say itself."""
        return Layout(self.columns, self.header, self.quoting, self.delimiter, self.skip_incomplete)

    @property
    def difficulty(self) -> Difficulty:
        """The difficulty of a built-in source."""
        return Difficulty(self.overlap_strength, self.lexicon_size, self.ood_distance)

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Self:
        given = [kind for kind in KEYS_OF if getattr(self, kind)]
        if len(given) != 1:
            said = "names none" if not given else f"names {' and '.join(given)}"
            raise ValueError(f"a source is exactly one of {', '.join(KEYS_OF)}; this one {said}")
        foreign = self.model_fields_set - {given[0], *KEYS_OF[given[0]], *ROW_KEYS}
        if foreign:
            raise ValueError(f"key {min(foreign)!r} means nothing for a source of kind {given[0]!r}; remove it")
        absent = self.model_fields_set & set(DIFFICULTY_FIELDS) - set(
            DIFFICULTY_SETTINGS.get(self.builtin, DIFFICULTY_FIELDS)
        )
        if absent:
            known = ", ".join(DIFFICULTY_SETTINGS[self.builtin])
            raise ValueError(f"the built-in task {self.builtin!r} has no setting {min(absent)!r}; it has: {known}")
        if self.builtin and self.builtin not in DIFFICULTY_SETTINGS:
            raise ValueError(
                f"unknown built-in task {self.builtin!r}; known: {', '.join(DIFFICULTY_SETTINGS)}."
                f"{nearest(self.builtin, DIFFICULTY_SETTINGS)}"
            )
        if self.url and not self.url.startswith("https://"):
            raise ValueError(f"url {self.url!r}: only https addresses are read")
        if self.hub and not HUB_NAME.fullmatch(self.hub):
            raise ValueError(
                f"hub {self.hub!r} is no name of a data set on the hub; a folder's files are named by `file`"
            )
        if self.file:
            _check_path(self.file, bool((info.context or {}).get("allow_outside")))
        if self.header is False and not self.columns:
            raise ValueError(
                f"{getattr(self, given[0])} has no header (header: false), so name its columns (columns: [...])"
            )
        if len(set(self.columns)) < len(self.columns):
            raise ValueError(f"columns {', '.join(self.columns)}: a name stands there twice")
        if self.delimiter and len(self.delimiter) != 1:
            raise ValueError(f"delimiter {self.delimiter!r} must be one character")
        if self.rows is not None and not 0 <= self.rows[0] < self.rows[1]:
            raise ValueError(
                f"rows [{self.rows[0]}, {self.rows[1]}] must be [first, one after the last], counted from 0"
            )
        return self


def _check_path(path: str, allow_outside: bool) -> None:
    """A task file may only name files below its own folder or the data folder, unless the user allows more."""
    pure = PurePosixPath(path.replace("\\", "/"))
    if any(len(part.encode()) > 255 for part in pure.parts) or len(path) > 4000:
        raise ValueError(f"file {shortened(path)} is longer than names of files can be; name a file")
    if "\0" in path:
        raise ValueError(f"file {path!r} holds a NUL byte; name a file")
    if (pure.is_absolute() or ".." in pure.parts or path[1:2] == ":") and not allow_outside:
        raise ValueError(
            f"file {path!r} leaves the task's folder; name it relative to the task file or to --data-dir, without "
            "'..', or allow it with --allow-outside true"
        )


class Split(StrictModel):
    """One split: alternatives for its rows, and the slices to report.

    slices: combinations of dimensions; a dimension is a column, or `label` for the gold label's name.
    """

    sources: tuple[Source, ...] = Field(min_length=1)
    slices: tuple[Names, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _spread(cls, given: Any) -> Any:
        """`x.csv` and `{file: x.csv, ...}` stand for one source; row keys next to `sources` go to each source."""
        if isinstance(given, str):
            return {"sources": [{"file": given}]}
        if not isinstance(given, dict):
            return given
        shared = {key: value for key, value in given.items() if key not in ("sources", "slices")}
        out = {"slices": given["slices"]} if "slices" in given else {}
        if "sources" not in given:
            return out | {"sources": [shared]}
        foreign = set(shared) - set(ROW_KEYS)
        if foreign or not isinstance(given["sources"], list | tuple):
            return given
        return out | {"sources": [shared | s if isinstance(s, dict) else s for s in given["sources"]]}

    @property
    def labelled(self) -> bool:
        """Whether its rows have labels."""
        return all(source.label.column for source in self.sources)

    @property
    def dimensions(self) -> tuple[str, ...]:
        """Every dimension that some slice uses, once, in order."""
        return tuple(dict.fromkeys(name for combination in self.slices for name in combination))
