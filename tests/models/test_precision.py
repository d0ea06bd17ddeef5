"""`--precision auto` decides once: narrow models without a probe, wide ones by a probe whose answer is kept."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from backbones import CONFIGS, save_backbone

from effft.models.backbone import Backbone, load
from effft.models.precision import choose_precision, measured_speedup, probe_file


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load(str(save_backbone(tmp_path_factory.mktemp("opt"), "opt")))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def chosen(backbone: Backbone, speedup: float | None = None, threads: int = 1, native: bool = True) -> str:
    """What 'auto' is on a machine with this speed-up; None: it must not be measured."""

    def measure(_backbone: Backbone, _threads: int) -> float:
        assert speedup is not None
        return speedup

    return choose_precision("auto", backbone, threads, lambda _device: native, measure)


def test_as_asked(backbone: Backbone) -> None:
    assert [choose_precision(asked, backbone, 1) for asked in ("bf16", "fp32")] == ["bf16", "fp32"]


def test_a_narrow_model_is_not_probed(backbone: Backbone) -> None:
    assert chosen(backbone) == "fp32"


def test_without_native_bf16_it_is_fp32(backbone: Backbone) -> None:
    assert chosen(replace(backbone, width=768), native=False) == "fp32"


def test_the_first_decision_stays(backbone: Backbone) -> None:
    wide = replace(backbone, width=768)
    assert chosen(wide, 3.0) == "bf16"
    assert chosen(wide, 0.5) == "bf16"  # the second probe would say otherwise
    assert chosen(wide, 0.5, threads=2) == "fp32"  # another question
    assert sorted(json.loads(probe_file().read_text()).values()) == ["bf16", "fp32"]


def test_a_broken_file_is_asked_again(backbone: Backbone) -> None:
    probe_file().parent.mkdir(parents=True)
    probe_file().write_text("{")
    assert chosen(replace(backbone, width=768), 3.0) == "bf16"


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_architecture_can_be_probed(kind: str, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    assert measured_speedup(load(str(save_backbone(tmp_path, kind))), 1) > 0
    assert torch.get_num_threads() == threads
