"""The page in a real browser: what a click does, at every width, and that its numbers stand in the files beside it."""

import asyncio
import csv
import io
import json
import re
import subprocess
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, Tab, opened_tab
from runs import InMemory, stored

from effft.reports.report import Report, build
from effft.tracking.reading import StoredRun

STRATEGIES = ("vanilla", "pbft", "adaptive", "lora", "bitfit", "probe", "context_distillation", "icl")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here to open the pages in")


@pytest.fixture(scope="module")
def report() -> Report:
    weak = {"in_domain__accuracy": 0.48, "validation__accuracy": 0.1}
    runs = [
        stored(s, seed, draw, n, **(weak if s == "icl" else {}))
        for s in STRATEGIES
        for seed in range(3)
        for draw in range(2)
        for n in (8, 32)
    ]
    runs.append(stored("lora", 3, 0, 32, in_domain__accuracy=0.3))
    return build(InMemory(runs), "dogs", mlflow_url="http://127.0.0.1:5999")


Visit = Callable[..., Any]


@pytest.fixture
def visit(report: Report, tmp_path: Path) -> Visit:
    """Runs a coroutine with a tab that shows the page; nothing may have been told on its console at the end."""

    def show(act: Callable[[Tab], Coroutine[Any, Any, Any]], width: int = 1280, **more: Any) -> Any:
        page = report.write(tmp_path)

        async def opened() -> Any:
            async with opened_tab(tmp_path / "profile") as tab:
                await tab.open(page, width, **more)
                answer = await act(tab)
                assert tab.told == []
                return answer

        return asyncio.run(opened())

    return show


CHOOSE = """((s, v) => { s.value = v; s.dispatchEvent(new Event('change')); })(
  document.querySelectorAll('.bar select')[%d], %s)"""
TYPE = """((b, v) => { b.value = v; b.dispatchEvent(new Event('input')); })(
  document.querySelector('#results input'), %s)"""
HOVER = """document.querySelector('[data-chart=scores] .mark').dispatchEvent(
  new PointerEvent('pointermove', {clientX: 9, clientY: 9}))"""


def click(selector: str) -> str:
    return f"document.querySelector({json.dumps(selector)}).click()"


def test_every_click_does_what_it_says(visit: Visit) -> None:
    rows = "[...document.querySelectorAll('table.results tbody tr:not(.q):not(.detail)')].filter((r) => !r.hidden)"
    names = f"{rows}.map((r) => r.cells[0].textContent.trim())"

    async def act(tab: Tab) -> None:
        await tab.ask("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
        assert len(await tab.run(names)) == 8, "the largest number of examples alone"

        await tab.run(click(".chips [data-v=lora]"))  # highlight
        assert await tab.run("[...document.querySelectorAll('figure[data-chart] .series.on')].length") >= 3
        dim = "getComputedStyle(document.querySelector('.series:not(.on)')).opacity"
        assert float(await tab.run(dim)) < 0.5
        assert await tab.run("document.querySelector('tr[data-v=lora]').classList.contains('on')")
        await tab.run(click(".chips [data-v=lora]"))
        assert not await tab.run("document.documentElement.classList.contains('hl')")

        await tab.run(CHOOSE % (1, json.dumps("ood/far/accuracy")))  # switch the metric
        assert "far accuracy" in await tab.run("document.querySelector('[data-chart=trade] svg').ariaLabel")
        await tab.run(CHOOSE % (2, json.dumps("in_domain/accuracy")))
        label = await tab.run("document.querySelector('[data-chart=trade] svg').ariaLabel")
        assert label == "ood/far accuracy against in domain accuracy"
        await tab.run(CHOOSE % (0, json.dumps("8")))
        assert {await tab.run(f"{rows}[0].dataset.amount")} == {"8"}
        await tab.run(CHOOSE % (1, json.dumps("in_domain/accuracy")))
        assert "icl" in await tab.run("document.querySelector('.left-out').textContent")
        await tab.run(click(".check input"))
        assert not await tab.run("document.querySelector('.left-out')")

        await tab.run(TYPE % '"LO ra"')  # filter
        assert await tab.run(names) == ["lora"]
        await tab.run(TYPE % '""')

        before = await tab.run(names)
        await tab.run(click("table.results thead th button.sort"))  # sort
        assert await tab.run(names) == sorted(before)
        await tab.run("document.querySelectorAll('table.results thead button.sort')[3].click()")
        scores = await tab.run(f"{rows}.map((r) => parseFloat(r.cells[3].textContent))")
        assert scores == sorted(scores, reverse=True)

        await tab.run("[...document.querySelectorAll('#results .tools button')].at(-1).click()")  # copy
        await asyncio.sleep(0.2)
        assert "Copied" in await tab.run("document.querySelector('#results [role=status]').textContent")
        copied = list(csv.reader(io.StringIO(await tab.run("navigator.clipboard.readText()"))))
        assert copied[0][:2] == ["strategy", "per label"]
        assert len(copied) == 11, "the rows shown, with majority and chance"
        assert {len(row) for row in copied} == {len(copied[0])}

        shown = "[...document.querySelectorAll('table.results thead th')].filter((h) => !h.hidden).length"
        count = await tab.run(shown)
        await tab.run("[...document.querySelectorAll('#results details input')].find((b) => !b.checked).click()")
        assert await tab.run(shown) == count + 1  # choose columns

        await tab.run(click("tr[data-v=lora] button.fold"))  # unfold
        assert "learning rate" in await tab.run("document.querySelector('tr.detail .settings').textContent")
        link = await tab.run("document.querySelector('tr.detail a').href")
        assert re.fullmatch(r"http://127\.0\.0\.1:5999/#/runs/[0-9a-f]{32}", link)

        await tab.run(HOVER)
        assert re.search(r"\[0\.\d+, 0\.\d+\], n = \d", await tab.run("document.getElementById('tip').textContent"))

    visit(act)


@pytest.mark.parametrize(("width", "dark"), [(1600, False), (800, True), (420, False)])
def test_nothing_is_cut_off_at_any_width(visit: Visit, width: int, dark: bool) -> None:
    outside = """[...document.querySelectorAll('.plot text')].filter((t) => {
      const box = t.getBoundingClientRect(); return box.width && (box.left < -1 || box.right > innerWidth + 1);
    }).map((t) => t.textContent)"""

    async def act(tab: Tab) -> tuple[Any, ...]:
        wide = await tab.run("document.documentElement.scrollWidth <= innerWidth")
        if width < 600:  # on a phone no table is to be moved sideways, and a number has its name
            moved = "[...document.querySelectorAll('.wide')].filter((w) => w.scrollWidth > w.clientWidth + 1).length"
            named = "getComputedStyle(document.querySelector('tr[data-key] td'), '::before').content"
            assert (await tab.run(moved), await tab.run(named)) == (0, '"per label"')
        return wide, await tab.run(outside), await tab.run("document.querySelectorAll('.plot svg').length")

    assert visit(act, width, dark=dark) == (True, [], 4)


def test_without_a_script_the_tables_stand(visit: Visit) -> None:
    async def act(tab: Tab) -> Any:
        await tab.ask("Emulation.setScriptExecutionDisabled", value=True)
        await tab.ask("Page.reload")
        await asyncio.sleep(0.5)
        root = await tab.ask("DOM.getDocument", depth=-1)
        return json.dumps(root)

    text = visit(act)
    assert '"nodeName": "BUTTON"' not in text
    assert text.count('"nodeName": "TABLE"') >= 6
    assert '"hidden"' not in text


def test_any_number_on_the_page_stands_in_the_files_beside_it(report: Report, visit: Visit) -> None:
    tables = """[...document.querySelectorAll('main table')].map((t) => ({kind: t.classList[0],
      where: {...t.closest('.block').dataset}, heads: [...t.tHead.rows[0].cells].map((c) => c.textContent.trim()),
      rows: [...t.tBodies].flatMap((b) => [...b.rows]).filter((r) => !r.matches('.group')).map((r) => ({
        key: r.dataset.key || '', quiet: r.matches('.q'), cells: [...r.cells].map((c) => c.textContent.trim())}))}))"""

    async def act(tab: Tab) -> Any:
        told = "[...document.querySelectorAll('dd, #notes li, .left-out')].map((d) => d.textContent)"
        return await tab.run(tables), await tab.run(told)

    shown, sentences = visit(act)
    files = {name: list(csv.DictReader(io.StringIO(text))) for name, text in report.files.items() if "csv" in name}
    measures, everything = files["measures.csv"], [row for rows in files.values() for row in rows]
    compared = 0

    def check(text: str, rows: list[dict[str, str]]) -> None:
        nonlocal compared
        known = [float(v) for row in rows for v in row.values() if v and re.fullmatch(r"-?[\d.]+(e[-+]?\d+)?", v)]
        for token in re.findall(r"(?<![\w.])[-+]?[\d,]*\.?\d+(?:e[-+]?\d+)?(?!\w)", text):
            value = float(token.replace(",", ""))
            digits = len(token.partition(".")[2]) if "e" not in token else 0
            slack = 0.5001 * 10.0**-digits if "e" not in token else 0.01 * value
            if "%" in text or "FLOP" in text:
                slack = max(slack, 0.005 * abs(value))  # three significant digits
            assert any(abs(scale * abs(v) - abs(value)) <= slack for v in known for scale in (1, 100)), (token, text)
            compared += 1

    for table in shown:
        for row in table["rows"]:
            name, *cells = row["cells"]
            for head, cell in zip(table["heads"][1:], cells, strict=True):
                match table["kind"]:
                    case "results" if row["quiet"]:
                        check(cell, files["results.csv"])
                    case "results" if head != "remarks":
                        amount, _, variant = row["key"].split("|")
                        own = [m for m in measures if (m["per_label"], m["variant"]) == (amount, variant)]
                        check(cell, [*own, {"amount": amount}])
                    case "pairs":
                        pair = {name, head}
                        check(cell, [d for d in files["differences.csv"] if {d["one"], d["other"]} == pair])
                    case "slices" if head == "n":
                        check(cell, [m for m in measures if f".{name}/examples" in m["measure"]])
                    case "slices":
                        check(cell, [m for m in measures if m["variant"] == head and f".{name}/" in m["measure"]])
                    case "plain":
                        check(cell, everything)
    for sentence in sentences:
        for number in re.findall(r"[-+]?\d+\.\d+(?: %)?", sentence.replace("p < 0.05", "")):
            check(number, everything)
    assert compared > 300
    data = json.loads(report.files["report.html"].partition('id="data">')[2].partition("</script>")[0])
    by_run = {row["run_id"]: row for row in files["runs.csv"]}
    keys = [measure["key"] for measure in data["measures"]]
    for group in data["groups"]:
        own = {
            m["measure"]: m for m in measures if (m["variant"], m["per_label"]) == (group["variant"], group["amount"])
        }
        for key, stat in zip(keys, group["stats"], strict=True):
            written = [own[key][name] for name in ("value", "sd", "low", "high")] if stat else []
            assert [None if text == "" else float(text) for text in written] == (stat or [])[:4], key
        for run in group["runs"]:
            for key, value in zip(keys, run["values"], strict=True):
                assert (value is None) == (by_run[run["id"]].get(key, "") == "")
                assert value is None or value == float(f"{float(by_run[run['id']][key]):.6g}")


def odd_reports() -> dict[str, list[StoredRun]]:
    names, seeds = ("lora", "icl"), range(2)
    plain = [stored(name, seed) for name in names for seed in seeds]
    folds = {"cross_validated__accuracy": 0.7, "cross_validated__chance": 0.5, "cross_validated__majority": 0.6}
    return {
        "no run": [],
        "one run": plain[:1],
        "two backbones": [*plain, *(stored(name, seed, backbone="n|<b>&") for name in names for seed in seeds)],
        "no OOD set": [stored(name, seed, without="ood/") for name in names for seed in seeds],
        "no cost": [stored(name, seed, without="resources/") for name in names for seed in seeds],
        "no validation": [stored(name, seed, without="validation/") for name in names for seed in seeds],
        "out of fold": [stored(n, s, without="in_domain/", **folds) for n in names for s in seeds],
        "all at chance": [
            stored(n, s, in_domain__accuracy=0.4 + s / 100, ood__far__accuracy=0.4) for n in names for s in seeds
        ],
        "a name that is long": [stored("lora+pbft+" + "pattern" * 9, seed) for seed in seeds],
        "many numbers of examples": [stored(n, s, 0, 2**e) for n in names for s in seeds for e in range(1, 9)],
    }


@pytest.mark.slow
def test_odd_reports_open_without_a_fault(tmp_path: Path) -> None:
    outside = (
        "[...document.querySelectorAll('.plot text')].filter((t) => t.getBoundingClientRect().right > innerWidth + 1)"
    )

    async def visit() -> None:
        async with opened_tab(tmp_path / "profile") as tab:
            for name, runs in odd_reports().items():
                await tab.open(build(InMemory(runs), "dogs").write(tmp_path / name), 420)
                assert (name, tab.told) == (name, [])
                assert await tab.run("document.documentElement.dataset.ready") == "yes", name
                assert await tab.run(f"{outside}.length") == 0, name
                for place in range(await tab.run("document.querySelectorAll('.bar select').length")):
                    values = f"[...document.querySelectorAll('.bar select')[{place}].options].map((o) => o.value)"
                    for value in await tab.run(values):
                        await tab.run(CHOOSE % (place, json.dumps(value)))
                assert (name, tab.told) == (name, [])

    asyncio.run(visit())


@pytest.mark.slow
def test_five_thousand_runs_make_a_page_that_stays_small(tmp_path: Path) -> None:
    def made(count: int) -> Report:
        places = [(i % 10, i // 10 % 20, 8 * 2 ** (i // 200)) for i in range(count)]
        return build(InMemory([stored(strategy, *place) for place in places for strategy in STRATEGIES[:5]]), "dogs")

    assert len(made(50).files["report.html"].encode()) < 2e6
    begun = time.process_time()
    many = made(1000)
    assert many.runs == 5000
    assert time.process_time() - begun < 60
    page = many.write(tmp_path)

    async def opened() -> Any:
        async with opened_tab(tmp_path / "profile") as tab:
            await tab.open(page)
            took = await tab.run("performance.timing.domComplete - performance.timing.navigationStart")
            print(f"{took} ms")  # two seconds are allowed on an idle machine; nothing is timed in tests
            return await tab.run("[document.querySelectorAll('*').length, document.documentElement.dataset.ready]")

    assert len(many.files["report.html"].encode()) < 10e6
    elements, ready = asyncio.run(opened())
    assert (elements < 20_000, ready) == (True, "yes")


@pytest.mark.network
@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_no_serious_fault(visit: Visit, tmp_path: Path, dark: bool) -> None:
    done = subprocess.run(["npm", "pack", "axe-core"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    if done.returncode:
        pytest.skip(f"axe-core is not to be had: {done.stderr[-200:]}")
    subprocess.run(["tar", "xzf", done.stdout.split()[-1]], cwd=tmp_path, check=True)
    axe = (tmp_path / "package" / "axe.min.js").read_text()

    async def act(tab: Tab) -> Any:
        await tab.run(click("tr[data-v=lora] button.fold"))
        await tab.run(axe)
        return await tab.run("axe.run().then((r) => r.violations.map((v) => [v.impact, v.id, v.nodes[0].html]))")

    assert [fault for fault in visit(act, dark=dark) if fault[0] in ("serious", "critical")] == []
