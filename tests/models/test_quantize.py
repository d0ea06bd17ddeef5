"""`quantize`: refused where it cannot be, and what transformers is given where it can. The bits need a GPU."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from backbones import save_backbone

from effft.config import make_config
from effft.errors import InputError
from effft.models import backbone
from effft.models.backbone import LoadOptions, load
from effft.models.precision import store_in_bf16
from effft.models.quantization import check_quantize, elements, quantization_options
from effft.runs.plan import check_saved, prepare
from effft.runs.session import Session

CUDA = torch.device("cuda")


@pytest.mark.parametrize("strategy", ["vanilla", "pbft", "adaptive", "bitfit"])
def test_a_backbone_that_moves_is_refused(strategy: str) -> None:
    with pytest.raises(InputError, match=f"quantize=nf4: strategy '{strategy}' trains"):
        prepare(make_config({"strategy": strategy, "quantize": "nf4"}), Session())


@pytest.mark.parametrize("strategy", ["lora", "probe", "icl", "context_distillation"])
@pytest.mark.parametrize("how", ["nf4", "int8"])
def test_without_a_gpu_it_is_refused(strategy: str, how: str) -> None:
    with pytest.raises(InputError, match=f"quantize={how}: needs a CUDA device, and this run is on cpu"):
        prepare(make_config({"strategy": strategy, "quantize": how, "device": "cpu"}), Session())


def test_the_missing_package_and_the_saved_model_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(InputError, match=r"pip install '.\[big\]'"):
        check_quantize("nf4", "lora", True, CUDA)
    with pytest.raises(InputError, match="needs the backbone in full precision"):
        check_saved(make_config({"strategy": "lora", "quantize": "nf4"}))
    monkeypatch.delitem(sys.modules, "bitsandbytes")
    (tmp_path / "bitsandbytes.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    check_quantize("nf4", "lora", True, CUDA)
    check_quantize("none", "vanilla", False, torch.device("cpu"))


def test_transformers_is_asked_for_the_bits() -> None:
    four = quantization_options("nf4", CUDA)
    assert four["device_map"] == {"": CUDA}
    told = four["quantization_config"]
    assert (told.load_in_4bit, told.bnb_4bit_quant_type, told.bnb_4bit_use_double_quant) == (True, "nf4", True)
    assert quantization_options("int8", CUDA)["quantization_config"].load_in_8bit
    assert quantization_options("none", CUDA) == {}


def test_loading_passes_it_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_backbone(tmp_path, "llama")
    asked: list[dict[str, Any]] = []
    real = backbone.from_pretrained

    def noting(kind: str, folder: Path, name: str, **options: Any) -> Any:
        asked.append(options)
        kept = {k: v for k, v in options.items() if k not in ("quantization_config", "device_map")}
        return real(kind, folder, name, **kept)

    monkeypatch.setattr(backbone, "from_pretrained", noting)
    made = load(str(tmp_path), device="cpu", options=LoadOptions("nf4"))
    assert asked[-1]["quantization_config"].load_in_4bit
    assert asked[-1]["device_map"] == {"": torch.device("cpu")}
    assert made.body.is_loaded_in_4bit, "peft asks the body"


def test_packed_weights_are_counted_and_left_alone() -> None:
    class State:
        shape = torch.Size((8, 6))

    packed = torch.nn.Parameter(torch.zeros((24, 1), dtype=torch.uint8), requires_grad=False)
    packed.quant_state = State()  # type: ignore[attr-defined]
    assert elements(packed) == 48
    module = torch.nn.Module()
    module.weight = packed
    assert store_in_bf16(module) == {}
    assert module.weight.dtype == torch.uint8
