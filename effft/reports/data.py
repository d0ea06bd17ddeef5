"""The runs of one report, read back from MLflow as one wide table: what was measured, what was not and why."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import pandas as pd

from effft.config import Amount
from effft.errors import InputError, nearest
from effft.evaluation.metric_keys import CROSS_VALIDATED, home_split, ood_sets
from effft.evaluation.metrics import RANGES
from effft.evaluation.statistics import reference_scores
from effft.reports.groups import (
    OOD_MEAN,
    RunGroup,
    difficulty_of,
    group_runs,
    usual_difficulty,
    with_scores,
    with_variants,
)
from effft.tracking.reading import PARENT, RunReader, StoredRun
from effft.tracking.study_runs import FORMER

VERSIONS = ("version.torch", "version.transformers", "version.peft")

TAGS = (
    "task", "strategy", "backbone", "per_label", "rows", "seed", "data_seed", "kind", "study", "tuned", "notes",
    "git_commit", "task_digest", "model_digest", *VERSIONS,
)  # fmt: skip
"""Tags that the report reads, each a column."""

IMPORTED = "imported"
"""Kind of runs that came from a file of another project, not from MLflow."""

NO_RESULT = ("comparison", "study", "choice", "average", "report", "control", "trial", FORMER)
"""Kinds of runs that are no measurement of a strategy on a task."""

RESULT = ("in_domain/calibration_error", "cross_validated/calibration_error", "train/loss")
"""Continuous numbers that tell two results apart even where all answers are the same."""

CONTENTS = {"task_digest": "task", "model_digest": "weights"}
"""Tags with the digest of what a run read -> what they name."""


def split_title(split: str) -> str:
    """A split, or a score made of several, as people read it."""
    return {"in_domain": "in domain", CROSS_VALIDATED: "cross-validated", OOD_MEAN: "OOD mean"}.get(split, split)


@dataclass(frozen=True)
class ReportData:
    """The runs of a task that a report is about.

    Args:
        task: Its name.
        frame: Finished runs with the primary metric, all at the same difficulty.
        other_difficulty: Runs of the task at another difficulty, which no mean mixes with those of `frame`.
        primary: The primary metric.
        sets: The names of the OOD sets.
        left_out: The other runs, by the reason why they are left out.
        controls: Finished runs of controls at the difficulty of `frame`: rows of the table of results, nothing else.
        home: The split that says what is reached in domain: `in_domain`, or `cross_validated` without a test file.
    """

    task: str
    frame: pd.DataFrame
    other_difficulty: pd.DataFrame
    primary: str
    sets: tuple[str, ...]
    left_out: dict[str, pd.DataFrame]
    controls: pd.DataFrame
    home: str = "in_domain"

    @cached_property
    def splits(self) -> tuple[str, ...]:
        """That in domain, then `ood/<name>`."""
        return (self.home, *(f"ood/{name}" for name in self.sets))

    @property
    def home_title(self) -> str:
        """'In domain' or 'Cross-validated', as a title begins."""
        return split_title(self.home).capitalize()

    @cached_property
    def groups(self) -> list[RunGroup]:
        """Every group of runs, by backbone, number of examples and variant."""
        return self.groups_in(self.frame)

    @cached_property
    def scored(self) -> pd.DataFrame:
        """The runs with what follows from their metrics."""
        return with_scores(self.frame, self.primary, self.splits)

    def groups_in(self, frame: pd.DataFrame) -> list[RunGroup]:
        """The groups of some runs."""
        keys = [*(f"{split}/{self.primary}" for split in self.splits), *RESULT]
        return group_runs(with_scores(frame, self.primary, self.splits), keys, RANGES.get(self.primary, (0, 1))[0])

    @cached_property
    def backbones(self) -> list[str]:
        """In the order of their first runs."""
        return list(dict.fromkeys(group.backbone for group in self.groups))

    def groups_on(self, backbone: str, amount: Amount | None = None) -> list[RunGroup]:
        """The groups of a backbone by number of examples, best in domain first."""
        chosen = [g for g in self.groups if g.backbone == backbone and amount in (None, g.amount)]
        return sorted(chosen, key=lambda group: (group.amount, -group.mean()))

    def amounts(self, backbone: str) -> list[Amount]:
        """Numbers of examples, ascending."""
        return sorted({group.amount for group in self.groups if group.backbone == backbone})

    def limits(self, group: RunGroup, split: str) -> tuple[float, float, float] | None:
        """A score and its interval: over runs, of a single run over its examples, else the score itself."""
        stat = group.score(split)
        if stat is None:
            return None
        if stat.low is not None:
            return stat.mean, *stat.interval
        ends = (group.stat(f"{split}/{self.primary}_{end}") for end in ("low", "high"))
        low, high = (end.mean if end else stat.mean for end in ends)
        return stat.mean, low, high

    def references(self, groups: list[RunGroup], split: str) -> tuple[float, float] | None:
        """What always answering the most frequent label, and guessing, score; None where no run logged it."""
        for group in groups:
            if known := reference_scores(self.primary, partial(group.mean_of, split)):
                return known
        return None


def collect(
    reader: RunReader, experiment: str, parent: str = "", more: Sequence[StoredRun] = ()
) -> tuple[pd.DataFrame, tuple[str, ...] | None]:
    """The runs of an experiment as a table, and the names of the only studies that are meant (None = all of the task).

    Of some parents ('id,id') only their children and the final runs of their studies. more: runs from elsewhere.

    Raises:
        InputError: There is no such experiment (the nearest name is suggested), or no such parent.
    """
    runs, known = reader.runs_of(experiment), reader.experiments()
    if not runs and experiment not in known and not more:
        names = [name for name in known if name.startswith("effft/")]
        listed = ", ".join(names) or "none yet; `effft compare` makes the first"
        raise InputError(f"no experiment {experiment!r}; with runs of effft: {listed}.{nearest(experiment, names)}")
    if not parent:
        return as_frame([*runs, *more]), None
    parents = [word.strip() for word in parent.split(",") if word.strip()]
    studies = tuple(name for one in parents for name in _studies_under(reader, one))
    chosen = [
        run
        for run in runs
        if run.tags.get(PARENT) in parents or (run.tags.get("kind") == "final" and run.tags.get("study") in studies)
    ]
    return as_frame([*chosen, *more]), studies


def _studies_under(reader: RunReader, parent: str) -> list[str]:
    """The studies that a comparison ran (a tag holds their names as JSON), or the study itself."""
    run = reader.run(parent)
    if run is None:
        raise InputError(f"parent={parent}: there is no such run in this store (flag --parent).")
    if run.tags.get("kind") == "study":
        return [run.tags.get("study", "")]
    try:
        return [str(name) for name in json.loads(run.tags.get("studies", "[]"))]
    except ValueError:
        return []


def as_frame(runs: Iterable[StoredRun]) -> pd.DataFrame:
    """One row for every run, the oldest first: information, tags, `param:<name>`, `given:<name>`, `metric:<key>`.

    Numbers that a run lacks are NaN, words that it lacks ''.
    """
    flat = [
        {"run_id": run.run_id, "name": run.name, "status": run.status, "started": run.started}
        | {tag: run.tags.get(tag, "") for tag in TAGS}
        | {f"param:{key}": value for key, value in run.params.items()}
        | {f"given:{key}": value for key, value in run.given.items()}
        | {f"metric:{key}": value for key, value in run.metrics.items()}
        for run in runs
    ]
    frame = pd.DataFrame.from_records(flat, columns=None if flat else ["run_id", "name", "status", "started", *TAGS])
    numbers = {
        name: pd.to_numeric(frame[name], errors="coerce").astype("Float64").astype("Int64")
        for name in ("per_label", "seed", "data_seed")
    }
    words = {
        name: frame[name].fillna("").astype(str) for name in frame.columns if name.startswith(("param:", "given:"))
    }
    rows = pd.to_numeric(frame["rows"].replace("all", "inf"), errors="coerce").fillna(0)
    pairs = zip(numbers["per_label"].fillna(0), rows, strict=True)
    amounts = pd.Series([Amount(int(n), float(r)) for n, r in pairs], index=frame.index, dtype=object)
    return frame.assign(**numbers, **words, amount=amounts).sort_values(["started", "run_id"], ignore_index=True)


def metric_names(frame: pd.DataFrame) -> list[str]:
    """The metric keys of the frame."""
    return [column.removeprefix("metric:") for column in frame.columns if column.startswith("metric:")]


def select_runs(frame: pd.DataFrame, task: str) -> ReportData:
    """Keep the finished runs that measured the primary metric in domain (or out of fold); the others by reason."""
    controls = frame[(frame["kind"] == "control") & (frame["task"] == task) & (frame["status"] == "FINISHED")]
    controls = controls.assign(variant=controls["name"].str.split(" · ").str[0])
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
    named = frame.get("param:metric", pd.Series(dtype=str))
    metric = str(next(iter(named[named != ""].mode()), "accuracy"))
    home = home_split(metric_names(frame.dropna(axis=1, how="all")), metric)
    scores = frame.get(f"metric:{home}/{metric}", pd.Series(np.nan, index=frame.index))
    leave(f"without {home}/{metric}", scores.isna())
    leave("without a number of examples", ~frame["amount"].map(any).astype(bool))
    frame, controls = with_contents(frame.assign(difficulty=difficulty_of(frame)), controls)
    difficulties = [usual_difficulty(frame), ""]  # '': the task has none, or the run did not log it
    here, controls = frame["difficulty"].isin(difficulties), controls[difficulty_of(controls).isin(difficulties)]
    sets = tuple(sorted(ood_sets(metric_names(frame[here].dropna(axis=1, how="all")), metric)))
    return ReportData(task, with_variants(frame[here]), frame[~here], metric, sets, left_out, controls, home)


def with_contents(frame: pd.DataFrame, controls: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Treat runs that read other weights, or other data under one task name, as runs on another backbone.

    So that nothing averages or pairs them: 'tiny-lm (weights 1f2e3d4c)'. Nothing changes where all runs read the same.
    The digest of a task depends on its difficulty too, so contents are compared at one difficulty. Controls follow.
    """
    names, of_controls = frame["backbone"], controls["backbone"]

    def told(rows: pd.DataFrame, several: "pd.Series[bool]", digest: str) -> pd.DataFrame:
        words = rows["backbone"] + f" ({CONTENTS[digest]} " + rows[digest].str[:8].replace("", "unknown") + ")"
        return rows.assign(backbone=rows["backbone"].where(~several, words))

    for digest in CONTENTS:
        several = frame.groupby([names, frame["difficulty"]])[digest].transform("nunique") > 1
        controls = told(controls, of_controls.isin(names[several]), digest)
        frame = told(frame, several, digest)
    return frame, controls


def plain_backbone(name: str) -> str:
    """A model without the contents that `with_contents` tells it apart by."""
    for mark in CONTENTS.values():
        name = name.partition(f" ({mark} ")[0]
    return name
