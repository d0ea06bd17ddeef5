"""The same strategies on the same shots in another setting: what the setting changes, and what that does to ranks."""

from collections.abc import Iterator, Mapping
from itertools import product

import numpy as np

from effft.evaluation.statistics import PairedDifference, holm, smallest_p
from effft.reports.blocks import Table
from effft.reports.claims import differences
from effft.reports.data import ReportData
from effft.reports.groups import RunGroup
from effft.reports.pairwise import LEVEL

BASE = "vanilla"


def setting_table(tasks: Mapping[str, ReportData], others: Mapping[str, ReportData]) -> Table | None:
    """Here minus the other setting, paired, for every strategy that both have; and both against vanilla.

    others: the runs of the same tasks in the other setting.
    """
    found = [
        (data.task, one, other, measure, pairs)
        for task, data in tasks.items()
        if task in others
        for one, other in _matching(data, others[task])
        for measure in ("in domain", "OOD")
        if (pairs := _difference(one, other, measure, data))
    ]
    if not found:
        return None
    rows = []
    for (task, one, other, measure, pairs), p in zip(found, holm([row[-1].p for row in found]), strict=True):
        here, there = (
            _against_base(group, measure, data) for group, data in ((one, tasks[task]), (other, others[task]))
        )
        rows.append((f"{task}, {one.amount.phrase}", one.backbone, _name(one, other), measure, pairs.text(),
                     str(pairs.count), f"{pairs.p:.3f}", f"{p:.3f}", here, there))  # fmt: skip
    heads = ("task", "model", "strategy", "on", "here - published setting", "pairs", "p", "p (Holm)",
             f"here - {BASE} here", f"there - {BASE} there")  # fmt: skip
    caption = "What the setting changes: balanced accuracy, mean difference [95 % interval of the pairs]."
    if smallest_p(max(row[-1].count for row in found)) > LEVEL / len(found):
        caption += " So few pairs cannot pass the corrected test, however they differ."
    return Table(heads, rows, caption, left=(0, 1, 2, 3))


def _matching(here: ReportData, there: ReportData) -> Iterator[tuple[RunGroup, RunGroup]]:
    for group, other in product(here.groups, there.groups):
        if (group.backbone, group.amount, group.strategy) == (other.backbone, other.amount, other.strategy):
            yield group, other


def _name(one: RunGroup, other: RunGroup) -> str:
    return one.variant if one.variant == other.variant else f"{one.variant} - {other.variant}"


def _difference(one: RunGroup, other: RunGroup, measure: str, data: ReportData) -> PairedDifference | None:
    values = differences(one, other, measure, data)
    return PairedDifference(np.array([*values.values()])) if values else None


def _against_base(group: RunGroup, measure: str, data: ReportData) -> str:
    bases = [g for g in data.groups_on(group.backbone, group.amount) if g.strategy == BASE]
    found = _difference(group, bases[0], measure, data) if len(bases) == 1 and group.strategy != BASE else None
    return found.text() if found else "-"
