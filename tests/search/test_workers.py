"""Worker processes: they end with their driver, whatever ended it."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

SCRIPT = """\
import os, time
from search.units import LocalProcesses

if __name__ == "__main__":
    executor = LocalProcesses(1)
    print(executor._pool.submit(os.getpid).result(), flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
def test_a_worker_ends_when_its_driver_is_killed(tmp_path: object) -> None:
    path = f"{tmp_path}/driver.py"
    with open(path, "w") as file:
        file.write(SCRIPT)
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    driver = subprocess.Popen([sys.executable, path], stdout=subprocess.PIPE, text=True, env=environment)
    assert driver.stdout is not None
    worker = int(driver.stdout.readline())
    assert psutil.pid_exists(worker)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    end = time.monotonic() + 30
    while psutil.pid_exists(worker) and time.monotonic() < end:
        time.sleep(0.1)
    assert not psutil.pid_exists(worker)
