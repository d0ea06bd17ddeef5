"""Peak resident memory of this process and its workers above its start, sampled."""

import threading
from contextlib import suppress

import psutil


class PeakMemory:
    """Use as a context; then `peak` is in bytes."""

    def __enter__(self) -> "PeakMemory":
        self._process = psutil.Process()
        self._start = self._process.memory_info().rss
        self.peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self.peak = max(self.peak, self._resident() - self._start)

    def _resident(self) -> int:
        found = 0
        for process in (self._process, *self._process.children(recursive=True)):
            with suppress(psutil.Error):  # a worker that has just ended
                found += process.memory_info().rss
        return found

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
