"""A file or a folder is written whole or not at all; only regular files are read."""

from pathlib import Path

import pytest

from effft.disk import written_whole


def content(path: Path) -> str:
    return (path / "inner" if path.is_dir() else path).read_text() if path.exists() else ""


def write(path: Path, kind: str, text: str) -> None:
    if kind == "folder":
        path.mkdir()
        path = path / "inner"
    path.write_text(text)


@pytest.mark.parametrize("before", ["", "old"])
@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_a_result_is_whole_or_what_was_there_stays(tmp_path: Path, kind: str, before: str) -> None:
    path = target = tmp_path / "result"
    if kind == "link":
        target = tmp_path / "elsewhere"
        path.symlink_to(target)
    if before:
        write(target, kind, before)
    with pytest.raises(OSError, match="full"), written_whole(path) as draft:
        write(draft, kind, "new")
        raise OSError("the disk is full")
    assert content(path) == before
    with written_whole(path) as draft:
        write(draft, kind, "new")
        assert content(path) == before
    assert content(path) == "new"
    assert {each.name for each in tmp_path.iterdir()} == {path.name, target.name}
    assert path.is_symlink() == (kind == "link")
