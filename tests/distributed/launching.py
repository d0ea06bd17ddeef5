"""Starting one command in several processes, as a user does."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONFIGURATIONS = ROOT / "deploy" / "accelerate"


def launched(configuration: str, *words: str, cwd: Path, processes: int = 2) -> "subprocess.CompletedProcess[str]":
    """`accelerate launch --config_file deploy/accelerate/<configuration>.yaml -m words...`."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file"]
    command += [str(CONFIGURATIONS / f"{configuration}.yaml"), "--num_processes", str(processes), "-m", *words]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    own = {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=cwd, env=kept | own, capture_output=True, text=True, timeout=280, check=False)
