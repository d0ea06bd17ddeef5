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
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is built, in a folder named as a clone is, with a folder of the repository that holds no code."""
    source = tmp_path_factory.mktemp("parent") / "effft"
    shutil.copytree(ROOT / "effft", source / "effft", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("search", "reports"):
        (source / name).mkdir()
    return source


@pytest.fixture(scope="module")
def wheel(source: Path) -> Path:
    """Built from the copy."""
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(source / "out"), str(source)]
    subprocess.run(pip, check=True)
    (path,) = (source / "out").iterdir()
    return path


def install(to: Path, *what: str) -> Path:
    """The Python of a new environment with this installed, beside the libraries that are here."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(to)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(to / "bin" / "python"), "install", "-q", "--no-deps", *what]
    subprocess.run(pip, check=True)
    (site,) = (to / "lib").glob("python*/site-packages")
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return to / "bin" / "python"


def plain_environment() -> dict[str, str]:
    """Nothing but the installation finds the package."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH" and not k.startswith("MLFLOW_")}
    return environment | {"MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet"}


@pytest.mark.slow
def test_kind_12_an_editable_install_works_in_the_parent_of_the_clone(source: Path, tmp_path: Path) -> None:
    python = install(tmp_path / "venv", "-e", str(source))
    code = "import effft.reports.report, effft.search.study; print(effft.__file__)"
    for words in (("-m", "effft", "tasks"), ("-c", code)):
        how = {"cwd": source.parent, "env": plain_environment(), "capture_output": True, "text": True}
        done = subprocess.run([str(python), *words], **how)
        assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == source / "effft" / "__init__.py"


@pytest.mark.slow
def test_only_effft_is_installed(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (top,) = (name for name in names if name.endswith("top_level.txt"))
        assert archive.read(top) == b"effft\n"
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"effft"}


@pytest.mark.slow
def test_kind_12_it_works_among_files_named_like_packages(wheel: Path, tmp_path: Path) -> None:
    python = install(tmp_path / "venv", str(wheel))
    folder = tmp_path / "folder"
    for name in SHADOWS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("raise SystemExit('imported from the current folder')\n")
    environment = plain_environment()
    script, module = [str(python.parent / "effft")], [str(python), "-m", "effft"]
    for start, words in ((module, COMMANDS[0]), *((script, words) for words in COMMANDS)):
        done = subprocess.run(
            [*start, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (words, done.stderr)
    assert (folder / "report-agreement" / "report.html").is_file()
