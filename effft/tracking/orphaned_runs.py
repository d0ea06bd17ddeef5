"""Runs whose process lives no more: a kill -9 leaves them RUNNING, and the next start ends them."""

import socket
from typing import Any

from mlflow import MlflowClient

from effft.tracking.provenance import is_dead


def close_orphaned_runs(client: MlflowClient) -> int:
    """End RUNNING runs of processes of this host that live no more as KILLED; return how many."""
    ours = f"attributes.status = 'RUNNING' and tags.`effft.host` = '{socket.gethostname()}'"
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    dead, token = [], None
    while ids:
        page: Any = client.search_runs(ids, ours, max_results=1000, page_token=token)
        dead += [run.info.run_id for run in page if is_dead(run.data.tags)]
        token = page.token
        if not token:
            break
    for run_id in dead:
        client.set_terminated(run_id, "KILLED")
    return len(dead)
