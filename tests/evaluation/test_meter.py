"""The meter sees memory that is held, its peak and its average."""

import time

import torch

from effft.evaluation.meter import Meter


def test_peak_and_average() -> None:
    with Meter(torch.device("cpu")) as meter:
        with meter.stage("hold"):
            held = torch.ones(50_000_000, dtype=torch.uint8)
            time.sleep(0.2)
        del held
        time.sleep(0.2)
    assert 45e6 < meter.peak_bytes < 80e6
    assert 5e6 < meter.average_bytes < 0.9 * meter.peak_bytes
    assert meter.seconds["hold"] >= 0.2
