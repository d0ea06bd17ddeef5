import gzip
import json

import pandas as pd
import pytest

from effft.data.files import Layout, read_file
from effft.errors import InputError


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_every_format_and_its_gz_hold_the_same(tmp_path):
    rows = [{"text": "a, b", "label": "yes"}, {"text": 'c "d"', "label": "no"}]
    write(tmp_path / "x.csv", 'text,label\n"a, b",yes\n"c ""d""",no\n')
    write(tmp_path / "x.tsv", 'text\tlabel\na, b\tyes\nc "d"\tno')
    write(tmp_path / "x.txt", '\ufefftext\tlabel\r\na, b\tyes\r\n\r\nc "d"\tno\r\n')
    write(tmp_path / "x.jsonl", "\n".join(map(json.dumps, rows)))
    pd.DataFrame(rows).to_parquet(tmp_path / "x.parquet")
    for path in list(tmp_path.iterdir()):
        zipped = write(tmp_path / f"{path.name}.gz", gzip.compress(path.read_bytes()))
        for each in (path, zipped):
            table = read_file(each)
            assert table.columns == ("text", "label")
            assert [list(row) for row in table.rows] == [["a, b", "yes"], ['c "d"', "no"]]


def test_lines_point_into_the_file(tmp_path):
    table = read_file(write(tmp_path / "x.csv", 'text,label\n"two\nlines",yes\nb,no\n'))
    assert [table.place(i).split(", ")[-1] for i in range(2)] == ["line 2", "line 4"]


def test_unusual_line_ends_stay_in_the_text(tmp_path):
    assert read_file(write(tmp_path / "x.tsv", "text\ta\nx\u2028y\tb\n")).rows[0][0] == "x\u2028y"


def test_no_header_other_delimiter_and_incomplete_lines(tmp_path):
    path = write(tmp_path / "x.csv", "a;1\nb\nc;2\n")
    layout = Layout(columns=("text", "label"), delimiter=";", skip_incomplete=True)
    assert [list(row) for row in read_file(path, layout).rows] == [["a", "1"], ["c", "2"]]


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "x.csv").mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        read_file(tmp_path / "x.csv")
