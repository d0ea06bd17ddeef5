"""`--precision auto`: bf16 for a wide model on hardware that multiplies it natively."""

from dataclasses import replace

import pytest
from backbones import save_backbone

from effft.models.backbone import Backbone, load
from effft.models.precision import choose_precision
from effft.progress import shown_on


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


class Lines:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)

    def __call__(self, stage: str, done: int, total: int) -> None:
        pass


def test_bf16_that_is_emulated_is_said_once(backbone: Backbone) -> None:
    display = Lines()
    with shown_on(display):
        for native in (True, False, False):
            assert choose_precision("bf16", backbone, lambda _device, native=native: native) == "bf16"
    assert len(display.lines) == 1
    assert "emulates" in display.lines[0]
