"""Kept states: computed once a set, the same from memory and from a file, and a session changes no number."""

from pathlib import Path

import pytest
import torch
from backbones import save_backbone
from helpers import EXAMPLES, learner_on

from effft.models.flops import counted
from effft.strategies.strategy import compose
from effft.training.feature_cache import Cost, FeatureCache


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_backbone(tmp_path_factory.mktemp("llama"), "llama")


@pytest.mark.parametrize("spec", ["probe", "adaptive"])
@pytest.mark.parametrize("memory", [1 << 20, 0], ids=["in memory", "in a file"])
def test_a_set_is_computed_once(folder: Path, spec: str, memory: int) -> None:
    store = FeatureCache(memory)
    learner = learner_on(folder, compose(spec).with_parameters({"layers": 1} if spec == "adaptive" else {}))
    items = learner.items(EXAMPLES)
    first = learner.frozen_features(items)
    for _ in range(3):
        for got, expected in zip(store.frozen_features(learner, items), first, strict=True):
            assert torch.equal(got.state, expected.state)
    assert store.computed == 1
    store.frozen_features(learner, items[:3])
    assert store.computed == 2


def test_another_layer_or_precision_is_another_set(folder: Path) -> None:
    store = FeatureCache()
    for layers, dtype in ((1, torch.float32), (2, torch.float32), (1, torch.float64), (1, torch.float32)):
        learner = learner_on(folder, compose("adaptive").with_parameters({"layers": layers}), dtype=dtype)
        states = store.frozen_features(learner, learner.items(EXAMPLES))
        assert states[0].state.dtype == dtype
    assert store.computed == 3


def test_where_nothing_is_frozen_nothing_is_kept(folder: Path) -> None:
    store = FeatureCache()
    learner = learner_on(folder, compose("lora"))
    assert store.frozen_features(learner, learner.items(EXAMPLES)) == learner.items(EXAMPLES)
    assert store.computed == 0


@pytest.mark.parametrize("spec", ["probe", "adaptive"])
def test_what_an_earlier_run_computed_costs_a_stage_as_much(folder: Path, spec: str) -> None:
    store = FeatureCache()
    learner = learner_on(folder, compose(spec).with_parameters({"layers": 1} if spec == "adaptive" else {}))
    items = learner.items(EXAMPLES)
    with counted(learner.backbone.model) as flops:
        store.frozen_features(learner, items)
    assert store.saved() == Cost()
    assert store.peak_of_run(1000) == 1000
    store.start_run()
    for _ in range(2):
        store.start_stage()
        store.frozen_features(learner, items)
        seconds = store.saved().seconds
        store.frozen_features(learner, items)  # what a stage asks for twice it computes once
        assert store.saved().seconds == seconds > 0
        assert store.saved().flops == flops.total > 0
    assert [store.peak_of_run(peak) for peak in (900, 1100)] == [1000, 1100]
