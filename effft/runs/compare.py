"""Several strategies on the same shots: which runs, and what came out. torch loads when the work starts."""

import gc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from statistics import fmean, median, stdev
from typing import TYPE_CHECKING

from effft.config import PART_FIELDS, RunConfig, make_config
from effft.errors import InputError
from effft.progress import ProgressCallback
from effft.redaction import redact
from effft.strategies.strategy import Strategy, compose
from effft.tracking.tracker import Tracker, tracked

if TYPE_CHECKING:
    from effft.runs.experiment import Result
    from effft.runs.plan import Plan
    from effft.runs.session import Session


@dataclass(frozen=True)
class Outcome:
    """One run: its result, or why there is none."""

    config: RunConfig
    result: "Result | None"
    failure: str = ""


@dataclass(frozen=True)
class Spread:
    """Mean over runs, and standard deviation (None for a single run)."""

    mean: float
    sd: float | None

    def __str__(self) -> str:
        return f"{self.mean:.3f}" + ("" if self.sd is None else f" ± {self.sd:.3f}")


@dataclass(frozen=True)
class Row:
    """A strategy at one number of examples per label. gap: in domain minus the mean of the OOD sets."""

    strategy: str
    per_label: int
    runs: int
    failed: int
    in_domain: Spread | None
    ood: dict[str, Spread]
    gap: Spread | None
    trainable_share: float
    peak_bytes: float
    train_seconds: float
    evaluation_seconds: float
    remarks: tuple[str, ...]


# ---- which runs ---------------------------------------------------------------------------------------------------


def grid(
    strategies: Sequence[str],
    per_label: Sequence[str],
    seeds: Sequence[int],
    data_seeds: Sequence[int],
    shared: Mapping[str, object],
) -> list[RunConfig]:
    """A configuration per run; every strategy meets the same shots. Parameters go to the strategies that hold them.

    Runs that would only repeat another are left out: `seed` moves nothing where nothing trains, and `data_seed`
    nothing where no example is used either.
    """
    composed = [compose(name) for name in strategies]
    check_held(composed, shared)
    configs = []
    for count, data_seed, seed, strategy in product(per_label, data_seeds, seeds, composed):
        own = {k: v for k, v in shared.items() if k not in PART_FIELDS or strategy in holders(k, composed)}
        if _repeats(strategy, own, seed != seeds[0], data_seed != data_seeds[0]):
            continue
        place = {"strategy": strategy.name, "per_label": count, "seed": seed, "data_seed": data_seed}
        configs.append(make_config({**own, **place}))
    return configs


def holders(name: str, strategies: Sequence[Strategy]) -> list[Strategy]:
    """The strategies a parameter goes to: those that have it.

    `shots` goes to those that show demonstrations anyway (icl), so that zero_shot beside it stays zero-shot; where
    none does, to all with a pattern.
    """
    having = [strategy for strategy in strategies if name in strategy.parameters]
    showing = [strategy for strategy in having if strategy.parameters.get("shots")]
    return showing if name == "shots" and showing else having


def _repeats(strategy: Strategy, own: Mapping[str, object], later_seed: bool, later_draw: bool) -> bool:
    if strategy.trains:
        return False
    shots = own.get("shots") or strategy.parameters.get("shots", 0)
    return later_seed or (later_draw and str(shots) == "0")


def check_held(strategies: Sequence[Strategy], shared: Mapping[str, object]) -> None:
    """A parameter that none of the strategies has is an InputError."""
    for name, value in shared.items():
        if name not in PART_FIELDS or value is None or value == "":
            continue
        if not holders(name, strategies):
            names = ", ".join(strategy.name for strategy in strategies)
            raise InputError(f"none of the strategies compared ({names}) has the parameter {name!r}; leave it out.")


def prepare_all(configs: Sequence[RunConfig], session: "Session", watch: ProgressCallback) -> "list[Plan]":
    """Check every configuration before the first run trains; a fault names its strategy."""
    from effft.runs.plan import prepare

    plans = []
    for done, config in enumerate(configs):
        watch("check", done, len(configs))
        try:
            plans.append(prepare(config, session))
        except InputError as error:
            raise InputError(f"{config.strategy} at {config.per_label} per label: {error}") from error
    return plans


# ---- what came out ------------------------------------------------------------------------------------------------


def run_plans(
    plans: "Sequence[Plan]", parent: Tracker, announce: ProgressCallback, watch: ProgressCallback
) -> Iterator[Outcome]:
    """Run the plans one after another, each as a child of `parent`; a failing one does not stop the others."""
    from effft.runs.experiment import execute

    gc.collect()
    gc.freeze()  # a run begins with a collection: not every time over the libraries' million objects
    for done, plan in enumerate(plans):
        announce(plan.name, done, len(plans))
        child = parent.child(plan.name, plan.tags)
        try:
            with tracked(child):
                outcome = Outcome(plan.config, replace(execute(plan, child, watch), tables={}))
        except Exception as error:
            sentence = redact(" ".join(str(error).split())) or "no message"
            outcome = Outcome(plan.config, None, f"{plan.name}: {type(error).__name__}: {sentence}")
        yield outcome
    gc.unfreeze()


def summarise(outcomes: Sequence[Outcome]) -> list[Row]:
    """A row for every strategy and number of examples per label, in the order they came."""
    places: dict[tuple[str, int], list[Outcome]] = {}
    for outcome in outcomes:
        places.setdefault((outcome.config.strategy, outcome.config.per_label), []).append(outcome)
    return [_row(*place, places[place]) for place in sorted(places, key=lambda place: place[1])]


def _row(strategy: str, per_label: int, outcomes: Sequence[Outcome]) -> Row:
    results = [o.result for o in outcomes if o.result is not None]
    failed = len(outcomes) - len(results)
    if not results:
        return Row(strategy, per_label, 0, failed, None, {}, None, *(float("nan"),) * 4, ("FAILED",))
    sets = results[0].ood
    ood = {name: _spread([r.metrics[f"ood/{name}/{r.primary}"] for r in results]) for name in sets}
    gaps = [_gap(r) for r in results] if sets else []
    return Row(
        strategy,
        per_label,
        len(results),
        failed,
        _spread([r.metrics[f"in_domain/{r.primary}"] for r in results]),
        ood,
        _spread(gaps) if gaps else None,
        fmean(r.metrics["resources/trainable_parameters"] / r.metrics["resources/total_parameters"] for r in results),
        median(r.metrics["resources/peak_memory_bytes"] for r in results),
        fmean(r.metrics["resources/train_seconds"] for r in results),
        fmean(r.metrics["resources/evaluation_seconds"] for r in results),
        tuple(_remarks(results)) + ((f"{failed} FAILED",) if failed else ()),
    )


def _gap(result: "Result") -> float:
    outside = fmean(result.metrics[f"ood/{name}/{result.primary}"] for name in result.ood)
    return result.metrics[f"in_domain/{result.primary}"] - outside


def _spread(values: Sequence[float]) -> Spread:
    return Spread(fmean(values), stdev(values) if len(values) > 1 else None)


def reference(metric: str, majority: float, chance: float) -> tuple[float, float]:
    """What always answering the majority label, and guessing, get on a metric.

    majority: share of the most frequent label; chance: 1 / number of labels.
    """
    if metric == "accuracy":
        return majority, chance
    if metric == "mcc":
        return 0.0, 0.0
    if metric == "macro_f1":
        return 2 * majority / (1 + majority) * chance, chance
    return chance, chance


def references(result: "Result", split: str) -> tuple[float, float]:
    """The majority and chance rows of a split, on the run's primary metric."""
    return reference(result.primary, result.metrics[f"{split}/majority"], result.metrics[f"{split}/chance"])


def _remarks(results: "Sequence[Result]") -> Iterator[str]:
    """'in domain at chance', 'ood/x below majority': where the mean is not above what knowing nothing gets."""
    for split in ("in_domain", *(f"ood/{name}" for name in results[0].ood)):
        mean = fmean(r.metrics[f"{split}/{r.primary}"] for r in results)
        majority, chance = references(results[0], split)
        where = split.replace("in_domain", "in domain")
        if mean <= chance:
            yield f"{where} {'at' if mean == chance else 'below'} chance"
        elif mean <= majority:
            yield f"{where} below majority"


def result_warnings(outcomes: Sequence[Outcome]) -> list[str]:
    """Sentences about results that cannot be: a strategy that trains gives the same numbers for two seeds."""
    found = {}
    done = [o.result for o in outcomes if o.result is not None and compose(o.config.strategy).trains]
    for one, other in combinations(done, 2):
        a, b = one.config, other.config
        same_place = (a.strategy, a.per_label) == (b.strategy, b.per_label)
        if same_place and _numbers(one) == _numbers(other):
            found[a.strategy, a.per_label] = (
                f"{a.strategy} at {a.per_label} per label gave identical numbers for seed·data_seed "
                f"{a.seed}·{a.data_seed} and {b.seed}·{b.data_seed}: a fault, not a result."
            )
    return list(found.values())


def _numbers(result: "Result") -> dict[str, float]:
    return {key: value for key, value in result.metrics.items() if not key.startswith("resources/")}
