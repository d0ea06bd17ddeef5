"""The real files, where a developer has them."""

from collections import Counter
from pathlib import Path

import pytest

from effft.tasks.loading import missing_ood, read_split
from effft.tasks.task import load_task

DATA = Path(__file__).parents[2].parent / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not here")


@pytest.mark.parametrize("folder", [DATA, DATA / "cola"])
def test_cola_counts(folder):
    task = load_task("cola")
    sizes = [len(read_split(task, name, str(folder))) for name in task.split_names]
    assert sizes == [8551, 527, 516]


def test_raw_cola_and_glue_agree_but_for_the_known_rows(tmp_path):
    (tmp_path / "glue_validation.tsv").symlink_to(DATA / "cola" / "glue_validation.tsv")
    task = load_task("cola")
    other_text, other_label = [], []
    for split, offset in (("in_domain", 0), ("ood/cola_ood", 527)):
        raw, glue = (read_split(task, split, str(d)).examples for d in (DATA, tmp_path))
        assert [e.index for e in glue] == [e.index + offset for e in raw]
        other_text += [g.index for r, g in zip(raw, glue, strict=True) if r.texts != g.texts]
        other_label += [g.index for r, g in zip(raw, glue, strict=True) if r.label != g.label]
    assert other_label == [522, 526]
    assert len(other_text) == 7


def test_mnli_has_two_labels():
    task = load_task("mnli")
    dev = read_split(task, "in_domain", str(DATA))
    assert len(dev) == 6692
    assert Counter(e.label for e in dev.examples) == {0: 3479, 1: 3213}
    assert missing_ood(task, str(DATA)) == ["mnli_mismatched"]


@pytest.mark.parametrize("name", ["mnli", "rte"])
def test_hans_is_balanced_in_every_slice(name):
    task = load_task(name)
    examples = read_split(task, "ood/hans", str(DATA)).examples
    assert len(examples) == 30_000
    assert Counter(e.label for e in examples) == {0: 15_000, 1: 15_000}
    assert set(Counter(e.slices for e in examples).values()) == {1000}
    assert len({dict(e.slices)["subcase"] for e in examples}) == 30
    assert ("label", "heuristic", "subcase") in task.split("ood/hans").slices
