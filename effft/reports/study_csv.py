"""The runs of a study as one CSV file, and back: what was measured elsewhere stays when the study goes on here.

A line holds all that pages and tables say of a run: its seeds, the settings that make two runs differ, digests of what
it read, scores of every split, and costs.
"""

from collections.abc import Hashable, Iterable, Mapping
from io import StringIO
from pathlib import Path

import pandas as pd

from effft.config import DIFFICULTY_FIELDS
from effft.disk import read_text
from effft.errors import InputError
from effft.evaluation.metrics import FURTHER_METRICS
from effft.reports.claims import METRIC
from effft.reports.csv_files import csv_text, without_guard
from effft.reports.data import RESULT, TAGS, VERSIONS, ReportData, metric_names, plain_backbone
from effft.reports.groups import MEMORY, OTHER_SEEDS, SETTINGS, SHARE
from effft.reports.warnings import leak_lines
from effft.tracking.reading import StoredRun
from effft.tracking.study_runs import FORMER

OPERATIONS = "resources/train_flops"
ENDS = ("", "_low", "_high", "_majority", "_chance")  # Of the primary metric.
SCORES = ("accuracy", METRIC, "mcc", *FURTHER_METRICS, "labels", "examples", "majority", "chance")
COSTS = (
    "resources/trainable_parameters", "resources/total_parameters", SHARE, MEMORY, OPERATIONS,
    "resources/train_seconds", "resources/evaluation_seconds", "resources/queries_per_second", "resources/labels_used",
)  # fmt: skip
KEYS = (*OTHER_SEEDS, *SETTINGS, "param:metric", *(f"param:{name}" for name in DIFFICULTY_FIELDS))
FURTHER_KEYS = ("param:shots", *(f"given:{name}" for name in DIFFICULTY_FIELDS))  # Told, but of no other run.
KEPT_TAGS = tuple(tag for tag in TAGS if tag not in VERSIONS)
LARGEST = 1 << 28  # Bytes of a file that is read back.


def study_csv(parts: Mapping[str, Mapping[str, ReportData]]) -> str:
    """A line for every finished run; parts: '' for the study itself, else what lies beside it -> its tasks."""
    frames = []
    for part, tasks in parts.items():
        for data in tasks.values():
            names = (*(f"{data.primary}{end}" for end in ENDS), *SCORES)
            scores = [f"{split}/{name}" for split in ("validation", *data.splits) for name in names]
            slices = [key for key in metric_names(data.scored) if "/slice/" in key]
            metrics = [f"metric:{key}" for key in (*scores, *slices, *RESULT, *COSTS)]
            wanted = dict.fromkeys(("part", *KEPT_TAGS, "variant", *metrics, *KEYS, *FURTHER_KEYS))
            frame = pd.concat([data.scored, data.other_difficulty, data.controls])
            frame = frame.assign(part=part, notes=frame["notes"].map(lambda note: "\n".join(leak_lines(note))))
            frames.append(frame[[column for column in wanted if column in frame]])
    frame = pd.concat(frames).dropna(axis=1, how="all")
    told = [column for column in frame if column == "part" or not (frame[column].isna() | (frame[column] == "")).all()]
    return csv_text(frame[told].rename(columns=lambda name: name.removeprefix("metric:")))


def kept_runs(file: Path, part: str, task: str, stored: Iterable[StoredRun]) -> list[StoredRun]:
    """The runs of a part and task that the file has and the store has not.

    Args:
        file: What `study_csv` wrote; it need not be there.
        part: '' for the study itself, else the name of what lies beside it.
        task: Name of the task.
        stored: The runs that the store has; one with the same seeds and settings counts, not the line.

    Raises:
        InputError: The file is no such table.
    """
    if not file.is_file():
        return []
    try:
        frame = pd.read_csv(StringIO(read_text(file, "file", LARGEST)), dtype=str, keep_default_na=False)
        runs = [_run(row) for row in frame[(frame["part"] == part) & (frame["task"] == task)].to_dict("records")]
    except (KeyError, ValueError) as error:
        raise InputError(
            f"{file} is no table of a study's runs ({type(error).__name__}: {error}), so the runs in it cannot be "
            "kept; move it away, or give another folder with --out."
        ) from None
    known = {_key(run) for run in stored if run.status == "FINISHED"}
    return [run for run in runs if _key(run) not in known]


def _run(row: Mapping[Hashable, str]) -> StoredRun:
    values: dict[str, dict[str, str]] = {"given": {}, "param": {}}
    metrics = dict[str, float]()
    cells = {str(name): without_guard(text) for name, text in row.items()}
    for column, text in cells.items():
        kind, _, name = column.partition(":")
        if kind in values:
            values[kind] |= {name: text} if text else {}
        elif "/" in column and text:
            metrics[column] = float(text)
    tags = {tag: cells[tag] for tag in TAGS if tag in cells}
    tags["backbone"] = plain_backbone(tags["backbone"])
    return StoredRun("", cells["variant"], "FINISHED", None, metrics, values["param"], values["given"], tags)


def _key(run: StoredRun) -> tuple[str, ...]:
    """Which run it is: what was trained on which examples, whatever came of it."""
    names = ("task", "backbone", "strategy", "kind", "study", "per_label", "rows", "seed", "data_seed")
    control = run.name.partition(" · ")[0] if run.tags.get("kind") == "control" else ""
    values = {f"param:{k}": v for k, v in run.params.items()} | {f"given:{k}": v for k, v in run.given.items()}
    kind = run.tags.get("kind", "")
    tags = {**run.tags, "kind": "final" if kind == FORMER else kind}  # as the file may still have it
    return (control, *(tags.get(name, "") for name in names), *(values.get(name, "") for name in KEYS))
