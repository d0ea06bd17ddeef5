"""A model whose layers lie on several devices gives the scores of a whole one."""

from pathlib import Path

import pytest
import torch
from backbones import save_backbone
from helpers import EXAMPLES, small_task

from effft.config import make_config
from effft.errors import InputError
from effft.models.backbone import LoadOptions, load
from effft.runs.plan import prepare
from effft.runs.session import Session
from effft.strategies.learner import Learner
from effft.strategies.prompting import PromptEncoder
from effft.strategies.scoring import predict
from effft.strategies.strategy import compose


def scores(folder: Path, spec: str, device: str, precision: str = "fp32") -> tuple[torch.Tensor, Learner]:
    strategy, task = compose(spec).with_parameters({"shots": 4} if spec == "icl" else {}), small_task()
    backbone = load(str(folder), "", True, device, LoadOptions(precision=precision))
    demonstrations = EXAMPLES[:4] if spec == "icl" else ()
    reader = PromptEncoder(strategy, task, backbone, 64, demonstrations)
    learner = Learner(strategy, task, backbone, reader, torch.Generator().manual_seed(0), precision)
    return predict(learner, learner.items(EXAMPLES)), learner


@pytest.mark.parametrize(("kind", "spec"), [("llama", "icl"), ("bert", "zero_shot")])
def test_layers_on_disk_give_the_same_scores(kind: str, spec: str, tmp_path: Path) -> None:
    save_backbone(tmp_path, kind)
    expected, _ = scores(tmp_path, spec, "cpu")
    found, learner = scores(tmp_path, spec, "map:90KB")
    assert {str(place) for place in learner.backbone.model.hf_device_map.values()} == {"cpu", "disk"}
    assert any(p.device.type == "meta" for p in learner.backbone.model.parameters())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_spread_layers_are_loaded_in_the_precision_asked_for(tmp_path: Path) -> None:
    save_backbone(tmp_path, "llama")
    found, learner = scores(tmp_path, "zero_shot", "map", "bf16")
    assert learner.precision_type == torch.bfloat16
    torch.testing.assert_close(found, scores(tmp_path, "zero_shot", "cpu")[0], rtol=0, atol=0.2)


@pytest.mark.parametrize(
    ("strategy", "device", "law"), [("lora", "map", "'lora' trains"), ("icl", "map:lots", "as in map:8GB")]
)
def test_what_is_not_for_spread_layers_is_said_before_work(strategy: str, device: str, law: str) -> None:
    with pytest.raises(InputError, match=law):
        prepare(make_config({"strategy": strategy, "device": device}), Session())


def test_a_size_for_which_transformers_finds_no_places_is_said(tmp_path: Path) -> None:
    save_backbone(tmp_path, "bert")
    with pytest.raises(InputError, match="give a larger size"):
        load(str(tmp_path), "", True, "map:60KB")
