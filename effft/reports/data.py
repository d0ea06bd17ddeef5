"""The runs of one report: what was measured, what was not and why."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from effft.evaluation.metric_keys import ood_sets
from effft.evaluation.statistics import Array, uninformed_scores
from effft.reports.collect import NO_RESULT, Collected, metric_names
from effft.reports.groups import RunGroup, Statistic, difficulty_of, group_runs, usual_difficulty, with_variants

RESULT = ("in_domain/calibration_error", "train/loss")
"""Continuous numbers that tell two results apart even where all answers are the same."""


@dataclass(frozen=True)
class ReportData:
    """The runs of a task that a report is about.

    Args:
        task: Its name.
        frame: Finished runs with the primary metric, all at the same difficulty.
        other_difficulty: Runs of the task at another difficulty, which no mean mixes with those of `frame`.
        difficulty: The difficulty of `frame`, '' where the task has none.
        primary: The primary metric.
        sets: The names of the OOD sets.
        left_out: The other runs, by the reason why they are left out.
    """

    task: str
    frame: pd.DataFrame
    other_difficulty: pd.DataFrame
    difficulty: str
    primary: str
    sets: tuple[str, ...]
    left_out: dict[str, pd.DataFrame]

    @cached_property
    def splits(self) -> tuple[str, ...]:
        """`in_domain`, then `ood/<name>`."""
        return ("in_domain", *(f"ood/{name}" for name in self.sets))

    @cached_property
    def groups(self) -> list[RunGroup]:
        """Every group of runs, by backbone, examples per label and variant."""
        return self.groups_in(self.frame)

    def groups_in(self, frame: pd.DataFrame) -> list[RunGroup]:
        """The groups of some runs."""
        return group_runs(frame, [*(f"{split}/{self.primary}" for split in self.splits), *RESULT])

    @cached_property
    def backbones(self) -> list[str]:
        """In the order of their first runs."""
        return list(dict.fromkeys(group.backbone for group in self.groups))

    def groups_on(self, backbone: str, per_label: int | None = None) -> list[RunGroup]:
        """The groups of a backbone by number of examples per label, best in domain first."""
        chosen = [g for g in self.groups if g.backbone == backbone and per_label in (None, g.per_label)]
        return sorted(chosen, key=lambda group: (group.per_label, -self.mean(group, "in_domain")))

    def per_labels(self, backbone: str) -> list[int]:
        """Numbers of examples per label, ascending."""
        return sorted({group.per_label for group in self.groups if group.backbone == backbone})

    def stat(self, group: RunGroup, split: str) -> Statistic | None:
        """The primary metric of a split."""
        return group.stat(f"{split}/{self.primary}")

    def mean(self, group: RunGroup, split: str) -> float:
        """Its mean; minus infinity where there is none."""
        stat = self.stat(group, split)
        return stat.mean if stat else float("-inf")

    def ood_mean(self, group: RunGroup) -> Statistic | None:
        """The mean over the OOD sets."""
        return group.stat_of(self.ood_values(group)) if self.sets else None

    def ood_values(self, group: RunGroup) -> Array:
        """The mean over the OOD sets of every run; NaN where a set is missing."""
        values: Array = np.array([group.values(f"ood/{name}/{self.primary}") for name in self.sets]).mean(axis=0)
        return values

    def gap(self, group: RunGroup) -> Statistic | None:
        """In domain minus the mean of the OOD sets, run by run."""
        if not self.sets:
            return None
        return group.stat_of(group.values(f"in_domain/{self.primary}") - self.ood_values(group))

    def references(self, groups: list[RunGroup], split: str) -> tuple[float, float] | None:
        """What always answering the most frequent label, and guessing, score; None where no run logged it."""
        for group in groups:
            majority, chance = group.stat(f"{split}/majority"), group.stat(f"{split}/chance")
            if majority and chance:
                return uninformed_scores(self.primary, majority.mean, chance.mean)
        return None


def select_runs(collected: Collected, task: str) -> ReportData:
    """Keep the finished runs of the task that measured its primary metric in domain; keep the others by reason."""
    frame = collected.frame
    frame = frame[~frame["kind"].isin(NO_RESULT)]
    left_out: dict[str, pd.DataFrame] = {}

    def leave(reason: str, rows: "pd.Series[bool]") -> None:
        nonlocal frame
        if rows.any():
            left_out[reason] = frame[rows]
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
    frame = with_contents(frame.assign(difficulty=difficulty_of(frame)))
    usual = usual_difficulty(frame)
    here = frame["difficulty"].isin([usual, ""])  # '': the task has none, or the run did not log it
    sets = tuple(sorted(ood_sets(metric_names(frame[here].dropna(axis=1, how="all")), metric)))
    return ReportData(task, with_variants(frame[here]), frame[~here], usual, metric, sets, left_out)


CONTENTS = {"task_digest": "task", "model_digest": "weights"}
"""Tags with the digest of what a run read -> what they name."""


def with_contents(frame: pd.DataFrame) -> pd.DataFrame:
    """Treat runs that read other weights, or other data under one task name, as runs on another backbone.

    So that nothing averages or pairs them: 'tiny-lm (weights 1f2e3d4c)'. Nothing changes where all runs read the same.
    The digest of a task depends on its difficulty too, so contents are compared at one difficulty.
    """
    names = frame["backbone"]
    for digest, name in CONTENTS.items():
        several = frame.groupby([names, frame["difficulty"]])[digest].transform("nunique") > 1
        words = frame["backbone"] + f" ({name} " + frame[digest].str[:8].replace("", "unknown") + ")"
        frame = frame.assign(backbone=frame["backbone"].where(~several, words))
    return frame


def _primary(frame: pd.DataFrame) -> str:
    column = "param:resolved.metric"
    named = frame[column][frame[column] != ""] if column in frame else pd.Series(dtype=str)
    return str(named.mode().iloc[0]) if len(named) else "accuracy"
