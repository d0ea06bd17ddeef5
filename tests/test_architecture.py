"""Imports go down the list, and vendors stay in their rooms."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = (
    ("errors", "config", "secrets"),
    ("data",),
    ("tasks",),
    ("models",),
    ("strategies",),
    ("training",),
    ("evaluation",),
    ("serving",),
    ("tracking",),
    ("session",),
    ("plan",),
    ("experiment",),
    ("packed",),
    ("compare", "cells", "estimate"),
    ("reference",),
    ("curve",),
    ("pretraining",),
    ("cli",),
    ("__main__",),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
VENDORS = {
    "mlflow": ("effft/tracking/", "effft/cli/", "reports/"),
    "peft": ("effft/models/lora.py",),
    "optuna": ("search/",),
    "plotly": ("reports/",),
    "ray": ("search/ray_executor.py",),
    "datasets": ("effft/data/",),
    "accelerate": ("effft/models/spread.py",),
}
FILES = sorted([*ROOT.glob("effft/**/*.py"), *ROOT.glob("search/**/*.py"), *ROOT.glob("reports/**/*.py")])


def imported(source: str) -> list[str]:
    """Dotted names of all modules a source imports, at any depth."""
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module or "")
            names += [f"{node.module}.{alias.name}" for alias in node.names if node.module == "effft"]
    return names


def room(path: Path) -> str:
    parts = path.relative_to(ROOT / "effft").with_suffix("").parts
    return parts[0]


def upward(layer: str, source: str) -> list[str]:
    rooms = [name.split(".")[1] for name in imported(source) if name.startswith("effft.") and "." in name]
    return [name for name in rooms if RANK.get(name, -1) > RANK[layer]]


def test_the_check_sees_a_fault() -> None:
    assert upward("models", "from effft.training.loop import train") == ["training"]
    assert upward("training", "def f():\n    from effft.cli import app") == ["cli"]
    assert upward("training", "from effft.models.backbone import load") == []


@pytest.mark.parametrize("path", [p for p in FILES if p.is_relative_to(ROOT / "effft")], ids=str)
def test_imports_go_down(path: Path) -> None:
    if room(path) == "__init__":
        return
    assert room(path) in RANK, f"{path}: a new room; give it a place in LAYERS and docs/architecture.md"
    assert upward(room(path), path.read_text()) == []


@pytest.mark.parametrize("vendor", VENDORS)
def test_vendors_stay_in_their_rooms(vendor: str) -> None:
    users = [
        str(path.relative_to(ROOT))
        for path in FILES
        if any(name.split(".")[0] == vendor for name in imported(path.read_text()))
    ]
    assert [user for user in users if not user.startswith(VENDORS[vendor])] == []


def test_nothing_unsafe_is_loaded() -> None:
    forbidden = ("torch.load(", "pickle.load", "trust_remote_code=True", "yaml.load(")
    found = [(path.name, word) for path in FILES for word in forbidden if word in path.read_text()]
    assert found == []
