"""The built wheel, in a folder whose files have the names of packages."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHADOWS = ("search.py", "reports/__init__.py", "effft/notes.txt", "random.py", "click.py", "torch.py", "string.py")
QUICK = ("--steps", "2", "--evaluation-limit", "20", "--threads", "1", "--bootstrap", "20")
COMMANDS = (
    ("run", "lora", *QUICK),
    ("compare", "--strategies", "lora,zero_shot", "--seeds", "1", *QUICK),
    ("search", "--strategy", "probe", "--trials", "2", "--reseeds", "1", "--seeds", "1", "--per-label", "4", *QUICK),
    ("report",),
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, which stays as it is for git."""
    source = tmp_path_factory.mktemp("source")
    shutil.copytree(ROOT / "effft", source / "effft", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(source / "out"), str(source)]
    subprocess.run(pip, check=True)
    (path,) = (source / "out").iterdir()
    return path


@pytest.mark.slow
def test_only_effft_is_installed(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (top,) = (name for name in names if name.endswith("top_level.txt"))
        assert archive.read(top) == b"effft\n"
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"effft"}


@pytest.mark.slow
def test_it_works_among_files_named_like_packages(wheel: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", str(wheel)]
    subprocess.run(pip, check=True)
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    folder = tmp_path / "folder"
    for name in SHADOWS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("raise SystemExit('imported from the current folder')\n")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH" and not k.startswith("MLFLOW_")}
    environment |= {"MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet"}
    script, module = [str(python.parent / "effft")], [str(python), "-m", "effft"]
    for start, words in ((module, COMMANDS[0]), *((script, words) for words in COMMANDS)):
        done = subprocess.run(
            [*start, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (words, done.stderr)
    assert (folder / "report-agreement" / "report.html").is_file()
