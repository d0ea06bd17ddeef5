"""Eight processes that start at once where there is no store yet: every one finishes, every run is there."""

from pathlib import Path

import pytest

from effft.search.storage import open_storage
from tests.place import make_place
from tests.reliability.lives import life, wait
from tests.runs import runs_in


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.usefixtures("tracking_uri")  # for its clean environment and its folder
def test_eight_processes_on_fresh_stores(tmp_path: Path) -> None:
    place = make_place(tmp_path, "gpt2")
    uri, trials = f"sqlite:///{tmp_path}/fresh.db", f"sqlite:///{tmp_path}/trials.db"
    words = ["run", "zero_shot", "--task", str(place / "task.yaml"), "--model", str(place / "gpt2"), "--threads", "1"]
    words += ["--per-label", "8", "--bootstrap", "0", "--tracking-uri", uri]
    pids = [life([*words, "--seed", str(i)], tmp_path / f"log {i}", lambda: open_storage(trials)) for i in range(8)]
    assert [wait(pid) for pid in pids] == [0] * 8, "".join(path.read_text() for path in tmp_path.glob("log *"))
    runs = runs_in(uri)
    assert sorted(run.data.tags["seed"] for run in runs) == [str(i) for i in range(8)]
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len({run.data.metrics["in_domain/mcc"] for run in runs}) == 1
    assert open_storage(trials).get_all_studies() == []
