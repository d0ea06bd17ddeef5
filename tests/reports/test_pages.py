"""Every HTML file that the product writes draws its charts in a real browser, as MLflow keeps it."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient
from runs import log

from effft.cli.exit_codes import run_command_line
from effft.redaction import redact
from effft.search.plots import page as study_page
from effft.tracking.mlflow_tracker import MlflowTracker

CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
    "--disable-features=IsolateSandboxedIframes",
    "--virtual-time-budget=8000", "--enable-logging=stderr", "--dump-dom",
)  # fmt: skip
PASSWORD = "hf_" + "S3cret" * 4

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here to open the pages in")


def dump(page: Path, profile: Path) -> str:
    """The document as the browser leaves it; a console error, also in a frame, fails."""
    words = [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", page.as_uri()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    errors = [line for line in done.stderr.splitlines() if "CONSOLE" in line and re.search("Error|Refused", line)]
    assert errors == []
    return done.stdout


def drawn(page: Path, profile: Path) -> int:
    """How many charts plotly drew: opened alone, and in a sandboxed frame as MLflow's artifact view shows a page."""
    assert "Content-Security-Policy" in page.read_text()
    alone = len(re.findall(r'class="[^"]*\bjs-plotly-plot\b', dump(page, profile)))
    count = "document.querySelectorAll('.js-plotly-plot .main-svg:first-of-type').length"
    told = f"{page.read_text()}<script>setInterval(() => parent.postMessage({count}, '*'), 200)</script>"
    text, view = json.dumps(told).replace("<", "\\u003c"), page.with_name("view.html")
    view.write_text(
        "<!doctype html><body><script>addEventListener('message', (told) => (document.body.dataset.drawn = told.data));"
        "const frame = document.createElement('iframe'); frame.sandbox = 'allow-scripts';"
        f"frame.srcdoc = {text}; document.body.append(frame);</script>"
    )
    framed = re.search(r'data-drawn="(\d+)"', dump(view, profile))
    assert framed is not None
    assert int(framed[1]) == alone
    return alone


def test_the_report_among_the_artifacts_draws_every_chart(tracking_uri: str, tmp_path: Path) -> None:
    client = MlflowClient(tracking_uri)
    home = str(client.create_experiment("effft/agreement"))
    for strategy in ("lora", "vanilla"):
        for seed in (0, 1):
            for count in (8, 32):
                log(client, home, strategy, seed, task="agreement", per_label=count, backbone=f"m {PASSWORD}")
    out = tmp_path / "out"
    assert run_command_line(["report", "--out", str(out), "--tracking-uri", tracking_uri]) == 0
    run = client.search_runs([home], "tags.kind = 'report'")[0]
    kept = Path(client.download_artifacts(run.info.run_id, "report/report.html", str(tmp_path)))
    assert kept.read_bytes() == (out / "report.html").read_bytes(), "MLflow keeps the page as it was made"
    charts = drawn(kept, tmp_path / "profile")
    assert charts == len(re.findall('<div class="plot', kept.read_text())) >= 6
    for name in ("report.html", "report.md", "runs.csv", "results.csv", "differences.csv"):
        assert PASSWORD not in (out / name).read_text(), f"{name} holds a secret"
    assert all(PASSWORD not in path.read_text() for path in out.glob("*.svg"))


def test_the_page_of_a_study_among_the_artifacts_draws_its_charts(tracking_uri: str, tmp_path: Path) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(0))
    study.optimize(lambda trial: -((trial.suggest_float("x", 0, 1) - 0.3) ** 2) + trial.suggest_int("n", 1, 3), 8)
    tracker = MlflowTracker.open("effft/agreement", "study", {}, tracking_uri)
    tracker.text("study.html", study_page(study))
    tracker.close()
    client = MlflowClient(tracking_uri)
    kept = Path(client.download_artifacts(tracker.run_id, "study.html", str(tmp_path)))
    assert redact(kept.read_text()) != kept.read_text(), "a filter of the whole page would change plotly's code"
    assert drawn(kept, tmp_path / "profile") >= 3
