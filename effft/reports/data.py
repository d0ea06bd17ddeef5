"""The runs of one report, sorted: what was measured, what was not and why."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from effft.evaluation.statistics import Array, uninformed_scores
from effft.reports.collect import KINDS_APART, Collected, metric_names
from effft.reports.difficulty import usual_condition, with_conditions
from effft.reports.groups import RunGroup, Statistic, group_runs, with_variants

RESULT = ("in_domain/calibration_error", "train/loss")
"""Continuous numbers that tell two results apart even where all answers are the same."""


@dataclass(frozen=True)
class ReportData:
    """frame: finished runs with the primary metric. left_out: the others, by reason.

    turned: measured runs of the same task with other knobs, in no mean with those of `frame`, which have `condition`.
    """

    task: str
    frame: pd.DataFrame
    other_difficulty: pd.DataFrame
    condition: str
    primary: str
    sets: tuple[str, ...]
    left_out: dict[str, pd.DataFrame]

    @cached_property
    def splits(self) -> tuple[str, ...]:
        """`in_domain`, then `ood/<name>`."""
        return ("in_domain", *(f"ood/{name}" for name in self.sets))

    @cached_property
    def groups(self) -> list[RunGroup]:
        """Every cell, by backbone, examples per label and variant."""
        return self.groups_in(self.frame)

    def groups_in(self, frame: pd.DataFrame) -> list[RunGroup]:
        """The cells of some runs."""
        return group_runs(frame, [*(f"{split}/{self.primary}" for split in self.splits), *RESULT])

    @cached_property
    def backbones(self) -> list[str]:
        """In the order they came."""
        return list(dict.fromkeys(cell.backbone for cell in self.groups))

    def groups_on(self, backbone: str, per_label: int | None = None) -> list[RunGroup]:
        """The cells of a backbone, best in domain first within each number of examples per label."""
        found = [c for c in self.groups if c.backbone == backbone and per_label in (None, c.per_label)]
        return sorted(found, key=lambda c: (c.per_label, -self.mean(c, "in_domain")))

    def per_labels(self, backbone: str) -> list[int]:
        """Ascending."""
        return sorted({cell.per_label for cell in self.groups if cell.backbone == backbone})

    def stat(self, cell: RunGroup, split: str) -> Statistic | None:
        """The primary metric of a split."""
        return cell.stat(f"{split}/{self.primary}")

    def mean(self, cell: RunGroup, split: str) -> float:
        """Its mean; below everything where there is none."""
        stat = self.stat(cell, split)
        return stat.mean if stat else float("-inf")

    def ood_mean(self, cell: RunGroup) -> Statistic | None:
        """The mean over the OOD sets of every run."""
        if not self.sets:
            return None
        return cell.stat_of(self.ood_values(cell))

    def ood_values(self, cell: RunGroup) -> Array:
        """The mean over the OOD sets, a number a run; NaN where a set is missing."""
        found: Array = np.array([cell.values(f"ood/{name}/{self.primary}") for name in self.sets]).mean(axis=0)
        return found

    def gap(self, cell: RunGroup) -> Statistic | None:
        """In domain minus the mean of the OOD sets, run by run."""
        if not self.sets:
            return None
        return cell.stat_of(cell.values(f"in_domain/{self.primary}") - self.ood_values(cell))

    def references(self, cells: list[RunGroup], split: str) -> tuple[float, float] | None:
        """What always answering the most frequent label, and guessing, get; None where no run says."""
        for cell in cells:
            majority, chance = cell.stat(f"{split}/majority"), cell.stat(f"{split}/chance")
            if majority and chance:
                return uninformed_scores(self.primary, majority.mean, chance.mean)
        return None


def select_runs(collected: Collected, task: str) -> ReportData:
    """Keep the finished runs of the task that measured its primary metric in domain; name the rest by reason."""
    frame = collected.frame
    frame = frame[~frame["kind"].isin(KINDS_APART)]
    left: dict[str, pd.DataFrame] = {}

    def leave(reason: str, rows: "pd.Series[bool]") -> None:
        nonlocal frame
        if rows.any():
            left[reason] = frame[rows]
            frame = frame[~rows]

    leave("no run of effft (no strategy tag)", frame["strategy"] == "")
    leave("of another task", frame["task"] != task)
    for status in sorted(set(frame["status"]) - {"FINISHED"}):
        leave(status, frame["status"] == status)
    metric = _primary(frame)
    column = f"metric:in_domain/{metric}"
    missing = frame[column].isna() if column in frame else pd.Series(True, index=frame.index)
    leave(f"without in_domain/{metric}", missing)
    leave("without a number of examples per label", frame["per_label"].isna())
    frame = with_conditions(frame)
    usual = usual_condition(frame)
    here = frame["condition"].isin([usual, ""])  # '': a task without knobs, or a run that did not say how they stood
    sets = _sets(frame[here], metric)
    return ReportData(task, with_variants(frame[here]), frame[~here], usual, metric, sets, left)


def _primary(frame: pd.DataFrame) -> str:
    column = "param:resolved.metric"
    named = frame[column][frame[column] != ""] if column in frame else pd.Series(dtype=str)
    return str(named.mode().iloc[0]) if len(named) else "accuracy"


def _sets(frame: pd.DataFrame, metric: str) -> tuple[str, ...]:
    known = frame.dropna(axis=1, how="all")
    keys = [k for k in metric_names(known) if k.startswith("ood/") and k.endswith(f"/{metric}") and k.count("/") == 2]
    return tuple(key.split("/")[1] for key in sorted(keys))
