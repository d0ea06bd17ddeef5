"""Other spellings of a configuration: a data set as the task, an adapter_config.json as type and options."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from effft.disk import read_text
from effft.errors import InputError

DATA_FILE = re.compile(r"(hf://.*|.*\.(csv|tsv|txt|jsonl|parquet)(\.gz)?)", re.IGNORECASE)
"""What is data also where it is given as a task."""

HUB_DATA = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?(@[\w.-]+)?(:[\w.-]+)?")
FILE_ENDING = re.compile(r"\.[A-Za-z]\w*$")


def data_address(name: str) -> str:
    """A name without the ending of a file is a data set of the hub: 'imdb' -> 'hf://datasets/imdb'."""
    is_hub = HUB_DATA.fullmatch(name) and not FILE_ENDING.search(name)
    return f"hf://datasets/{name}" if is_hub else name


def with_data(given: dict[str, Any], usual: str, data_fields: Sequence[str]) -> dict[str, Any]:
    """`data` is the task too, and data given as the task is data, so that both spellings are the same run.

    usual: the default task.
    """
    task = str(given.get("task", usual))
    data = data_address(str(given.get("data") or (task if DATA_FILE.fullmatch(task) else "")))
    if data and task not in (usual, data, given.get("data")):  # `mlflow run` names the usual task where none was given
        raise InputError(f"task={task} and data={data}: give one of the two (flags --task and --data).")
    for name in data_fields if not data else ():
        if name in given:
            raise InputError(
                f"{name}={given[name]}: it belongs to --data FILE; a task names its own columns and files."
            )
    return {**given, "task": data, "data": data} if data else given


BOOKKEEPING = (
    "peft_type", "peft_version", "task_type", "inference_mode", "revision", "base_model_name_or_path", "auto_mapping",
)  # fmt: skip
"""What an adapter_config.json says of the adapter that it was written with, not of how to make one."""


def with_peft(given: dict[str, Any]) -> dict[str, Any]:
    """`peft_config` as the type and the options in that file, so that a run does not depend on where it lies.

    Raises:
        InputError: no such file, no JSON, no type in it, or type or options are given too.
    """
    if "peft_config" not in given:
        return given
    rest = {name: value for name, value in given.items() if name != "peft_config"}
    path = Path(str(given["peft_config"])).expanduser()
    for name in ("peft_type", "peft_options"):
        if name in rest:
            raise InputError(f"{name} and peft_config={path}: the file says both the type and the options; give one.")
    text = read_text(path, "peft_config")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict) or not isinstance(values.get("peft_type"), str):
        raise InputError(
            f"peft_config={path}: this is no adapter_config.json of peft's, a JSON object that names peft_type."
        )
    options = {name: value for name, value in values.items() if name not in BOOKKEEPING and value is not None}
    return {**rest, "peft_type": values["peft_type"], "peft_options": options}
