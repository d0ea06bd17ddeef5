"""The view of the runs table: what MLflow's page reads from the tag."""

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest
from mlflow import MlflowClient
from runs import log

from effft.tracking.views import LONGEST, PREFIX, save_view

TAG = PREFIX + "effft-cola"


def test_it_lines_strategies_up(client: MlflowClient) -> None:
    address = save_view(client, "0", "cola", "mcc", ("cola_ood",))
    assert address.startswith("#/experiments/0/runs?viewStateShareKey=effft-cola")
    view = json.loads(client.get_experiment("0").tags[TAG])
    assert (type(view["name"]), type(view["createdAt"]), type(view["state"])) == (str, int, str)  # or it is not listed
    state = json.loads(view["state"])
    assert {"metrics.`in_domain/mcc`", "metrics.`ood/cola_ood/mcc`", "tags.`strategy`"} <= set(state["selectedColumns"])
    shown = [log(client, "0", "lora", task="cola", kind=kind) for kind in ("run", "final", "trial", "study", "control")]
    found = client.search_runs(["0"], state["searchFilter"], order_by=[f"{state['orderByKey']} DESC"])
    assert {run.info.run_id for run in found} == set(shown[:2])


def test_a_view_saved_over_by_hand_stays(client: MlflowClient) -> None:
    save_view(client, "0", "cola", "mcc", ())
    first = client.get_experiment("0").tags[TAG]
    save_view(client, "0", "cola", "mcc", ())
    assert client.get_experiment("0").tags[TAG] == first
    save_view(client, "0", "cola", "accuracy", ())
    other = json.loads(client.get_experiment("0").tags[TAG])
    assert "in_domain/accuracy" in other["state"]
    own = json.dumps(other | {"updatedAt": other["createdAt"] + 1})
    client.set_experiment_tag("0", TAG, own)
    save_view(client, "0", "cola", "mcc", ())
    assert client.get_experiment("0").tags[TAG] == own


def test_as_many_sets_as_a_tag_holds(client: MlflowClient) -> None:
    save_view(client, "0", "cola", "mcc", [f"a_rather_long_name_{n}" for n in range(200)])
    text = client.get_experiment("0").tags[TAG]
    assert 0.9 * LONGEST < len(text) <= LONGEST


@pytest.mark.slow
def test_mlflow_shows_it_in_a_real_browser(client: MlflowClient, tracking_uri: str, tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium here")
    log(client, "0", "lora", task="cola", kind="run")
    address = save_view(client, "0", "cola", "accuracy", ("far",))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = [sys.executable, "-m", "mlflow", "ui", "--port", str(port), "--backend-store-uri", tracking_uri]
    with (tmp_path / "ui.log").open("w") as out, subprocess.Popen(server, stdout=out, stderr=out) as process:
        try:
            for _ in range(120):
                with contextlib.suppress(OSError), urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                    break
                time.sleep(0.5)
            words = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
            words += [f"--user-data-dir={tmp_path}/profile", "--virtual-time-budget=30000", "--window-size=1900,900"]
            page = f"http://127.0.0.1:{port}/{address}"
            done = subprocess.run(
                [chromium, *words, "--dump-dom", page], capture_output=True, text=True, timeout=120, check=False
            )
        finally:
            process.terminate()
    assert "strategies side by side: cola" in done.stdout
    for name in ("in_domain/accuracy", "ood/far/accuracy", "resources/train_seconds", "lora 0"):
        assert name in done.stdout
