"""The space of one study: the strategy's, with the ends known, fixed and narrowed as asked, read and written."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from effft.errors import InputError, nearest
from effft.strategies.search_space import ALL, Choice, Dimension, PowersOfTwo, Range
from effft.tasks.yaml_file import read_values

Space = dict[str, Dimension]
Values = dict[str, object]


@dataclass(frozen=True)
class Limits:
    """What ends a dimension: blocks of the backbone, labelled examples a fold trains on, patterns of the task.

    rank: the highest that fits the backbone's linear maps. label_scores: those that differ for the task's label words.
    long_texts: whether a training text is longer than fits. label_words: those of the task, each comma-separated.
    """

    blocks: int
    labelled: int
    patterns: tuple[str, ...]
    rank: float = ALL
    label_scores: tuple[str, ...] = ()
    long_texts: bool = False
    label_words: tuple[str, ...] = ()


def bounded(space: Mapping[str, Dimension], limits: Limits) -> Space:
    """Open ends closed, dimensions with a single value left out."""
    closed: Space = {}
    for name, dimension in space.items():
        if dimension == Choice(()):
            dimension = Choice(limits.label_words if name == "label_words" else limits.patterns)
        if name == "label_score" and isinstance(dimension, Choice):
            dimension = Choice(tuple(value for value in dimension.values if value in limits.label_scores))
        if isinstance(dimension, Range) and dimension.high == ALL:
            high = limits.blocks if name == "layers" else limits.labelled
            dimension = Range(dimension.low, high, dimension.log, dimension.whole)
        if name == "rank" and not isinstance(dimension, Choice):
            dimension = replace(dimension, high=min(dimension.high, limits.rank))
        if name in ("cut", "windows") and not limits.long_texts:
            continue
        single = len(dimension.values) < 2 if isinstance(dimension, Choice) else dimension.low >= dimension.high
        if not single:
            closed[name] = dimension
    return closed


def is_range(text: str) -> bool:
    """Whether a value given for a parameter narrows it ('1e-5:1e-3:log', 'attention|all') instead of fixing it."""
    return ":" in text or "|" in text


def narrowed(name: str, text: str, space: Mapping[str, Dimension]) -> Dimension:
    """'low:high', 'low:high:log', 'low:high:log2' or 'a|b' as a dimension.

    Raises:
        InputError: the strategy's space has no such name; an empty or inverted range; no number.
    """
    own = check_name(name, space)
    if "|" in text:
        values = tuple(dict.fromkeys(word.strip() for word in text.split("|") if word.strip()))
        if not values:
            raise InputError(f"{name}={text}: the choice is empty; give at least one value.")
        return Choice(values)
    low_text, high_text, *form = text.split(":")
    if isinstance(own, Choice):
        raise InputError(f"{name}={text}: it has no order; give its values as a|b ({own}).")
    try:
        low, high = float(low_text), float(high_text)
    except ValueError:
        raise InputError(f"{name}={text}: a range is low:high, low:high:log or low:high:log2, of numbers.") from None
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise InputError(f"{name}={text}: low <= high must hold, but got {low:g} and {high:g}.")
    kind = form[0] if form else "log2" if isinstance(own, PowersOfTwo) else "log" if own.log else ""
    if len(form) > 1 or kind not in ("", "log", "log2", "linear"):
        raise InputError(f"{name}={text}: unknown form {':'.join(form)!r}; known: linear, log, log2.")
    if kind in ("log", "log2") and low <= 0:
        raise InputError(f"{name}={text}: a {kind} range must start above 0.")
    if kind == "log2":
        if math.floor(math.log2(high)) < math.ceil(math.log2(low)):
            raise InputError(f"{name}={text}: the range is empty, there is no power of two in it.")
        return PowersOfTwo(low, high)
    whole = own.whole if isinstance(own, Range) else float(own.low).is_integer()
    if whole and not (low.is_integer() and high.is_integer()):
        raise InputError(f"{name}={text}: must be whole numbers.")
    return Range(low, high, kind == "log", whole)


def only_value(dimension: Dimension) -> str:
    """The value of a dimension that has no other, as it is typed; '' where there are several."""
    if isinstance(dimension, Choice):
        return dimension.values[0] if len(dimension.values) == 1 else ""
    return f"{dimension.low:.15g}" if dimension.low == dimension.high else ""


def check_name(name: str, space: Mapping[str, Dimension]) -> Dimension:
    """The dimension of a name; one the strategy does not have is an InputError with the nearest."""
    if name not in space:
        raise InputError(
            f"this strategy's space has no {name!r}; it has: {', '.join(sorted(space))}.{nearest(name, space)}"
        )
    return space[name]


def read_space_file(path: str) -> dict[str, str]:
    """`rank: 8` and `learning_rate: 1e-5:1e-3:log` lines of a small YAML file."""
    values = read_values(Path(path), "space file")
    plain = (str, int, float, bool)
    if not isinstance(values, dict) or not all(isinstance(v, plain) for v in values.values()):
        raise InputError(f"space file {path}: it must be a mapping of names to a value or a range (`rank: 4:32`).")
    return {str(k): str(v).lower() if isinstance(v, bool) else str(v) for k, v in values.items()}


# ---- Optuna's side ------------------------------------------------------------------------------------------------


def distributions(space: Mapping[str, Dimension]) -> dict[str, BaseDistribution]:
    """What Optuna samples: a power of two as its exponent, named 'log2_<name>'."""
    return {_key(name, d): _distribution(d) for name, d in space.items()}


def _key(name: str, dimension: Dimension) -> str:
    return f"log2_{name}" if isinstance(dimension, PowersOfTwo) else name


def _distribution(dimension: Dimension) -> BaseDistribution:
    if isinstance(dimension, Choice):
        return CategoricalDistribution(dimension.values)
    if isinstance(dimension, PowersOfTwo):
        return IntDistribution(math.ceil(math.log2(dimension.low)), math.floor(math.log2(dimension.high)))
    if dimension.whole:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def decoded(params: Mapping[str, object]) -> Values:
    """Optuna's parameters as values of the space."""
    powers = {n.removeprefix("log2_"): 2.0 ** int(str(v)) for n, v in params.items() if n.startswith("log2_")}
    rest = {name: value for name, value in params.items() if not name.startswith("log2_")}
    return rest | {name: int(value) if value.is_integer() else value for name, value in powers.items()}


def encoded(values: Mapping[str, object], space: Mapping[str, Dimension]) -> Values:
    """Values as Optuna's parameters, moved to the nearest allowed number; a choice that is not offered is left out."""
    params: Values = {}
    for name, dimension in space.items():
        if values.get(name) in (None, ""):
            continue
        if isinstance(dimension, Choice):
            if str(values[name]) in dimension.values:
                params[name] = str(values[name])
            continue
        number = min(max(float(str(values[name])), dimension.low), dimension.high)
        if isinstance(dimension, PowersOfTwo):
            distribution = _distribution(dimension)
            assert isinstance(distribution, IntDistribution)
            params[_key(name, dimension)] = min(max(round(math.log2(number)), distribution.low), distribution.high)
        else:
            params[name] = round(number) if dimension.whole else number
    return params


def fields(values: Mapping[str, object], rank: int) -> Values:
    """Values of the space as RunConfig fields: alpha is `alpha_ratio` times the rank (`rank` where it is fixed)."""
    fields_set = dict(values)
    ratio = fields_set.pop("alpha_ratio", None)
    if ratio is not None:
        fields_set["alpha"] = float(str(ratio)) * int(str(fields_set.get("rank", rank)))
    return fields_set


def first_guesses(defaults: Mapping[str, object], space: Mapping[str, Dimension]) -> list[Values]:
    """Configurations worth trying first, as Optuna's parameters, each once.

    The default; three times its learning rate; for LoRA all linear maps of the blocks (Dettmers et al. 2023,
    arXiv 2305.14314, section 4).
    """
    guesses = [encoded(defaults, space)]
    rate = defaults.get("learning_rate")
    if "learning_rate" in space and rate:
        guesses.append(encoded({**defaults, "learning_rate": 3 * float(str(rate))}, space))
    if "lora_modules" in space:
        guesses.append(encoded({**defaults, "lora_modules": "all"}, space))
    return [guess for place, guess in enumerate(guesses) if guess not in guesses[:place]]
