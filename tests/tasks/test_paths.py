"""What a task file names lies in the task's folder, unless the user says `--allow-outside true`."""

import gzip
from pathlib import Path

import pytest

from effft.data.hub_rows import read_hub
from effft.errors import InputError
from effft.tasks.loading import read_split
from effft.tasks.task import load_task

ROWS = "text,label\na,no\nb,yes\n"


@pytest.fixture
def task(tmp_path: Path) -> Path:
    (tmp_path / "inside" / "sub").mkdir(parents=True)
    (tmp_path / "secret.csv").write_text(ROWS)
    (tmp_path / "inside" / "here.csv").write_text(ROWS)
    return tmp_path / "inside" / "task.yaml"


def write(task: Path, source: str) -> str:
    task.write_text(
        f"fields: [text]\nlabels: [no, yes]\ntrain: {source}\nin_domain: here.csv\nood: {{far: {source}}}\n"
    )
    return str(task)


@pytest.mark.parametrize(
    "source", ["../secret.csv", "{absolute}", "{{file: sub/../../secret.csv}}", "../secret.csv.gz"]
)
def test_names_that_leave(task: Path, source: str) -> None:
    name = write(task, source.format(absolute=task.parents[1] / "secret.csv"))
    with pytest.raises(InputError, match=r"task\.yaml, line 3: .*leaves the task's folder.*--allow-outside true"):
        load_task(name)
    allowed = load_task(name, allow_outside=True)
    if not source.endswith("gz"):
        assert len(read_split(allowed, "train")) == len(read_split(allowed, "ood/far")) == 2


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("kind", ["file", "folder", "chain"])
def test_links_that_leave(task: Path, ending: str, kind: str) -> None:
    outside, inside = task.parents[1] / "outside", task.parent
    outside.mkdir()
    real = outside / f"x.csv{ending}"
    real.write_bytes(gzip.compress(ROWS.encode()) if ending else ROWS.encode())
    if kind == "folder":
        (inside / "sub").rmdir()
        (inside / "sub").symlink_to(outside)
    else:
        middle = outside / f"y.csv{ending}" if kind == "chain" else real
        if kind == "chain":
            middle.symlink_to(real)
        (inside / "sub" / f"x.csv{ending}").symlink_to(middle)
    name = write(task, "sub/x.csv")
    for split in ("train", "ood/far"):
        with pytest.raises(InputError, match=r"leads out of .*--allow-outside true"):
            read_split(load_task(name), split)
    assert len(read_split(load_task(name, allow_outside=True), "train")) == 2


def test_links_within_the_folder_are_fine(task: Path) -> None:
    (task.parent / "link.csv").symlink_to(task.parent / "here.csv")
    assert len(read_split(load_task(write(task, "link.csv")), "train")) == 2


@pytest.mark.parametrize("hub", ["../inside", "/etc", "./x", "a/b/c", "..", "~/x", "-x"])
def test_a_hub_name_is_no_path(task: Path, hub: str) -> None:
    with pytest.raises(InputError, match="is no name of a data set on the hub"):
        load_task(write(task, f"{{hub: '{hub}'}}"))


def test_the_hub_is_not_the_folder_one_is_in(task: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` itself would read both."""
    monkeypatch.chdir(task.parents[1])
    for name in ("inside", "csv", "text"):
        with pytest.raises(InputError, match="a hub source reads the hub alone"):
            read_hub(name, "", "train", "")
