"""Every HTML file that the product writes draws its charts in a real browser, as MLflow keeps it."""

import re
import subprocess
from pathlib import Path

import optuna
import pytest
from browser import CHROMIUM, FLAGS, counts_in_frames
from mlflow import MlflowClient
from runs import log

from effft.cli.exit_codes import run_command_line
from effft.redaction import redact
from effft.search.plots import page as study_page
from effft.tracking.mlflow_tracker import MlflowTracker
from tests.reliability.servers import serving

DUMP = ("--virtual-time-budget=8000", "--enable-logging=stderr", "--dump-dom")
PASSWORD = "hf_" + "S3cret" * 4

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here to open the pages in")


def dump(page: Path, profile: Path) -> str:
    """The document as the browser leaves it; a console error, also in a frame, fails."""
    words = [str(CHROMIUM), *FLAGS, *DUMP, f"--user-data-dir={profile}", page.as_uri()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    errors = [line for line in done.stderr.splitlines() if "CONSOLE" in line and re.search("Error|Refused", line)]
    assert errors == []
    return done.stdout


def drawn(page: Path, profile: Path) -> int:
    """How many charts plotly drew."""
    assert "Content-Security-Policy" in page.read_text()
    return len(re.findall(r'class="[^"]*\bjs-plotly-plot\b', dump(page, profile)))


def log_runs(client: MlflowClient) -> str:
    """Runs that a report has charts of; returns their experiment."""
    home = str(client.create_experiment("effft/agreement"))
    for strategy in ("lora", "vanilla"):
        for seed in (0, 1):
            for count in (8, 32):
                log(client, home, strategy, seed, task="agreement", per_label=count, backbone=f"m {PASSWORD}")
    return home


def some_study() -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(0))
    study.optimize(lambda trial: -((trial.suggest_float("x", 0, 1) - 0.3) ** 2) + trial.suggest_int("n", 1, 3), 8)
    return study


def test_the_report_among_the_artifacts_draws_every_chart(tracking_uri: str, tmp_path: Path) -> None:
    client = MlflowClient(tracking_uri)
    home = log_runs(client)
    out = tmp_path / "out"
    assert run_command_line(["report", "--out", str(out), "--tracking-uri", tracking_uri]) == 0
    run = client.search_runs([home], "tags.kind = 'report'")[0]
    kept = Path(client.download_artifacts(run.info.run_id, "report/report.html", str(tmp_path)))
    assert kept.read_bytes() == (out / "report.html").read_bytes(), "MLflow keeps the page as it was made"
    charts = dump(kept, tmp_path / "profile").count('<svg viewBox="0 0')
    assert charts == kept.read_text().count('<div class="plot') >= 3
    for name in ("report.html", "report.md", "runs.csv", "results.csv", "differences.csv"):
        assert PASSWORD not in (out / name).read_text(), f"{name} holds a secret"
    assert all(PASSWORD not in path.read_text() for path in out.glob("*.svg"))


def test_the_page_of_a_study_among_the_artifacts_draws_its_charts(tracking_uri: str, tmp_path: Path) -> None:
    tracker = MlflowTracker.open("effft/agreement", "study", {}, tracking_uri)
    tracker.text("study.html", study_page(some_study()))
    tracker.close()
    client = MlflowClient(tracking_uri)
    kept = Path(client.download_artifacts(tracker.run_id, "study.html", str(tmp_path)))
    assert redact(kept.read_text()) != kept.read_text(), "a filter of the whole page would change plotly's code"
    assert drawn(kept, tmp_path / "profile") >= 3


@pytest.mark.slow
def test_kind_9_mlflows_own_artifact_view_draws_every_chart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with serving(tmp_path) as server:
        client = MlflowClient(server.uri)
        home = log_runs(client)
        assert run_command_line(["report", "--out", "out", "--tracking-uri", server.uri]) == 0
        run = client.search_runs([home], "tags.kind = 'report'")[0].info.run_id
        client.log_text(run, study_page(some_study()), "study.html")
        view = f"{server.uri}/#/experiments/{home}/runs/{run}/artifacts"
        addresses = [f"{view}/report/report.html", f"{view}/study.html"]
        selector = ".plot > svg, .js-plotly-plot .main-svg:first-of-type"
        drawn, errors = counts_in_frames(addresses, selector, tmp_path / "profile")
    assert errors == []
    assert drawn[0] == (tmp_path / "out" / "report.html").read_text().count('<div class="plot') >= 3
    assert drawn[1] >= 3
