"""Claims about pairs of strategies, judged by runs on the same shots: holds, does not hold, cannot be told.

A claim says in which region the difference of two strategies lies. What is tested is each end of the region, by sign
flips of the pairs' distances from it; a region with two ends (comparable) takes the larger of two p values, as two
one-sided tests do (Schuirmann 1987). All tests of one family are corrected together.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from effft.errors import InputError
from effft.evaluation.statistics import PairedDifference, holm, reference_scores, sign_flip, smallest_p
from effft.reports.blocks import Table
from effft.reports.data import ReportData
from effft.reports.groups import MEMORY, RunGroup
from effft.reports.pairwise import LEVEL, paired_values
from effft.reports.published import published
from effft.strategies.strategy import compose
from effft.tasks.yaml_file import read_values

METRIC = "balanced_accuracy"
"""What scores are compared in: the one metric that means the same in every task."""
POWER = 1.96 + 0.84
"""Normal quantiles of a two-sided test at 0.05 that finds a difference four times out of five."""
MOST_PAIRS = 1000

Verdict = Literal["holds", "does not hold", "cannot be told"]


class Claim(BaseModel):
    """One comparison that a claim is about.

    Args:
        claim: The claim in words.
        one: The strategy whose value comes first.
        other: The strategy whose value is taken from it.
        measure: What is compared: balanced accuracy in domain or out of domain, or peak memory.
        difference: Where it lies by the claim: above or below 0, comparable (nearer to 0 than the margin), or
            not above (the margin).
        margin: Difference that does not matter.
        published: Names of the two in the published runs; none where there are no such runs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    claim: str
    one: str
    other: str
    measure: Literal["in domain", "OOD", "memory"]
    difference: Literal["above", "below", "comparable", "not above"]
    margin: float = Field(default=0.05, gt=0, allow_inf_nan=False)
    published: tuple[str, str] | None = None

    @field_validator("one", "other")
    @classmethod
    def _must_be_known(cls, name: str) -> str:
        compose(name)
        return name

    @property
    def region(self) -> tuple[float, float]:
        """The ends of where the difference lies by the claim."""
        ends = {"above": (0.0, math.inf), "below": (-math.inf, 0.0), "not above": (-math.inf, self.margin)}
        return ends.get(self.difference, (-self.margin, self.margin))


@dataclass(frozen=True)
class Finding:
    """What the runs on one backbone say.

    Args:
        difference: Over the pairs of `tasks`; over those at chance where there are no others.
        tasks: On which one of the two strategies is above chance.
        at_chance: On which neither is, at some number of examples: alike because neither works.
        p: Of the claim or of its contrary; 1 where all is at chance.
        p_holm: Corrected over the family.
    """

    claim: Claim
    backbone: str
    difference: PairedDifference
    tasks: Sequence[str]
    at_chance: Sequence[str]
    p: float
    p_holm: float = 1.0

    @property
    def text(self) -> str:
        """Mean and interval of the difference, in MB where it is one of memory."""
        return self.difference.text(*(("+.0f", " MB") if self.claim.measure == "memory" else ()))

    @property
    def inside(self) -> bool:
        """Whether the mean difference lies where the claim says."""
        low, high = self.claim.region
        return low <= self.difference.mean <= high

    @property
    def verdict(self) -> Verdict:
        """Decided by the corrected test alone."""
        return "cannot be told" if self.p_holm >= LEVEL else "holds" if self.inside else "does not hold"

    @property
    def pairs_needed(self) -> str:
        """Pairs of which four out of five studies could tell, uncorrected, if mean and spread stayed as they are."""
        values, ends = self.difference.values, [end for end in self.claim.region if math.isfinite(end)]
        distance = min(abs(self.difference.mean - end) for end in ends)
        least = next(count for count in range(1, 20) if smallest_p(count) <= LEVEL)
        if self.difference.count < 2 or not distance:
            return "-"
        needed = max(least, math.ceil((POWER * float(values.std(ddof=1)) / distance) ** 2))
        return str(needed) if needed <= MOST_PAIRS else f"over {MOST_PAIRS}"


def read_claims(path: Path) -> list[Claim]:
    """The comparisons of a file: below the key `claims` a list of a `claim` in words and what is `compared` for it.

    Raises:
        InputError: What is wrong in it.
    """
    found = read_values(path, "file of claims")
    try:
        return [Claim(claim=one["claim"], **compared) for one in found["claims"] for compared in one["compared"]]
    except (KeyError, TypeError):
        raise InputError(f"{path}: a file of claims has a list `claims`, each with `claim` and `compared`.") from None
    except ValidationError as error:
        fault = error.errors()[0]
        law = fault["msg"].removeprefix("Value error, ").rstrip(".")
        raise InputError(f"{path}: {'.'.join(map(str, fault['loc']))}: {law}.") from None


def judge(claims: Sequence[Claim], tasks: Mapping[str, ReportData]) -> list[Finding]:
    """What the runs of all tasks together say of every claim, on every backbone that has both strategies.

    A pair is a draw of the examples of one task; where there are several numbers of examples, their mean, as draws
    nest. Where neither strategy is above chance a task says nothing.
    """
    found = [finding for claim in claims for finding in _findings(claim, tasks)]
    corrected = holm([finding.p for finding in found])
    return [replace(finding, p_holm=p) for finding, p in zip(found, corrected, strict=True)]


def backbones_of(tasks: Mapping[str, ReportData]) -> list[str]:
    """The models of all tasks, each once."""
    return list(dict.fromkeys(backbone for data in tasks.values() for backbone in data.backbones))


def _findings(claim: Claim, tasks: Mapping[str, ReportData]) -> Iterator[Finding]:
    for backbone in backbones_of(tasks):
        units: dict[tuple[Any, ...], list[float]] = {}
        idle: dict[tuple[Any, ...], list[float]] = {}
        for task, data in tasks.items():
            for one, other in _pairs(data, backbone, claim):
                known = units if any(_above_chance(group, claim.measure, data) for group in (one, other)) else idle
                for key, value in differences(one, other, claim.measure, data).items():
                    known.setdefault((task, *key), []).append(value)
        if found := units or idle:
            values = np.array([np.mean(own) for own in found.values()])
            names, at_chance = (list(dict.fromkeys(unit[0] for unit in known)) for known in (units, idle))
            p = p_value(values, claim.region) if units else 1.0
            yield Finding(claim, backbone, PairedDifference(values), names, at_chance, p)


def _above_chance(group: RunGroup, measure: str, data: ReportData) -> bool:
    """Whether its interval lies above guessing on one of the splits that count; True for memory."""
    splits = {"in domain": data.splits[:1], "OOD": data.splits[1:]}.get(measure, ())
    for split in splits:
        stat, known = group.stat(f"{split}/{METRIC}"), reference_scores(METRIC, partial(group.mean_of, split))
        if stat and (known is None or stat.interval[0] > known[1]):
            return True
    return not splits


def _pairs(data: ReportData, backbone: str, claim: Claim) -> Iterator[tuple[RunGroup, RunGroup]]:
    """The groups of the two strategies at every number of examples at which both were run with one setting."""
    for amount in data.amounts(backbone):
        groups = data.groups_on(backbone, amount)
        ones, others = ([group for group in groups if group.strategy == name] for name in (claim.one, claim.other))
        if len(ones) == len(others) == 1:
            yield ones[0], others[0]


def differences(one: RunGroup, other: RunGroup, on: str, data: ReportData) -> dict[tuple[int, int], float]:
    """One - other for every pair of seeds, in balanced accuracy (of OOD sets their mean) or in MB."""
    splits = {"in domain": data.splits[:1], "OOD": data.splits[1:]}.get(on, ())
    keys = [MEMORY] if on == "memory" else [f"{split}/{METRIC}" for split in splits]
    sides = [paired_values(one, other, key) for key in keys]
    pairs = set.intersection(*({*ours} & {*theirs} for ours, theirs in sides)) if sides else set()
    return {pair: float(np.mean([ours[pair] - theirs[pair] for ours, theirs in sides])) for pair in sorted(pairs)}


def p_value(values: Any, region: tuple[float, float]) -> float:
    """Of no difference from the end of a region that the mean is nearest to; inside two ends the larger of two."""
    ends = [end for end in region if math.isfinite(end)]
    if region[0] <= values.mean() <= region[1]:
        return max(sign_flip(values - end) for end in ends)
    return sign_flip(values - min(ends, key=lambda end: abs(values.mean() - end)))


def published_difference(claim: Claim) -> str:
    """Mean of the published differences in accuracy over examples per label and tasks, and their range."""
    means = {(m.strategy, m.task, m.ood, m.model, m.per_label): m for m in published() if m.rank in ("", "8")}
    if claim.published is None or claim.measure == "memory":
        return "-"
    column, (first, second) = {"in domain": "in_domain_accuracy", "OOD": "ood_accuracy"}[claim.measure], claim.published
    found = [
        getattr(mean, column) - getattr(means[second, *key], column)
        for (name, *key), mean in means.items()
        if name == first and (second, *key) in means
    ]
    return f"{np.mean(found):+.3f} ({min(found):+.3f} to {max(found):+.3f})" if found else "-"


def claims_points(findings: Sequence[Finding]) -> list[str]:
    """Every claim with its verdicts, each with the difference, its interval and the corrected p."""
    points = []
    for claim, group in groupby(findings, key=lambda finding: finding.claim.claim):
        found = [
            f"{one.claim.one} - {one.claim.other} on {one.backbone} ({one.claim.measure}, {one.text}, p "
            f"{one.p_holm:.3f}): {one.verdict}{'' if one.tasks else ', both are at chance'}"
            for one in group
        ]
        points.append(f"{claim}. {'; '.join(found)}.")
    return points


def claims_table(findings: Sequence[Finding]) -> Table:
    """A row for every claim, comparison and backbone."""
    heads = ("claim", "compared", "on", "by the claim", "published", "model", "tasks", "both at chance",
             "difference [95 %]", "pairs", "p", "p (Holm)", "pairs needed", "verdict")  # fmt: skip
    rows: list[tuple[str, ...]] = []
    for place, finding in enumerate(findings):
        claim, told = finding.claim, place and findings[place - 1].claim.claim == finding.claim.claim
        margin = f"{claim.margin:g}" if claim.difference in ("comparable", "not above") else "0"
        tasks = [", ".join(names) or "-" for names in (finding.tasks, finding.at_chance)]
        rows.append(("" if told else claim.claim, f"{claim.one} - {claim.other}", claim.measure,
                     f"{claim.difference} {margin}", published_difference(claim), finding.backbone, *tasks,
                     finding.text, str(finding.difference.count), f"{finding.p:.3f}", f"{finding.p_holm:.3f}",
                     finding.pairs_needed, finding.verdict))  # fmt: skip
    return Table(heads, rows, left=(0, 1, 2, 3, 5, 6, 7, 13))
