"""A report that is made again while a comparison runs."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path

import pytest
from runs import InMemory, stored

from effft.cli.live import PageServer, watch
from effft.reports.report import Report, build
from effft.tracking.reading import StoredRun


def store(ended: int, status: str = "RUNNING") -> InMemory:
    """A comparison of four runs, some of which have ended; the next one runs while the comparison does."""
    tags, begun = (
        {"kind": "comparison", "task": "dogs", "strategies": "lora,icl"},
        int(1000 * time.time()) - 600_000 * ended,
    )
    parent = StoredRun("p" * 32, "compare lora", status, begun, {}, {"runs": "4"}, {}, tags)
    runs = [stored("lora", seed) for seed in range(ended)]
    runs += [replace(stored("lora", 9), status="RUNNING", metrics={})] * (status == "RUNNING")
    return InMemory([parent, *(replace(r, tags={**r.tags, "mlflow.parentRunId": parent.run_id}) for r in runs)])


@pytest.mark.slow
def test_it_is_made_again_until_the_comparison_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stages = iter([store(1), store(3), store(4, "FINISHED")])
    pages: list[str] = []

    def make() -> Report:
        if pages:
            pages.append((tmp_path / "report.html").read_text())
        report = build(next(stages), "dogs", refresh=5)
        pages.append(report.files["report.md"])
        return report

    last = watch(make, tmp_path, 0)
    assert "compare lora: 1 of 4 runs have ended, 1 run now; about 30 minutes left." in pages[0]
    assert '<meta http-equiv="refresh" content="5">' in pages[1]
    assert "compare lora: 3 of 4 runs have ended, 1 run now; about 10 minutes left." in pages[2]
    assert "| lora | 3 ended, 1 run now |\n| icl | - |" in pages[2], "what is planned has an empty cell"
    assert "Under way" not in last.files["report.md"]
    assert 'http-equiv="refresh"' not in last.files["report.html"]
    assert capsys.readouterr().err.count("live: http://127.0.0.1:") == 1


@pytest.fixture
def server() -> Iterator[PageServer]:
    with PageServer() as server:
        server.page = b"<p>page</p>"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize(
    ("path", "host", "status"), [("/", "", 200), ("/../etc/passwd", "", 404), ("/", "evil.example", 404)]
)
def test_the_page_goes_to_who_asked_for_this_address_alone(
    server: PageServer, path: str, host: str, status: int
) -> None:
    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.request("GET", path, headers={"Host": host or server.address})
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (status, b"<p>page</p>" if status == 200 else b"")
    connection.close()
