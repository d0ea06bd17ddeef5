"""Everything a run writes, as a name and plain data: the same words reach a store now, or later from a file.

Each may be said twice without harm, so that a file of which a part has arrived can be sent whole.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

KEPT = "effft.kept_run"
"""Tag of a run that was begun while the store was away: its name in the recovery file."""

Data = dict[str, Any]


def _params(client: MlflowClient, run_id: str, data: Data) -> None:
    client.log_batch(run_id, params=[Param(key, value) for key, value in data.items()])


def _tags(client: MlflowClient, run_id: str, data: Data) -> None:
    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in data.items()])


def _metrics(client: MlflowClient, run_id: str, data: Data) -> None:
    client.log_batch(run_id, metrics=[Metric(*row) for row in data["rows"]])


def _dataset(client: MlflowClient, run_id: str, data: Data) -> None:
    profile, source = json.dumps({"num_rows": data["rows"]}), json.dumps({"uri": data["origin"]})
    what = Dataset(data["name"], data["digest"], "local", source, None, profile)
    given = [DatasetInput(what, [InputTag("mlflow.data.context", data["context"])])]
    try:
        client.log_inputs(run_id, given)
    except MlflowException as error:
        if not any(word in str(error) for word in ("IntegrityError", "UniqueViolation")):  # of sqlite; of PostgreSQL
            raise
        client.log_inputs(run_id, given)  # another process wrote the same data set in between; now it is found


def _text(client: MlflowClient, run_id: str, data: Data) -> None:
    client.log_text(run_id, data["content"], data["path"])


def _model(client: MlflowClient, run_id: str, data: Data) -> str:
    """The id of the model."""
    from effft.tracking.models import keep_model

    digests = {split: (name, digest) for split, (name, digest) in data["digests"].items()}
    return keep_model(client, run_id, Path(data["folder"]), data["metrics"], digests)


def _start(client: MlflowClient, run_id: str, data: Data) -> str:
    """A new run; returns its id. run_id: where it got one while the store was away, that is found again."""
    tags = dict(data["tags"])
    if run_id:
        words = f"tags.`{KEPT}` = '{run_id}'"
        found = client.search_runs([data["experiment"]], words, max_results=1)
        if found:
            return str(found[0].info.run_id)
        tags[KEPT] = run_id
    run = client.create_run(data["experiment"], data.get("time"), tags, data["name"])
    return str(run.info.run_id)


def _end(client: MlflowClient, run_id: str, data: Data) -> None:
    client.set_terminated(run_id, data["status"], data["time"])


OPERATIONS: Mapping[str, Callable[[MlflowClient, str, Data], str | None]] = {
    "start": _start,
    "params": _params,
    "tags": _tags,
    "metrics": _metrics,
    "dataset": _dataset,
    "text": _text,
    "model": _model,
    "end": _end,
}
"""What can be written -> how."""
