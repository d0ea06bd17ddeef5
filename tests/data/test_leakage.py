"""Evaluation examples that also stand in train: counted and said in every run, left out where that is asked for."""

from pathlib import Path

import pytest
from place import make_place

from effft.config import make_config
from effft.data.examples import Example, ExampleSet
from effft.data.leakage import check_leakage
from effft.errors import InputError
from effft.reports.warnings import LEAK
from effft.runs.experiment import execute
from effft.runs.plan import Plan, prepare
from effft.runs.session import Session
from effft.tracking.tracker import MemoryTracker


def add_rows(path: Path, lines: list[str]) -> None:
    path.write_text(path.read_text() + "".join(f"{line}\n" for line in lines))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven rows of train stand in `far` as well, one of them twice; `same` is train itself."""
    folder = make_place(tmp_path_factory.mktemp("leaks"), "llama")
    rows = list(dict.fromkeys((folder / "train.csv").read_text().splitlines()[1:]))
    add_rows(folder / "far.csv", [*rows[:7], rows[3]])
    task = (folder / "task.yaml").read_text()
    (folder / "same.yaml").write_text(task + "    same: train.csv\n")
    return folder


def planned(place: Path, task: str = "task.yaml", **values: object) -> Plan:
    base = {"task": str(place / task), "model": str(place / "llama"), "per_label": 4, "strategy": "probe", "epochs": 1}
    return prepare(make_config({**base, "bootstrap": 10, **values}), Session())


def texts(plan: Plan, name: str) -> list[tuple[str, ...]]:
    return [example.texts for example in plan.evaluated[name].examples]


def test_leaks_are_counted_and_said(place: Path) -> None:
    plan = planned(place)
    pool = {example.texts for example in plan.session.split(plan.config, "train").examples}
    far = plan.session.split(plan.config, "ood/far").examples
    count = sum(example.texts in pool for example in far)
    assert count >= 8
    assert plan.leaks["ood/far"] == count
    assert f"{count} examples of ood/far also stand in train and are evaluated all the same" in "\n".join(plan.notes)
    assert len(texts(plan, "ood/far")) == len(far)
    tracker = MemoryTracker()
    result = execute(plan, tracker)
    assert result.metrics["ood/far/leaks"] == count
    assert "ood/far/leaks" in tracker.tables["metrics"]["key"]
    assert result.metrics["in_domain/leaks"] == plan.leaks["in_domain"]
    assert "ood/far also stand in train" in tracker.texts["notes.txt"]


def test_leaks_are_left_out(place: Path) -> None:
    kept, dropped = planned(place), planned(place, drop_leaks="true")
    pool = {example.texts for example in kept.session.split(kept.config, "train").examples}
    assert texts(dropped, "ood/far") == [t for t in texts(kept, "ood/far") if t not in pool]
    assert texts(dropped, "in_domain") == [t for t in texts(kept, "in_domain") if t not in pool]
    assert dropped.leaks == kept.leaks
    assert "also stand in train and are left out." in "\n".join(dropped.notes)
    assert not any(LEAK.search(note) for note in dropped.notes)
    result = execute(dropped, MemoryTracker())
    assert result.metrics["ood/far/examples"] == len(texts(kept, "ood/far")) - kept.leaks["ood/far"]
    assert result.metrics["ood/far/leaks"] == kept.leaks["ood/far"]


def test_every_draw_is_evaluated_on_the_same_examples(place: Path) -> None:
    first = texts(planned(place, drop_leaks="true"), "ood/far")
    assert all(texts(planned(place, drop_leaks="true", data_seed=seed), "ood/far") == first for seed in (1, 2))
    assert len(texts(planned(place, drop_leaks="true", evaluation_limit=9), "ood/far")) == 9


def test_nothing_left_is_a_sentence(place: Path) -> None:
    assert planned(place, "same.yaml").leaks["ood/same"] == 120
    with pytest.raises(InputError, match=r"ood/same: all 120 examples .* also occur in train.*--drop-leaks out"):
        planned(place, "same.yaml", drop_leaks="true")


def test_one_text_of_two_is_no_leak() -> None:
    def of(name: str, *rows: tuple[str, ...]) -> ExampleSet:
        return ExampleSet(name, tuple(Example(row, 0, i) for i, row in enumerate(rows)), name)

    pool = of("train", ("a", "b"), ("c", "d"))
    found = check_leakage(of("in_domain", ("a", "x"), ("b", "a"), ("c", "d"), ("c", "d")), pool)
    assert (found.count, [e.texts for e in found.clean.examples]) == (2, [("a", "x"), ("b", "a")])
