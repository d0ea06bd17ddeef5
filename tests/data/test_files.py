"""Every format holds the same rows; what is no file of rows is a sentence, before memory is taken."""

import gzip
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from effft.data.files import LIMIT_VARIABLE, Layout, open_table
from effft.errors import InputError

PLAIN = Layout()


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def values(path: Path, layout: Layout = PLAIN) -> list[list[object]]:
    return [list(row.values.values()) for row in open_table(path, layout)]


def test_every_format_and_its_gz_hold_the_same(tmp_path: Path) -> None:
    rows = [{"text": "a, b", "label": "yes"}, {"text": 'c "d"', "label": "no"}]
    write(tmp_path / "x.csv", 'text,label\n"a, b",yes\n"c ""d""",no\n')
    write(tmp_path / "cr.csv", 'text,label\r"a, b",yes\r"c ""d""",no\r')
    write(tmp_path / "x.tsv", 'text\tlabel\na, b\tyes\nc "d"\tno')
    write(tmp_path / "cr.tsv", 'text\tlabel\ra, b\tyes\rc "d"\tno')
    write(tmp_path / "x.txt", '\ufefftext\tlabel\r\na, b\tyes\r\n\r\nc "d"\tno\r\n')
    write(tmp_path / "x.jsonl", "\n".join(map(json.dumps, rows)))
    write(tmp_path / "cr.jsonl", "\r".join(map(json.dumps, rows)))
    pd.DataFrame(rows).to_parquet(tmp_path / "x.parquet")
    for path in list(tmp_path.iterdir()):
        zipped = write(tmp_path / f"{path.name}.gz", gzip.compress(path.read_bytes()))
        for each in (path, zipped):
            table = open_table(each)
            assert table.columns == ("text", "label")
            assert [row.values for row in table] == rows
            assert [row.values for row in table] == rows, "a table can be read again"


def test_lines_point_into_the_file(tmp_path: Path) -> None:
    table = open_table(write(tmp_path / "x.csv", 'text,label\n"two\nlines",yes\nb,no\n'))
    assert [table.place(row).split(", ")[-1] for row in table] == ["line 2", "line 4"]


def test_unusual_line_ends_stay_in_the_text(tmp_path: Path) -> None:
    assert values(write(tmp_path / "x.tsv", "text\ta\nx\u2028y\rz\tb\n"))[0][0] == "x\u2028y\rz"


def test_no_header_other_delimiter_and_incomplete_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "a;1\nb\nc;2\n")
    layout = Layout(columns=("text", "label"), delimiter=";", skip_incomplete=True)
    assert values(path, layout) == [["a", "1"], ["c", "2"]]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl"])
def test_texts_longer_than_the_csv_module_allows(tmp_path: Path, suffix: str) -> None:
    text = "long " * 60_000
    content = (
        json.dumps({"text": text, "n": 1}) if suffix == "jsonl" else f"n{',' if suffix == 'csv' else chr(9)}text\n"
    )
    content += "" if suffix == "jsonl" else f"1{',' if suffix == 'csv' else chr(9)}{text}\n"
    (row,) = open_table(write(tmp_path / f"x.{suffix}", content))
    assert row.values["text"] == text


@pytest.mark.parametrize("kind", ["folder", "FIFO", "socket", "device"])
def test_what_is_no_file_is_not_opened(tmp_path: Path, kind: str) -> None:
    import socket

    path = tmp_path / "x.csv"
    if kind == "folder":
        path.mkdir()
    elif kind == "FIFO":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(InputError, match=f"{kind}.*, not a file; name a file"):
        open_table(path)


@pytest.mark.parametrize("suffix", ["csv.gz", "jsonl.gz", "parquet"])
def test_the_data_limit_counts_what_is_unpacked(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"x.{suffix}"
    if suffix == "parquet":
        pd.DataFrame({"text": ["a"] * 5000}).to_parquet(path)
    else:
        line = "a\n" if suffix == "csv.gz" else '{"text": "a"}\n'
        write(path, gzip.compress(("text\n" if suffix == "csv.gz" else "").encode() + line.encode() * 5000))
    monkeypatch.setenv(LIMIT_VARIABLE, "2")
    assert len(list(open_table(path))) == 5000
    monkeypatch.setenv(LIMIT_VARIABLE, "1")
    with pytest.raises(InputError, match=rf"more than 1 MB when unpacked.*{LIMIT_VARIABLE}"):
        list(open_table(path))
    if suffix != "parquet":
        assert len(list(open_table(path, limited=False))) == 5000, "rows that are not kept need no limit"
    monkeypatch.setenv(LIMIT_VARIABLE, "much")
    with pytest.raises(InputError, match=f"{LIMIT_VARIABLE}=much: it must be a number of megabytes"):
        open_table(path)


HOSTILE = {
    "rows.csv.gz": (gzip.compress, b"text,label\n" + b"a,b\n" * 3_000_000),
    "line.jsonl.gz": (gzip.compress, b'{"text": "' + b"a" * (200 << 20)),
    "columns.csv": (bytes, b",".join(b"c%d" % i for i in range(200_000)) + b"\n1\n"),
    "keys.jsonl": (bytes, b"\n".join(b'{"k%d": 1, "text": "a"}' % i for i in range(200_000))),
}


def long_texts(path: Path, differ: bool) -> None:
    """Much text in a small file: 1,000 times the same 10 MB, or 100 different megabytes that compress well."""
    text = "a" * (1_000_000 if differ else 10_000_000)
    if differ:
        table = pa.table({"text": [f"{number}{text}" for number in range(100)]})
    else:
        table = pa.table({"text": pa.DictionaryArray.from_arrays(pa.array([0] * 1000), pa.array([text]))})
    pq.write_table(table, path, compression="zstd", use_dictionary=not differ)


REFUSE = """
import sys
from pathlib import Path
from effft.data.files import open_table
try:
    for row in open_table(Path(sys.argv[1])):
        pass
except ValueError as error:
    print(error)
"""

PEAK = """
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")), flush=True)
"""


@pytest.mark.parametrize("differ", [False, True])
def test_a_small_parquet_file_of_long_texts_is_refused_with_little_memory(
    tmp_path: Path, differ: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, "50")
    long_texts(tmp_path / "x.parquet", differ)
    done = subprocess.run(
        [sys.executable, "-c", REFUSE + PEAK, str(tmp_path / "x.parquet")], capture_output=True, text=True, timeout=60
    )
    said, peak = done.stdout.splitlines()
    assert "MB when unpacked" in said
    assert int(peak) < 500_000, "kB"
    assert not done.stderr


@pytest.mark.parametrize("name", HOSTILE)
def test_a_bomb_is_refused_with_little_memory(tmp_path: Path, name: str) -> None:
    pack, content = HOSTILE[name]
    path = write(tmp_path / name, pack(content, 1) if pack is gzip.compress else content)  # type: ignore[operator]
    done = subprocess.run(
        [sys.executable, "-c", REFUSE, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30)),
    )
    assert any(word in done.stdout for word in ("MB when unpacked", "longer than 64 MB", "columns; 10,000 is the most"))
    assert not done.stderr
