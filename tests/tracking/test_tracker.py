"""Stop signals: the run is closed as KILLED, and a second signal does not interrupt the closing."""

import os
import signal
import time

import pytest

from effft.tracking.tracker import MemoryTracker, Status, stop_signals, tracked


class SlowToClose(MemoryTracker):
    """Sends itself more signals while it is closed."""

    def close(self, status: Status = "FINISHED") -> None:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.03)
            os.kill(os.getpid(), signal.SIGTERM)
        super().close(status)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_the_closing_is_shielded_from_further_signals(number: signal.Signals, code: int) -> None:
    tracker = SlowToClose()
    before = signal.signal(number, signal.SIG_DFL)  # a shell ignores SIGINT for what runs in its background
    try:
        with pytest.raises((KeyboardInterrupt, SystemExit)) as stopped, stop_signals(), tracked(tracker):
            os.kill(os.getpid(), number)
            time.sleep(1)
    finally:
        signal.signal(number, before)
    assert tracker.status == "KILLED"
    assert getattr(stopped.value, "code", 130) == code


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        with stop_signals():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
