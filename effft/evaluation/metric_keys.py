"""The keys of metrics: the one place that makes them and reads them.

A key is a path of steps: `<split>/<metric>` for a whole split, `<split>/slice/<dimension>.<value>/<metric>` for a
slice of it (one step per dimension), `resources/<name>` for what a run cost, `train/<name>` for a training step.
A split is `validation`, `in_domain`, `cross_validated` (out-of-fold scores of the training rows) or `ood/<set>`. MLflow
takes letters and digits of any script and ` _-.:/`; any other character of a dimension or value is written as its
Unicode name between colons, so that `C++` becomes `C:plus sign::plus sign:` and no two values share a key.
"""

import hashlib
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from effft.errors import RunError

Slice = tuple[tuple[str, str], ...]
"""(dimension, value) pairs; () for the whole split."""

LONGEST_KEY, LONGEST_SLICE, LONGEST_NAME = 250, 150, 60
"""Characters that MLflow takes for a key, and what the slice and the name of a dimension may take of them."""

BLANK = ":blank:"
"""How an empty value is written in a key; people read it as `(blank)`."""

CROSS_VALIDATED = "cross_validated"
"""Stands where `in_domain` would, for a task without a test file."""

WHOLE = ("validation", CROSS_VALIDATED, "in_domain")
"""The splits whose names are one step."""

PATTERN_SD = "_pattern_sd"
"""After a metric: its standard deviation over the patterns that are read."""

FORGETTING = "forgetting"
"""Nats a token that the loss on a neutral text has risen by."""

HEADLINES = (
    "accuracy", "mcc", "macro_f1", "quadratic_kappa", "mean_absolute_error", "micro_f1", "subset_accuracy",
    "calibration_error", "gap",
)  # fmt: skip
"""Metrics of a whole split, besides the primary one, that MLflow's charts show; the table of metrics has all."""

COSTS = (
    "peak_memory_mb", "train_seconds", "evaluation_seconds", "tokens_per_second", "train_flops", "trainable_parameters",
    "trainable_share", "total_parameters", "adapter_mb", "labels_used",
)  # fmt: skip
"""The same of `resources/<name>`."""

_UNSAFE = re.compile(r"[^\w\-. ]|\A | \Z")
_ESCAPE = re.compile(r":([^:]+):")


@dataclass(frozen=True)
class MetricKey:
    """A metric of a split, or of a slice of it (in the task's order); `str` writes the key, `parse` reads it back."""

    split: str
    metric: str
    slice: Slice = ()

    def __str__(self) -> str:
        return "/".join(filter(None, (self.split, slice_path(self.slice), self.metric)))

    @property
    def slice_label(self) -> str:
        """The slice as people read it: `topic = films, label = good`."""
        return ", ".join(f"{dimension} = {value or '(blank)'}" for dimension, value in self.slice)


def parse(key: str) -> MetricKey | None:
    """Read a key; None for keys that belong to no split (`resources/...`, `train/...`).

    The value of a slice that was too long for a key comes back shortened.
    """
    steps = key.split("/")
    whole = 2 if steps[0] == "ood" else 1
    split, inner, metric = "/".join(steps[:whole]), steps[whole:-1], steps[-1]
    if len(steps) <= whole or not (steps[0] == "ood" or split in WHOLE):
        return None
    if not inner:
        return MetricKey(split, metric)
    if inner[0] != "slice" or len(inner) < 2 or not all("." in step for step in inner[1:]):
        return None
    pairs = (step.split(".", 1) for step in inner[1:])
    return MetricKey(split, metric, tuple((_unescape(name), _unescape(value)) for name, value in pairs))


def slice_path(pairs: Slice) -> str:
    """`slice/<dimension>.<value>/...`; '' without pairs. One that is too long ends in a hash of the whole."""
    if not pairs:
        return ""
    names = [_shorten(_escape(name).replace(".", ":full stop:"), LONGEST_NAME) for name, _ in pairs]
    steps = [f"{name}.{_escape(value)}" for name, (_, value) in zip(names, pairs, strict=True)]
    return _shorten("/".join(["slice", *steps]), LONGEST_SLICE)


def row_path(name: str) -> str:
    """The name of a row as the beginning of a key, `+` as `-`; of one that is too long the rest is a hash."""
    return _shorten("/".join(map(_escape, name.replace("+", "-").split("/"))), LONGEST_SLICE)


def collect(*groups: Mapping[str, float]) -> dict[str, float]:
    """All metrics of the groups in one mapping.

    Raises:
        RunError: two groups hold the same key, or MLflow would not take a key.
    """
    metrics: dict[str, float] = {}
    for group in groups:
        for key, value in group.items():
            if key in metrics:
                raise RunError(f"two metrics have the key {key!r}; rename one of the slices or OOD sets of the task.")
            if not key or len(key) > LONGEST_KEY:
                raise RunError(f"the metric key {key!r} is empty or longer than {LONGEST_KEY}; shorten the set's name.")
            metrics[key] = value
    return metrics


def splits_with(keys: Iterable[str], metric: str) -> list[str]:
    """The splits that have `metric` as a whole: those of WHOLE, then the OOD sets in the order of the keys."""
    found = [known.split for key in keys if (known := parse(key)) and known.metric == metric and not known.slice]
    return sorted(dict.fromkeys(found), key=lambda split: (*WHOLE, split).index(split))


def ood_sets(keys: Iterable[str], metric: str) -> tuple[str, ...]:
    """The names of the OOD sets that have `metric`, in the order of the keys."""
    return tuple(split.removeprefix("ood/") for split in splits_with(keys, metric) if split.startswith("ood/"))


def home_split(keys: Collection[str], metric: str) -> str:
    """The split that says what is reached in domain: `in_domain`, or `cross_validated` where there is no test file."""
    return (
        CROSS_VALIDATED if f"{CROSS_VALIDATED}/{metric}" in keys and f"in_domain/{metric}" not in keys else "in_domain"
    )


def slices_with(keys: Iterable[str], split: str, metric: str) -> dict[str, MetricKey]:
    """Key -> its parts, for the slices of `split` that have `metric`."""
    known = ((key, parse(key)) for key in keys)
    return {key: k for key, k in known if k and k.slice and (k.split, k.metric) == (split, metric)}


def bounds(metrics: Mapping[str, float], split: str, metric: str) -> tuple[float, float] | None:
    """The 95 % interval of a split's metric; None where none was computed."""
    low, high = (metrics.get(f"{split}/{metric}_{end}") for end in ("low", "high"))
    return None if low is None or high is None else (low, high)


def headlines(metrics: Mapping[str, float], primary: str) -> dict[str, float]:
    """The metrics that a person compares runs by, about 30 of a run: no slices, intervals and counts."""
    chosen, names = {f"resources/{name}" for name in COSTS}, (*HEADLINES, primary, primary + PATTERN_SD)
    return {
        key: value
        for key, value in metrics.items()
        if key in chosen or key == FORGETTING or ((parts := parse(key)) and not parts.slice and parts.metric in names)
    }


def gaps(metrics: Mapping[str, float], primary: str) -> dict[str, float]:
    """What each OOD set is below the split that says what is reached in domain; {} where nothing does."""
    home = metrics.get(f"{home_split(metrics, primary)}/{primary}")
    if home is None:
        return {}
    return {f"ood/{name}/gap": home - metrics[f"ood/{name}/{primary}"] for name in ood_sets(metrics, primary)}


def to_table(metrics: Mapping[str, float]) -> dict[str, list[object]]:
    """All metrics as columns, a row for each with its interval; `from_table` reads them back."""
    rows: list[tuple[object, ...]] = []
    for key, value in metrics.items():
        whole, _, end = key.rpartition("_")
        if end in ("low", "high") and whole in metrics:
            continue
        parts = parse(key)
        place = (parts.split, parts.slice_label, parts.metric) if parts else (*key.split("/", 1)[:1], "", key)
        rows.append((*place, value, metrics.get(f"{key}_low"), metrics.get(f"{key}_high"), key))
    names = ("split", "slice", "metric", "value", "low", "high", "key")
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}


def from_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> dict[str, float]:
    """The metrics of a table that `to_table` made; what was not finite is left out."""
    metrics: dict[str, float] = {}
    for row in rows:
        named = dict(zip(columns, row, strict=True))
        ends = {"": named["value"], "_low": named["low"], "_high": named["high"]}
        metrics |= {f"{named['key']}{end}": float(value) for end, value in ends.items() if value is not None}
    return metrics


def _escape(text: str) -> str:
    return _UNSAFE.sub(lambda match: f":{unicodedata.name(c := match.group(), f'u{ord(c):x}').lower()}:", text) or BLANK


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda match: _character(match.group(1)), text)


def _character(name: str) -> str:
    if name == "blank" or name.startswith("more "):
        return "" if name == "blank" else "…"
    return chr(int(name[1:], 16)) if re.fullmatch(r"u[0-9a-f]+", name) else unicodedata.lookup(name)


def _shorten(path: str, longest: int) -> str:
    """The path itself, or its beginning up to a whole character and dimension, with a hash of all of it."""
    if len(path) <= longest:
        return path
    mark = f":more {hashlib.sha256(path.encode()).hexdigest()[:16]}:"
    start = path[: longest - len(mark)]
    if start.count(":") % 2:
        start = start[: start.rindex(":")]
    head, _, step = start.rpartition("/")
    return (start if "." in step or not head else head) + mark
