"""Imports go down the list, never in a circle, and vendors stay in their packages."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = (
    ("redaction", "version"),
    ("errors",),
    ("progress", "disk", "templating", "garbage"),
    ("spellings", "value_types"),
    ("config",),
    ("data",),
    ("tasks", "distributed"),
    ("models",),
    ("strategies",),
    ("training", "evaluation", "profiling"),
    ("tiny_lm", "serving"),
    ("tracking",),
    ("runs",),
    ("reports",),
    ("search",),
    ("choice",),
    ("tracked_comparison",),
    ("adapted_model",),
    ("api",),
    ("classifier",),
    ("cli",),
    ("__main__",),
    ("benchmarks",),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
VENDORS = {
    "mlflow": ("effft/tracking/",),
    "peft": ("effft/models/lora.py", "effft/models/adapter.py", "benchmarks/"),
    "optuna": ("effft/search/", "benchmarks/"),
    "matplotlib": ("effft/reports/drawing.py",),
    "ray": ("effft/search/ray_executor.py",),
    "datasets": ("effft/data/",),
    "accelerate": ("effft/models/device_map.py",),
}
FILES = sorted([*ROOT.glob("effft/**/*.py"), *ROOT.glob("benchmarks/**/*.py"), *ROOT.glob("tests/**/*.py")])
PRODUCT = [path for path in FILES if not path.is_relative_to(ROOT / "tests")]


def module(path: Path) -> str:
    """Dotted name of a file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module(path) for path in PRODUCT}


def imported(source: str) -> list[str]:
    """Dotted names of all modules and names a source imports, at any depth."""
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the direction"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def modules_imported(source: str) -> set[str]:
    """The files of this project that a source imports."""
    found = {name if name in MODULES else name.rpartition(".")[0] for name in imported(source)}
    return found & MODULES


def package(name: str) -> str:
    """'effft.models.backbone' -> 'models'; benchmarks and tests are packages of their own."""
    parts = name.split(".")
    return parts[1] if parts[0] == "effft" and len(parts) > 1 else parts[0]


def upward(place: str, source: str) -> list[str]:
    """What a source in the package `place` imports from packages above it or beside it."""
    rooms = [package(name) for name in sorted(modules_imported(source))]
    return [room for room in rooms if room not in (place, "effft") and RANK[room] >= RANK[place]]


def circle(edges: dict[str, set[str]]) -> list[str]:
    """The names on one circle, [] where there is none."""
    state: dict[str, int] = {}

    def visit(name: str, trail: list[str]) -> list[str]:
        if state.get(name) == 2:
            return []
        if state.get(name) == 1:
            return trail[trail.index(name) :]
        state[name] = 1
        for other in sorted(edges.get(name, ())):
            if found := visit(other, [*trail, name]):
                return found
        state[name] = 2
        return []

    return next((found for name in sorted(edges) if (found := visit(name, []))), [])


def test_the_checks_see_a_fault() -> None:
    assert upward("models", "from effft.training.loop import train") == ["training"]
    assert upward("training", "def f():\n    from effft.cli import app") == ["cli"]
    assert upward("evaluation", "import effft.training.loop") == ["training"]
    assert upward("models", "from effft.data.examples import Example") == []
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]
    assert circle({"a": {"b", "c"}, "b": {"c"}}) == []
    assert privates("from ray._private import worker\nx._load()") == {"ray._private.worker", "x._load"}


@pytest.mark.parametrize("path", PRODUCT, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    place = package(module(path))
    if place != "effft":
        assert place in RANK, f"{path}: a new package; give it a place in LAYERS and docs/architecture.md"
        assert upward(place, path.read_text()) == []


def test_no_circle() -> None:
    edges = {module(path): modules_imported(path.read_text()) - {module(path)} for path in PRODUCT}
    assert circle(edges) == []


PRIVATES = {
    "torch.utils._python_dispatch.TorchDispatchMode": "sees every operation; tests/profiling fail when it changes",
    "torch.utils._pytree.tree_leaves": "walks what TorchDispatchMode is handed; tests/profiling fail when it changes",
    "made._indices": "coalescing a sparse gradient to read it would itself be an operation",
    "made._values": "as _indices",
    "config._attn_implementation": "transformers has a setter and no getter; tests/models fail when it changes",
    "ray._private.worker": "prints pages of a node's log where a worker dies; tests/search fail when it changes",
    "datasets.packaged_modules._PACKAGED_DATASETS_MODULES": "names that it takes for file formats; tests/tasks fail",
    "os._exit": "documented, in spite of its name",
}
"""Names that a vendor does not promise, each with the reason why there is no public way."""

OWN_OBJECTS = ("self", "cls", "super()", "task", "file")


def privates(source: str) -> set[str]:
    """Private modules that a source imports, and private attributes of anything but its own objects."""
    tree = ast.parse(source)
    found = {name for name in imported(source) if re.search(r"\._[A-Za-z]", name) and not name.startswith("effft")}
    allowed = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    allowed |= {"_replace", "_make", "_asdict", "_fields"}  # of a named tuple, documented
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and re.match(r"_[A-Za-z]", node.attr) and node.attr not in allowed:
            owner = ast.unparse(node.value)
            found |= {f"{owner}.{node.attr}"} - {f"{own}.{node.attr}" for own in OWN_OBJECTS}
    return found


@pytest.mark.parametrize("path", PRODUCT, ids=lambda path: str(path.relative_to(ROOT)))
def test_vendor_privates_are_listed(path: Path) -> None:
    assert privates(path.read_text()) <= set(PRIVATES)


def test_no_reason_outlives_its_private() -> None:
    assert set().union(*(privates(path.read_text()) for path in PRODUCT)) == set(PRIVATES)


def test_nothing_is_imported_by_name_to_get_round_the_direction() -> None:
    found = [str(path.relative_to(ROOT)) for path in PRODUCT if "import_module" in path.read_text()]
    assert found == ["effft/cli/app.py"], "only the table of commands imports by name, so that --help is fast"


@pytest.mark.parametrize("vendor", VENDORS)
def test_vendors_stay_in_their_packages(vendor: str) -> None:
    users = [
        str(path.relative_to(ROOT))
        for path in PRODUCT
        if any(name.split(".")[0] == vendor for name in imported(path.read_text()))
    ]
    assert [user for user in users if not user.startswith(VENDORS[vendor])] == []


def test_only_effft_installs() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    assert 'include = ["effft*"]' in text
    assert not [p for folder in ("search", "reports") for p in (ROOT / folder).rglob("*.py")]


def test_nothing_unsafe_is_loaded() -> None:
    forbidden = ("torch.load(", "pickle.load", "trust_remote_code=True", "yaml.load(", "weights_only=False")
    found = [(path.name, word) for path in PRODUCT for word in forbidden if word in path.read_text()]
    assert found == [("bin_weights.py", "torch.load(")]
    text = (ROOT / "effft/models/bin_weights.py").read_text()
    assert (
        len(re.findall(r"torch\.load\(", text)) == len(re.findall(r"torch\.load\([^()]*weights_only=True", text)) == 1
    )
