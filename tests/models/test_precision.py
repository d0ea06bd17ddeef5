"""auto decides once: narrow models without a probe, wide ones by a probe that a file remembers."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from backbones import CONFIGS, save_backbone

from effft.models import precision
from effft.models.backbone import Backbone, load
from effft.models.precision import PROBES, choose_precision, probe
from effft.models.probe_cache import probe_file


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load(str(save_backbone(tmp_path_factory.mktemp("opt"), "opt")))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(precision, "native_bf16", lambda device: True)


def test_as_asked(backbone: Backbone) -> None:
    assert [choose_precision(asked, backbone, 1) for asked in ("bf16", "fp32")] == ["bf16", "fp32"]


def test_a_narrow_model_is_not_probed(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "probe", lambda *_: pytest.fail("probed"))
    assert choose_precision("auto", backbone, 1) == "fp32"


def test_without_native_bf16_it_is_fp32(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "native_bf16", lambda device: False)
    assert choose_precision("auto", replace(backbone, width=768), 1) == "fp32"


def test_the_first_decision_stays(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = replace(backbone, width=768)
    for measured, expected in ((3.0, "bf16"), (0.5, "bf16")):  # the second probe would say otherwise
        monkeypatch.setattr(precision, "probe", lambda *_, ratio=measured: ratio)
        assert choose_precision("auto", wide, 1) == expected
    assert choose_precision("auto", wide, 2) == "fp32"  # other threads, another question
    assert sorted(json.loads(probe_file(PROBES).read_text()).values()) == ["bf16", "fp32"]


def test_a_broken_file_is_asked_again(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    probe_file(PROBES).parent.mkdir(parents=True)
    probe_file(PROBES).write_text("{")
    monkeypatch.setattr(precision, "probe", lambda *_: 3.0)
    assert choose_precision("auto", replace(backbone, width=768), 1) == "bf16"


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_architecture_can_be_probed(kind: str, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    assert probe(load(str(save_backbone(tmp_path, kind))), 1) > 0
    assert torch.get_num_threads() == threads
