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
from hypothesis import given
from hypothesis import strategies as st

from effft.data.files import Layout, open_table
from effft.data.limits import LIMIT_VARIABLE
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


def list_of(values: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values)


def write_small_bombs(folder: Path) -> None:
    """Parquet files of some kB that say a gigabyte, in every way the format has."""
    text = "a" * 10_000_000
    packed = pa.DictionaryArray.from_arrays(pa.array([0] * 200), pa.array([text]))
    numbers = pa.array([7] * 70_000_000, pa.int32())
    differ = [f"{number}{text[:1_000_000]}" for number in range(100)]
    delta = {"use_dictionary": False, "column_encoding": {"x": "DELTA_BYTE_ARRAY"}}
    in_list = {"use_dictionary": False, "column_encoding": {"x.list.element": "DELTA_BYTE_ARRAY"}}
    for name, column, options in [
        ("one text 200 times", packed, {}),
        ("the same in a list", list_of(packed), {}),
        ("the same in a map", pa.MapArray.from_arrays(pa.array([0, 200], pa.int32()), range(200), packed), {}),
        ("the same in records", pa.StructArray.from_arrays([packed], ["s"]), {}),
        ("texts that compress well", pa.array(differ), {"use_dictionary": False}),
        ("texts that begin alike", pa.array([f"{text}{number}" for number in range(60)]), delta),
        ("a list of such", list_of(pa.array(differ)), in_list),
        ("bytes of one length", pa.array([text.encode()] * 60, pa.binary(len(text))), {}),
        ("a list of numbers", list_of(numbers), {}),
    ]:
        table = pa.table({"text": ["a"] * len(column), "x": column})
        pq.write_table(table, folder / f"{name}.parquet", compression="zstd", store_schema=False, **options)


REFUSE = """
import sys
from pathlib import Path
from effft.data.files import open_table
for path in sys.argv[1:]:
    try:
        for row in open_table(Path(path)):
            pass
    except ValueError as error:
        print(error)
"""

PEAK = """
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")), flush=True)
"""


@pytest.mark.slow
def test_small_parquet_files_of_much_are_refused_with_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_small_bombs(tmp_path)
    paths = sorted(map(str, tmp_path.iterdir()))
    assert max(map(os.path.getsize, paths)) < 20_000
    monkeypatch.setenv(LIMIT_VARIABLE, "90")
    done = subprocess.run([sys.executable, "-c", REFUSE + PEAK, *paths], capture_output=True, text=True, timeout=120)
    assert not done.stderr
    *said, peak = done.stdout.splitlines()
    assert [path for path, line in zip(paths, said, strict=True) if not line.startswith(f"{path}: ")] == []
    assert sum("more than 90 MB when unpacked" in line for line in said) == len(paths) - 1
    assert int(peak) < 500_000, "kB"


@given(st.lists(st.tuples(st.text(), st.lists(st.text(max_size=3), max_size=3)), min_size=1), st.integers(0, 3))
def test_every_encoding_of_parquet_holds_the_same(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, list[str]]], place: int
) -> None:
    texts, lists = ([row[number] for row in rows] for number in (0, 1))
    encoding = ("", "PLAIN", "DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY")[place]
    options = {"use_dictionary": ["lists"], "column_encoding": {"text": encoding}} if encoding else {}
    path = tmp_path_factory.getbasetemp() / "same.parquet"
    pairs = [[(str(n), text) for n, text in enumerate(each)] for each in lists]
    columns = {"text": texts, "lists": lists, "records": [{"a": text} for text in texts]}
    pq.write_table(pa.table(columns | {"maps": pa.array(pairs, pa.map_(pa.string(), pa.string()))}), path, **options)
    assert values(path) == [list(row) for row in zip(*columns.values(), pairs, strict=True)]


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
