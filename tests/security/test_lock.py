"""The lock file: what constraints.txt pins, every file with its hash, and no word of where it comes from."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOCK = (ROOT / "requirements.lock").read_text()


def plain(name: str) -> str:
    """A package's name as the index spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def entries() -> dict[str, tuple[str, str]]:
    """Package -> version, and the rest of its entry."""
    rows = re.findall(r"^([A-Za-z][\w.-]*)==([\w.+!-]+)(.*?)(?=^[A-Za-z]|\Z)", LOCK, re.M | re.S)
    return {plain(name): (version, rest) for name, version, rest in rows}


def test_every_file_has_a_hash_and_no_host_is_named() -> None:
    found = entries()
    assert len(found) > 100
    assert [name for name, (_, rest) in found.items() if "--hash=sha256:" not in rest] == []
    assert "://" not in LOCK
    assert [line for line in LOCK.splitlines() if line.startswith("-")] == []


def test_it_holds_what_the_tests_ran_with() -> None:
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M))
    locked = {name: version for name, (version, _) in entries().items()}
    assert {name: locked.get(plain(name)) for name in pinned} == pinned
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    assert [w for w in wanted if plain(re.split(r"[<>=!\[ ;]", w)[0]) not in locked] == []
