"""The report of real runs in a real store: what it says, what it refuses to mix, and that it holds any text."""

import asyncio
import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from browser import CHROMIUM, opened_tab
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from runs import InMemory, log, stored

from effft.cli.app import app
from effft.cli.compare import again, compare
from effft.errors import InputError, RunError
from effft.evaluation.metric_keys import headlines, to_table
from effft.evaluation.statistics import front, holm, interval, sign_flip
from effft.reports.blocks import Table
from effft.reports.page import markdown_blocks, shade
from effft.reports.report import Report, build, portable
from effft.tracking.reading import RunReader
from effft.tracking.sanitize import table_json
from effft.tracking.tracker import GIVEN_TAG, METRICS_TAG

EVIL = '<img src=x onerror="document.title=1"><script>document.title=2</script>'


def report(client: MlflowClient) -> Report:
    return build(RunReader(client), "dogs")


def test_it_has_every_part(client: MlflowClient, home: str) -> None:
    for per_label in (8, 32):
        for strategy in ("lora", "vanilla", "icl"):
            for seed in (0, 1, 2):
                for draw in (0, 1):
                    log(client, home, strategy, seed, draw, per_label=per_label)
    made = report(client)
    names = {"report.html", "report.md", "runs.csv", "results.csv", "differences.csv"}
    assert names <= set(made.files)
    text = made.files["report.md"]
    for words in ("In short", "**Use.**", "**As good.**", "majority", "chance", "gap", "pairs each"):
        assert words in text
    page = made.files["report.html"]
    assert all(word in page for word in ("Learning curves", "Slices", "trainable parameters", "prefers-color-scheme"))
    assert "'unsafe" not in page
    assert set(re.findall(r"https?://[\w.:]+", page)) == {"http://www.w3.org", "http://127.0.0.1:5000"}
    rows = list(csv.DictReader(io.StringIO(made.files["results.csv"])))
    lora = next(r for r in rows if (r["strategy"], r["split"], r["per_label"]) == ("lora", "in_domain", "8"))
    assert float(lora["mean"]) == pytest.approx(0.6 + 0.01 + 0.0015 + 0.04)
    assert float(lora["low"]) < float(lora["mean"]) < float(lora["high"])
    assert lora["distinct_runs"] == "6"
    assert len(list(csv.DictReader(io.StringIO(made.files["runs.csv"])))) == 36


@pytest.mark.slow
def test_a_ring_is_explained_only_where_one_is_drawn(client: MlflowClient, home: str) -> None:
    for seed in range(5):
        log(client, home, "lora", seed, seed)
    text = report(client).files["report.md"]
    assert "A ring is" not in text
    assert "5 pairs of a seed and a draw of the shots" in text
    log(client, home, "lora", 5, 5, score=0.2)
    assert "A ring is" in report(client).files["report.md"]


def test_the_differences_of_a_table_are_counted_in_it(client: MlflowClient, home: str) -> None:
    for strategy in ("lora", "vanilla", "probe"):
        for seed in (0, 1):
            log(client, home, strategy, seed)
    text = report(client).files["report.md"]
    assert "2 seeds and 1 draw of the shots" in text
    for place in ("in domain", "ood/far"):
        assert re.search(f"{place}, 8 examples per label. 0 of 3 differences hold at 0.05 after .* over all 6, 2", text)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_slices_are_red_below_the_middle_and_blue_above_it(one: float, other: float, middle: float) -> None:
    low, high = sorted((one, other))
    assert 0 <= shade(low, middle) <= shade(high, middle) <= 10
    assert shade(middle, middle) == 5
    assert (shade(low, middle) - 5) * (low - middle) >= 0


def test_slices_stand_beside_the_most_frequent_label(client: MlflowClient, home: str) -> None:
    for seed in (0, 1):
        log(client, home, "lora", seed)
    text = report(client).files["report.md"]
    assert "the most frequent label of the split has 0.500: red below it, blue above." in text
    assert "On the whole split" not in text


NAMES = st.from_regex(r"[\w.-]+", fullmatch=True).filter(lambda name: set(name) != {"."})  # . and .. name no folder


@given(st.sampled_from(["sqlite:///", ""]), st.lists(NAMES, min_size=1, max_size=3))
def test_a_page_names_no_folder_of_the_machine(kind: str, parts: list[str]) -> None:
    elsewhere, here = f"/{'/'.join(['data', *parts])}", f"{Path.cwd()}/{'/'.join(parts)}"
    wanted = f"effft compare --preset {kind}{Path(elsewhere).name} --seed 1/2"
    assert portable(f"effft compare --preset {kind}{elsewhere} --seed 1/2") == wanted
    assert (
        portable(f"x --tracking-uri {kind}{here}") == f"x --tracking-uri {kind}{'/'.join(map(str, Path(*parts).parts))}"
    )
    assert portable("x --tracking-uri http://host:5000/a") == "x --tracking-uri http://host:5000/a"


def test_memory_stands_on_an_axis_that_says_that_it_is_logarithmic() -> None:
    costs = {"lora": 68.0, "vanilla": 342.0}
    runs = [stored(name, 0, resources__peak_memory_mb=cost) for name, cost in costs.items()]
    still = build(InMemory(runs), "dogs").files["cost-m-peak-memory-mb.svg"]
    assert "peak memory (MB), logarithmic" in still
    assert len(re.findall(r'<g id="xtick_', still)) >= 4


@pytest.mark.slow
def test_unlike_things_are_never_averaged(client: MlflowClient, home: str) -> None:
    log(client, home, "lora", 0, backbone="one")
    log(client, home, "lora", 1, backbone="two")
    log(client, home, "lora", 2, backbone="two", rank="4")
    log(client, home, "vanilla", 0, task="cats")
    log(client, home, "vanilla", 1, status="FAILED")
    log(client, home, "vanilla", 2, status="RUNNING")
    log(client, home, "probe", 0, bare=1)
    made = report(client)
    rows = [r for r in csv.DictReader(io.StringIO(made.files["results.csv"])) if r["split"] == "in_domain"]
    assert len(rows) == 3
    said = " ".join(made.warnings)
    told = ("2 backbones", "different settings", "of another task", "failed", "not ended yet", "without in_domain")
    assert [words for words in told if words not in said] == []
    assert made.runs == 3


def test_copies_and_leaks_are_faults(client: MlflowClient, home: str) -> None:
    pool = "6 examples of in_domain also stand in train and are left out"
    for seed in (0, 1, 2):
        log(client, home, "lora", seed, score=0.7, notes=f"3 of the training texts also occur in ood/far.\n{pool}.")
    log(client, home, "vanilla", 0)
    log(client, home, "vanilla", 1)
    log(client, home, "probe", 1)
    made = report(client)
    said = " ".join(made.warnings)
    assert "2 runs have exactly the results of another run" in said
    assert "Training texts also occur in ood/far, in 3 runs" in said
    assert said.count(f"{pool}.") == 1
    assert "seeds that others have are missing for probe (1)" in said
    row = next(r for r in csv.DictReader(io.StringIO(made.files["results.csv"])) if r["strategy"] == "lora")
    assert row["distinct_runs"] == "1"


def test_what_is_at_or_below_chance_is_a_warning(client: MlflowClient, home: str) -> None:
    log(client, home, "lora", score=0.5)
    log(client, home, "vanilla", score=0.4)
    log(client, home, "probe", score=0.7)
    said = " ".join(report(client).warnings)
    assert "In domain at chance: lora at 8 per label. Too few examples" in said
    assert "In domain below chance: vanilla at 8 per label." in said


@pytest.mark.slow
def test_other_weights_or_data_of_the_same_name_are_never_averaged(client: MlflowClient, home: str) -> None:
    for digest in ("1" * 16, "2" * 16):
        for seed in (0, 1):
            log(client, home, "lora", seed, score=0.6 + int(digest[0]) / 10, task_digest=digest, model_digest=digest)
    made = report(client)
    rows = [r for r in csv.DictReader(io.StringIO(made.files["results.csv"])) if r["split"] == "in_domain"]
    assert {r["backbone"]: r["mean"] for r in rows} == {
        f"m (task {d * 8}) (weights {d * 8})": str(0.6 + int(d) / 10) for d in "12"
    }
    assert "2 backbones (m (task 11111111) (weights 11111111)" in " ".join(made.warnings)


def test_a_report_is_written_whole_or_not_at_all(client: MlflowClient, home: str, tmp_path: Path) -> None:
    log(client, home, "lora")
    made = report(client)
    made.write(tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert set(before) == set(made.files)
    with pytest.raises(RunError, match="cannot be written"):
        replace(made, files={**dict.fromkeys(made.files, "new"), "report.md/no-folder.csv": ""}).write(tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_still_figures_are_the_same_bytes_every_time(client: MlflowClient, home: str) -> None:
    for seed in (0, 1):
        log(client, home, "lora", seed, backbone="$m$ & <b>")
    one, other = report(client).files, report(client).files
    stills = [name for name in one if name.endswith(".svg")]
    assert len(stills) == 2
    assert all(one[name] == other[name] and "<b>" not in one[name] for name in stills)


def test_nothing_to_report_is_said(client: MlflowClient, home: str, tracking_uri: str) -> None:
    assert "No finished run" in report(client).files["report.html"]
    log(client, home, "lora", status="RUNNING")
    assert "not ended yet" in report(client).files["report.md"]
    with pytest.raises(InputError, match="Did you mean 'effft/dogs'"):
        build(RunReader(client), "dog")


KEYS = """(() => {
  const all = [...document.querySelectorAll("a[href], button, summary, select, input, [tabindex='0']")];
  const reachable = all.filter((e) => e.checkVisibility());
  const shown = (e) => document.activeElement === e && getComputedStyle(e).outlineStyle !== "none";
  return [reachable.length, reachable.filter((e) => { e.focus(); return !shown(e); }).map((e) => e.outerHTML)];
})()"""
"""Goes through everything that a keyboard reaches: it takes the focus, and shows it."""


def test_text_stays_text_in_a_real_browser(client: MlflowClient, home: str, tmp_path: Path) -> None:
    for seed in (0, 1):
        log(client, home, "lora", seed, backbone=EVIL)
        log(client, home, "vanilla", seed, backbone=EVIL)
        log(client, home, "lora", seed, backbone=EVIL, settings={"resolved.overlap_strength": 0, "overlap_strength": 0})
    client.update_run(log(client, home, "probe", status="FAILED"), name=EVIL)
    parent = client.create_run(
        home, tags={"kind": "study", "task": "dogs", "study": EVIL, "strategy": EVIL}
    ).info.run_id
    client.log_param(parent, "model", EVIL)
    client.log_metric(parent, "importance/rank", 1.0)
    own = {"kind": "trial", "optuna.trial": "0", "trial.state": "complete", "mlflow.parentRunId": parent}
    trial = client.create_run(home, tags=own).info.run_id
    client.log_batch(trial, [Metric("validation/accuracy", 0.5, 0, 0)], [Param("rank", EVIL)])
    made = report(client)
    assert "<script>document.title" not in made.files["report.html"]
    assert "<img" not in made.files["report.md"]
    if CHROMIUM is None:
        pytest.skip("no chromium here to open the page in")
    page = made.write(tmp_path / "out")

    async def visit() -> None:
        async with opened_tab(tmp_path / "profile") as tab:
            await tab.open(page)
            assert (await tab.run("document.title")).startswith("dogs: which strategy")
            assert await tab.run("document.querySelectorAll('img').length") == 0
            assert await tab.run("document.querySelectorAll('.plot svg').length") >= 3
            count, blind = await tab.run(KEYS, userGesture=False)
            assert (count > 10, blind) == (True, [])
            assert tab.told == []
            await tab.run("document.head.append(Object.assign(document.createElement('script'), {text: '1'}))")
            assert "Content Security Policy" in tab.told[0], "no script but ours may run"

    asyncio.run(visit())


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_never_lowers_and_keeps_order(values: list[float]) -> None:
    found = holm(values)
    assert all(f >= v or f == 1 for f, v in zip(found, values, strict=True))
    pairs = sorted(zip(values, found, strict=True))
    assert [f for _, f in pairs] == sorted(f for _, f in pairs)


@settings(max_examples=30)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=8))
def test_a_permutation_test_is_symmetric(values: list[float]) -> None:
    array = np.array(values)
    assert sign_flip(array) == pytest.approx(sign_flip(-array))
    assert 0 < sign_flip(array) <= 1


def test_statistics_known_by_hand() -> None:
    assert sign_flip(np.ones(5)) == 2 / 32
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert front([1, 2, 3, 4], [5, 4, 6, 6]) == [0, 2]
    low, high = interval(np.array([1.0, 1, 1, 1]), np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])) or (0, 0)
    assert (low, high) == (1, 1)


def test_the_command_writes_and_keeps_it(client: MlflowClient, home: str, tracking_uri: str, tmp_path: Path) -> None:
    task = tmp_path / "dogs.yaml"
    task.write_text("name: dogs\nfields: [t]\nlabels: [a, b]\ntrain: {file: x.csv}\nin_domain: {file: x.csv}\n")
    log(client, home, "lora")
    words = ["report", "--task", str(task), "--out", str(tmp_path / "out"), "--tracking-uri", tracking_uri]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out" / "report.html").is_file()
    assert f"side by side in the UI: http://127.0.0.1:5000/#/experiments/{home}/runs?" in done.output
    run = client.search_runs([home], "tags.kind = 'report'")[0]
    kept = {a.path for a in client.list_artifacts(run.info.run_id, "report")}
    assert {"report/report.html", "report/report.md", "report/runs.csv"} <= kept
    assert "artifacts/report/report.html" in run.data.tags["mlflow.note.content"]
    assert f"(#/experiments/{home}/runs?viewStateShareKey=effft-dogs" in run.data.tags["mlflow.note.content"]


@pytest.mark.slow
def test_slices_and_intervals_come_from_the_table_of_metrics_to_the_bit(client: MlflowClient, home: str) -> None:
    """Runs of today keep them in an artifact, older ones among their metrics: the report is the same."""
    for seed in (0, 1):
        log(client, home, "lora", seed)
    old = build(RunReader(client), "dogs").files
    for run in client.search_runs([home]):
        client.delete_run(run.info.run_id)
        known = {k.replace("_bytes", "_mb"): v / 1e6 if "_bytes" in k else v for k, v in run.data.metrics.items()}
        params = {key.removeprefix("resolved."): value for key, value in run.data.params.items()}
        tags = {k: v for k, v in run.data.tags.items() if not k.startswith("mlflow.")}
        tags |= {GIVEN_TAG: "{}", METRICS_TAG: "metrics.json"}
        new = client.create_run(home, run.info.start_time, tags, run.info.run_name).info.run_id
        shown = [Metric(key, value, 0, 0) for key, value in headlines(known, "accuracy").items()]
        assert not [metric for metric in shown if "slice" in metric.key]
        client.log_batch(new, shown, [Param(*pair) for pair in params.items()])
        client.log_text(new, table_json(to_table(known)), "metrics.json")
        client.set_terminated(new)
    made = build(RunReader(client), "dogs").files
    for name in ("report.md", "results.csv"):
        assert made[name] == old[name]
    assert "slice/length.long/accuracy" in made["runs.csv"]


@pytest.mark.slow
def test_a_command_with_a_password_stands_nowhere() -> None:
    words = "effft compare --tracking-uri postgresql://me:hunter22@host/db"
    files = build(InMemory([stored("lora", 0)]), "dogs", command=words).files
    assert "effft compare --tracking-uri postgresql://" in files["report.md"]
    assert not [name for name, text in files.items() if "hunter22" in text]
    with compare.make_context("compare", words.split()[2:]):
        assert "hunter22" not in again()


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_a_line_end_in_a_text_ends_no_row_of_a_table(end: str) -> None:
    (line,) = markdown_blocks([Table(("a",), [(f"b{end}c",)])]).splitlines()[2:]
    assert line.startswith("| b")


def test_an_experiment_may_be_called_anything(client: MlflowClient) -> None:
    for name in ("it's", 'a"b', 'it\'s a "b"'):
        log(client, str(client.create_experiment(name)), "lora")
        assert len(RunReader(client).runs_of(name)) == 1
