"""A named view of an experiment's runs table: strategies side by side with the columns that compare them.

MLflow 3.17 shows Source, Models and Dataset in the runs table, whatever an experiment's tags say. But it keeps named
views as tags of the experiment, lists them under "Views" and opens one by its address; so the view can be written here.
"""

import json
import time
from collections.abc import Sequence

from mlflow import MlflowClient

from effft.tracking.experiments import tag_experiment
from effft.tracking.store import every

PREFIX = "mlflow.sharedViewState."
LONGEST = 5000  # Characters that MLflow takes in a tag of an experiment.
COSTS = ("peak_memory_mb", "train_seconds")


KINDS = [f"tags.kind != '{kind}'" for kind in ("trial", "study", "choice", "average", "control")]
"""What is no run of a strategy, though it has the strategy's name."""


def save_view(
    client: MlflowClient, experiment_id: str, task: str, metric: str, sets: Sequence[str], home: str = "in_domain"
) -> str:
    """Write the view of a task; return its address in the UI. One that a person saved over is left as it is.

    metric: the primary one; sets: the OOD sets, as many as there is room for. home: the split in domain.
    """
    key = f"effft-{task}"
    address = f"#/experiments/{experiment_id}/runs?viewStateShareKey={key}&workflowType=machine_learning"
    known = client.get_experiment(experiment_id).tags.get(PREFIX + key, "")
    for count in range(len(sets), -1, -1):
        state = json.dumps(_state(task, metric, sets[:count], home))
        if known and not _may_replace(known, state):
            break
        now = int(time.time() * 1000)
        name = f"strategies side by side: {task}"
        text = json.dumps({"name": name, "createdAt": now, "updatedAt": now, "state": state})
        if len(text) <= LONGEST:
            tag_experiment(client, experiment_id, PREFIX + key, text)
            break
    return address


def _may_replace(known: str, state: str) -> bool:
    """Whether a view is ours, untouched, and says something else."""
    try:
        old = json.loads(known)
        return bool(old["createdAt"] == old["updatedAt"] and old["state"] != state)
    except (ValueError, KeyError, TypeError):
        return True


def _state(task: str, metric: str, sets: Sequence[str], home: str) -> dict[str, object]:
    """What MLflow's page stores: filter, order, columns."""
    splits = ["validation", home, *(f"ood/{name}" for name in sets)]
    metrics = [f"{split}/{metric}" for split in splits] + [f"ood/{name}/gap" for name in sets]
    metrics += [f"resources/{name}" for name in COSTS]
    columns = [
        "tags.`strategy`",
        "tags.`per_label`" if home == "in_domain" else "tags.`rows`",
        *(f"metrics.`{name}`" for name in metrics),
    ]
    return {
        "searchFilter": " and ".join([f"tags.task = '{task}'", "tags.strategy != ''", *KINDS]),
        "orderByKey": f"metrics.`{home}/{metric}`",
        "orderByAsc": False,
        "selectedColumns": columns,
    }


def pages(client: MlflowClient) -> list[tuple[str, str]]:
    """Name and address in the UI of every experiment of ours: its side-by-side view, or its runs."""
    addresses = []
    for experiment in every(client.search_experiments, filter_string="name LIKE 'effft/%'", order_by=["name ASC"]):
        keys = [key.removeprefix(PREFIX) for key in experiment.tags if key.startswith(f"{PREFIX}effft-")]
        for view in [f"viewStateShareKey={key}&" for key in keys] or [""]:
            address = f"#/experiments/{experiment.experiment_id}/runs?{view}workflowType=machine_learning"
            addresses.append((experiment.name, address))
    return addresses
