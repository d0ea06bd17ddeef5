"""A hub that refuses, and one that never answers: one sentence with the flag for local files, within seconds."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["refuses", "is silent"])
@pytest.mark.parametrize(
    ("words", "remedy"), [(["--model", "org/some-model"], "--model FOLDER"), (["--task", "cola"], "--data-dir")]
)
def test_a_hub_that(tmp_path: Path, kind: str, words: list[str], remedy: str) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        if kind == "is silent":
            server.listen(50)
        own = {"HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path)}
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "effft", "run", "lora", "--no-tracking", *words],
            env=os.environ | own, cwd=ROOT, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        seconds = time.monotonic() - began
    said = [line for line in done.stderr.splitlines() if not line.startswith("effft: load")]
    assert done.returncode == 2
    assert len(said) == 1, said
    assert remedy in said[0]
    assert "not reachable" in said[0]
    print(f"a hub that {kind}, {words[0]}: {seconds:.0f} s, imports included")
    assert seconds < 40
