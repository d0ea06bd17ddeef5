"""Results in the forms of others: PEFT's method comparison, written and read, and Every Eval Ever, written.

PEFT's: https://github.com/huggingface/peft/tree/main/method_comparison, a file for every run, as `processing.py` there
reads it. Every Eval Ever's: https://github.com/evaleval/every_eval_ever, schema 0.3.0, a file for every group of runs.
"""

import hashlib
import json
import math
import time
import uuid
from collections.abc import Callable, Hashable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from effft.disk import read_text
from effft.errors import InputError
from effft.evaluation.metrics import RANGES
from effft.redaction import redact
from effft.reports.blocks import anchor
from effft.reports.data import IMPORTED, VERSIONS, ReportData, split_title
from effft.reports.groups import MEMORY, OTHER_SEEDS, RunGroup, Statistic
from effft.tracking.reading import StoredRun
from effft.version import __version__

LARGEST = 1 << 26  # Bytes of a file that is imported.
SCHEMA = "0.3.0"  # Of Every Eval Ever.


def exported(data: ReportData, form: str) -> dict[str, str]:
    """The runs of a report as files: path -> JSON. form: a key of `FORMS`."""
    records = (named for group in data.groups for named in FORMS[form](data, group))
    return {name: redact(json.dumps(record, indent=2)) + "\n" for name, record in records}


def _peft(data: ReportData, group: RunGroup) -> Iterator[tuple[str, dict[str, Any]]]:
    """A file for every run. What a run did not measure is 0; memory at the 99th percentile is the peak."""
    settings = group.settings
    begun = pd.to_numeric(group.runs["started"]).fillna(0)
    places = zip(
        group.runs.to_dict("records"), begun, group.runs["seed"].fillna(0).astype(int), group.draws, strict=True
    )
    for row, started, seed, draw in places:
        get = partial(_number, row)
        given = {column.partition(":")[2]: str(row.get(column, "")) for column in OTHER_SEEDS}
        others = {key: value for key, value in given.items() if value not in ("", "None")}
        name = f"{group.variant}/{group.backbone}-{group.amount.name}"
        train, evaluation = get("resources/train_seconds"), get("resources/evaluation_seconds")
        every, trained = get("resources/total_parameters"), get("resources/trainable_parameters")
        peft_type, peak = settings.get("peft_type", group.strategy).upper(), int(1e6 * get(MEMORY))
        step = int(float(settings.get("steps", 0)))
        last = {"step": step, "test accuracy": get(f"{data.home}/accuracy")}
        last |= {f"{split} {data.primary}": get(f"{split}/{data.primary}") for split in data.splits}
        last |= {"train loss": get("train/loss"), "train samples": int(get("resources/labels_used"))}
        versions = {f"{tag.removeprefix('version.')}-version": row[tag] for tag in VERSIONS}
        record = {
            "run_info": {
                "created_at": datetime.fromtimestamp(started / 1000, UTC).isoformat(timespec="seconds"),
                "total_time": train + evaluation,
                "experiment_name": name,
                "peft_branch": "",
                "train_config": settings
                | {"model_id": group.backbone, "seed": int(seed), "data_seed": int(draw)}
                | others,
                "peft_config": None if 0 < every <= trained else {"peft_type": peft_type},
                "error_msg": "",
            },
            "train_info": {
                "accelerator_memory_reserved_avg": int(1e6 * get("resources/average_memory_mb")),
                "accelerator_memory_max": peak,
                "accelerator_memory_reserved_99th": peak,
                "train_time": train,
                "file_size": int(1e6 * get("resources/adapter_mb")),
                "num_trainable_params": int(trained),
                "num_total_params": int(every),
                "status": "success",
                "metrics": [
                    {"step": step, "valid accuracy": get("validation/accuracy")},
                    last | {"train total tokens": int(get("resources/train_tokens"))},
                ],
            },
            "meta_info": {
                "model_info": {"sha": row["model_digest"], "created_at": None},
                "dataset_info": {data.task: {"sha": row["task_digest"], "created_at": None}},
                "package_info": versions | {"datasets-version": None, "bitsandbytes-version": None},
                "system_info": {},
            },
        }
        seeds = "".join(f"-{key.removesuffix('_seed')}{value}" for key, value in others.items())
        yield f"{anchor(name)}-seed{seed}-draw{draw}{seeds}.json", record


def _number(row: Mapping[Hashable, Any], metric: str) -> float:
    value = row.get(f"metric:{metric}", 0)
    return float(value) if value == value else 0


def _every_eval_ever(data: ReportData, group: RunGroup) -> Iterator[tuple[str, dict[str, Any]]]:
    """One file: a result for every split, the mean over runs with its interval."""
    metric, (least, most) = data.primary, RANGES.get(data.primary, (0, 1))
    moment = max((int(start) for start in group.runs["started"].dropna()), default=0) / 1000
    model = group.backbone if "/" in group.backbone else f"effft/{group.backbone}"
    about = {"strategy": group.strategy, "variant": group.variant, "examples": group.amount.examples}
    results = [
        {
            "evaluation_name": f"{data.task}: {split_title(split)}",
            "source_data": {"dataset_name": f"{data.task}/{split}", "source_type": "other"},
            "metric_config": {
                "evaluation_description": f"{metric}, mean over {stat.count} runs",
                "metric_id": metric,
                "metric_name": metric,
                "lower_is_better": metric == "mean_absolute_error",
                "score_type": "continuous",
                "min_score": least,
                "max_score": most,
            },
            "score_details": {"score": stat.mean, "uncertainty": {"num_samples": stat.count} | _ends(stat)},
        }
        for split in data.splits
        if (stat := group.score(split))
    ]
    identity = f"{data.task}/{model}/{group.variant}/{group.amount.name}/{moment:.0f}"
    record = {
        "schema_version": SCHEMA,
        "evaluation_id": identity,
        "evaluation_timestamp": datetime.fromtimestamp(moment, UTC).isoformat(),
        "retrieved_timestamp": f"{time.time():.0f}",
        "source_metadata": {
            "source_name": "effft",
            "source_type": "evaluation_run",
            "source_organization_name": "unknown",
            "evaluator_relationship": "other",
        },
        "eval_library": {"name": "effft", "version": __version__},
        "model_info": {
            "name": f"{group.backbone}, {group.variant}, {group.amount.examples}",
            "id": model,
            "additional_details": {"deployment_type": "self_deployed", "model_availability": "unknown", **about},
        },
        "evaluation_results": results,
    }
    digest = hashlib.sha256(identity.encode()).digest()
    place = "/".join(anchor(part) for part in (data.task, *model.split("/")))
    yield f"data/{place}/{uuid.UUID(bytes=digest[:16], version=4)}.json", record


def _ends(stat: Statistic) -> dict[str, Any]:
    if stat.low is None or stat.high is None:
        return {}
    how = {"confidence_level": 0.95, "method": "Student's t over seed x data_seed"}
    return {"confidence_interval": {"lower": stat.low, "upper": stat.high, **how}}


FORMS: dict[str, Callable[[ReportData, RunGroup], Iterator[tuple[str, dict[str, Any]]]]]
FORMS = {"peft": _peft, "eee": _every_eval_ever}
"""Name of a form -> what writes a group of runs in it."""


def imported(place: Path, task: str) -> list[StoredRun]:
    """Results of PEFT's method comparison as runs of a task; those that did not succeed are left out.

    Args:
        place: A file, or a folder of them.
        task: What they were measured on, in the words of this report.

    Raises:
        InputError: There is none, or one is no such file.
    """
    files = sorted(place.glob("*.json")) if place.is_dir() else [place]
    if not files:
        raise InputError(f"--import {place}: there is no file *.json in this folder.")
    return [run for file in files if (run := _run(file, task))]


def _run(file: Path, task: str) -> StoredRun | None:
    try:
        record = json.loads(read_text(file, "--import", LARGEST))
        about, train = record["run_info"], record["train_info"]
        if train["status"] != "success":
            return None
        *before, last = train["metrics"]
        settings, memory = about["train_config"], train.get("accelerator_memory_max", train.get("cuda_memory_max"))
        valid = next((one["valid accuracy"] for one in reversed(before) if "valid accuracy" in one), None)
        metrics = {
            "in_domain/accuracy": last["test accuracy"],
            "validation/accuracy": valid,
            "train/loss": last["train loss"],
            "resources/train_seconds": train["train_time"],
            "resources/peak_memory_mb": None if memory is None else memory / 1e6,
            "resources/adapter_mb": train["file_size"] / 1e6,
            "resources/trainable_parameters": train.get("num_trainable_params"),
            "resources/total_parameters": train.get("num_total_params"),
        }
        numbers = {key: float(value) for key, value in metrics.items() if value is not None}
        started = int(1000 * datetime.fromisoformat(about["created_at"]).timestamp())
        tags = {"task": task, "strategy": str(about["experiment_name"]), "backbone": str(settings["model_id"])}
        tags |= {"rows": str(int(last["train samples"])), "seed": str(int(settings.get("seed", 0)))}
        tags |= {"data_seed": str(int(settings.get("data_seed", 0))), "kind": IMPORTED}
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise InputError(
            f"--import {file}: it is no result of PEFT's method comparison with a test accuracy "
            f"({type(error).__name__}: {error}); give the files of its folder results/."
        ) from None
    params = {name: str(value) for name, value in settings.items() if not isinstance(value, dict | list)}
    finite = {key: value for key, value in numbers.items() if math.isfinite(value)}
    given = {name: params[name] for name in (column.partition(":")[2] for column in OTHER_SEEDS) if name in params}
    return StoredRun("", tags["strategy"], "FINISHED", started, finite, params, given, tags)
