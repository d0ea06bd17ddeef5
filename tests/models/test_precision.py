"""`--precision auto`: bf16 for a wide model on hardware that multiplies it natively."""

from dataclasses import replace

import pytest
from backbones import save_backbone

from effft.models.backbone import Backbone, load
from effft.models.precision import choose_precision


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load(str(save_backbone(tmp_path_factory.mktemp("opt"), "opt")))


def test_as_asked(backbone: Backbone) -> None:
    assert [choose_precision(asked, backbone) for asked in ("bf16", "fp32")] == ["bf16", "fp32"]


@pytest.mark.parametrize(
    ("width", "native", "chosen"),
    [(768, True, "bf16"), (256, True, "bf16"), (255, True, "fp32"), (768, False, "fp32")],
)
def test_auto(backbone: Backbone, width: int, native: bool, chosen: str) -> None:
    assert choose_precision("auto", replace(backbone, width=width), lambda _device: native) == chosen
