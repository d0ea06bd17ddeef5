"""The hub, with a stand-in for `datasets`: nothing here uses a network."""

import datasets
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from effft.data import hub
from effft.errors import InputError
from effft.tasks.loading import read_split
from effft.tasks.task import load_task

COLA = {"sentence": [f"s{i}" for i in range(1043)], "label": [i % 2 for i in range(1043)]}
FEATURES = Features({"sentence": Value("string"), "label": ClassLabel(names=["unacceptable", "acceptable"])})


def test_cola_from_the_hub(monkeypatch):
    asked = []

    def load_dataset(*place, **options):
        asked.append((place, options))
        return Dataset.from_dict(COLA, FEATURES)

    monkeypatch.setattr(hub, "reachable", lambda _: True)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    ood = read_split(load_task("cola"), "ood/cola_ood")
    assert len(ood) == 516
    assert ood.examples[0].index == 527
    assert [e.label for e in ood.examples[:2]] == [1, 0]
    assert ood.examples[0].slices == (("source", "unknown"),)
    assert "bcdcba79" in ood.origin
    assert asked[0][0] == ("nyu-mll/glue", "cola")


def test_hans_falls_back_to_the_official_file(monkeypatch):
    asked = []

    def load_dataset(*place, **options):
        asked.append(place[0])
        if place[0] != "csv":
            raise datasets.exceptions.DatasetNotFoundError("no such revision\nsecond line")
        row = {"gold_label": "non-entailment", "sentence1": "a", "sentence2": "b", "heuristic": "h", "subcase": "s"}
        return Dataset.from_list([row])

    monkeypatch.setattr(hub, "reachable", lambda _: True)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    hans = read_split(load_task("mnli"), "ood/hans")
    assert asked == ["jhu-cogsci/hans", "csv"]
    assert hans.examples[0].label == 1
    assert hans.origin.endswith("heuristics_evaluation_set.txt")


def test_an_unreachable_hub_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub, "reachable", lambda _: False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)

    def load_dataset(*place, **options):
        assert datasets.config.HF_HUB_OFFLINE
        raise ConnectionError("no")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(InputError, match=r"not reachable.*cola/in_domain_train.tsv.*--data-dir") as caught:
        read_split(load_task("cola"), "train")
    assert "\n" not in str(caught.value)
    assert not datasets.config.HF_HUB_OFFLINE


def test_a_host_that_is_not_there_is_given_up_fast():
    assert not hub.reachable("https://localhost:9")
