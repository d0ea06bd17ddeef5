"""A task is known by its content: what changes a result changes the digest, and nothing else does."""

import shutil
from pathlib import Path

import pytest

from effft.tasks.loading import content_digest
from effft.tasks.task import load_task

TASK = "fields: [text]\nlabels: [bad, good]\ntrain: train.csv\nin_domain: test.csv\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "one"
    folder.mkdir()
    (folder / "task.yaml").write_text(TASK)
    (folder / "train.csv").write_text("text,label\na,bad\nb,good\n")
    (folder / "test.csv").write_text("text,label\nc,bad\nd,good\n")
    return folder


def digest(folder: Path, **options: object) -> str:
    return content_digest(load_task(str(folder / "task.yaml")), **options)  # type: ignore[arg-type]


def test_the_place_and_the_description_do_not_count(folder: Path, tmp_path: Path) -> None:
    before = digest(folder)
    shutil.copytree(folder, tmp_path / "two")
    assert digest(tmp_path / "two") == before
    (folder / "task.yaml").write_text(TASK + "description: the same rows\n")
    assert digest(folder) == before
    assert len(before) == 16


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("train.csv", "text,label\na,bad\nc,good\n"),
        ("test.csv", "text,label\nc,bad\ne,good\n"),
        ("task.yaml", TASK + "metric: mcc\n"),
    ],
)
def test_other_rows_or_another_record_are_another_task(folder: Path, name: str, text: str) -> None:
    before, train_before = digest(folder), digest(folder, splits=("train",))
    (folder / name).write_text(text)
    assert digest(folder) != before
    assert (digest(folder, splits=("train",)) == train_before) == (name == "test.csv")


def test_difficulty_counts_and_data_dir_is_read(folder: Path, tmp_path: Path) -> None:
    task = load_task("overlap")
    assert content_digest(task) != content_digest(task.with_difficulty({"overlap_strength": 0.5}))
    other = shutil.copytree(folder, tmp_path / "copies")
    (other / "train.csv").write_text("text,label\nx,bad\ny,good\n")
    assert digest(folder, data_dir=str(other)) != digest(folder)
