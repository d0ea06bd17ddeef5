"""The meter sees memory that is held, its peak and its average."""

import mmap
import time
from pathlib import Path

import torch
from backbones import save_backbone

from effft.models.backbone import load
from effft.profiling.resources import ResourceMeter, held_by


def test_peak_and_average() -> None:
    with ResourceMeter(torch.device("cpu")) as meter:
        # Pages that the system gives and takes back; a tensor's may stay with the allocator when it is freed.
        with meter.stage("hold"), mmap.mmap(-1, 50_000_000) as held:
            for page in range(0, len(held), mmap.PAGESIZE):
                held[page] = 1
            time.sleep(0.2)
        time.sleep(0.2)
    assert 45e6 < meter.peak_bytes < 80e6
    assert 5e6 < meter.average_bytes < 0.9 * meter.peak_bytes
    assert meter.seconds["hold"] >= 0.2


def test_what_is_held_at_the_start_counts(tmp_path: Path) -> None:
    backbone = load(str(save_backbone(tmp_path, "llama")))
    size = sum(p.numel() for p in backbone.model.parameters()) * 4
    assert held_by(backbone) == size
    with ResourceMeter(torch.device("cpu"), held=10**9) as meter:
        pass
    assert 0.95e9 < meter.peak_bytes < 1.05e9
