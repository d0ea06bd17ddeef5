"""Data that are not what the task says."""

import gzip
from pathlib import Path

from case import TRAIN, Case, odd

ROWS = b"text,label\na,b\n"


def train(name: str, content: str | bytes, *says: str, file: str = "train.csv") -> Case:
    """Another training file."""
    task = ("train: train.csv", f"train: {file}") if file != "train.csv" else ""
    return Case(f"data: {name}", (file, *says), task=task, files={file: content})


def jsonl(name: str, content: str, *says: str) -> Case:
    """Another OOD file."""
    return Case(f"data: {name}", ("sub/tweets.jsonl", *says), files={"sub/tweets.jsonl": content})


def folder_for_a_file(folder: Path) -> None:
    (folder / "train.csv").unlink()
    (folder / "train.csv").mkdir()


def link_out(folder: Path) -> None:
    """train.csv leads out of the task's folder."""
    outside = folder.parent / f"{folder.name}-outside.csv"
    outside.write_text(TRAIN)
    (folder / "train.csv").unlink()
    (folder / "train.csv").symlink_to(outside)


ODD = ("train: train.csv", "train: odd.csv")
CASES = [
    train("empty", b"", "the file is empty", "add rows or name another file"),
    train("header only", "text,label\n", "a header and no rows", "add rows or name another file"),
    train(
        "wrong delimiter",
        TRAIN.replace(",", ";"),
        "no column 'text'",
        "text;label",
        "looks delimited by ';'",
        "`delimiter`",
    ),
    train("another delimiter inside", "text,label\na,b,c\n", "line 2: 3 columns where 2", "check its delimiter"),
    train("too few columns", "text,label\na,bad\nb\n", "line 3: 1 columns where 2 are expected", "check its delimiter"),
    train(
        "open quote",
        'text,label\na,bad\n"c,d\ne,f\n',
        "line 3: a quote is not closed",
        "unless the keys `delimiter`, `quoting`",
    ),
    train("quote inside", 'text,label\n"a"b,c\n', "line 2: a quote", "double it"),
    train("NUL byte", b"text,label\na\0,b\n", "line 2: holds a NUL byte", "save it as UTF-8 text"),
    train("latin-1", b"text,label\na\xff,b\n", "line 2: no UTF-8 text (byte 0xff)", "Save it as UTF-8"),
    train("UTF-16", TRAIN.encode("utf-16"), "no UTF-8 text (byte 0xff)", "Save it as UTF-8"),
    train("missing label column", "text,lable\na,bad\n", "no column 'label'", "Did you mean 'lable'?"),
    train("missing text column", "body,label\na,bad\n", "no column 'text'", "it has: body, label"),
    train("column twice", "text,text\na,b\n", "column 'text' stands there twice", "rename one"),
    train(
        "unknown label", "text,label\na,bad\nb,godd\n", "line 3: unknown label 'godd'", "mean 'good'?", "label: {map:"
    ),
    train("empty text", "text,label\n,bad\nb,good\n", "line 2: the text (text) is empty", "fill or remove the row"),
    train("one label only", "text,label\na,bad\nb,bad\nc,bad\nd,bad\n", "label 'good' has 0", "needs more rows of it"),
    train(
        "too few",
        "text,label\na,bad\nb,good\nc,bad\nd,good\n",
        "per_label=2",
        "'bad' has 2",
        "--per-label 1 is possible",
    ),
    train("one text many times", "text,label\n" + "a,bad\nb,good\n" * 50, "has 1 distinct examples", "more rows of it"),
    train("gz that is none", ROWS, "no whole gzip file", "drop .gz from its name", file="train.csv.gz"),
    train("cut gz", gzip.compress(TRAIN.encode())[:-9], "no whole gzip file", "fetch it again", file="train.csv.gz"),
    train("gz without its name", gzip.compress(ROWS), "looks gzipped: name it .gz"),
    train("format of no name", "a", "unknown file format", "Did you mean '.csv'?", file="train.cvs"),
    train("no parquet", b"PAR1 not really", "no parquet file", file="train.parquet"),
    train("cut JSON", '{"text": "a", "label": "bad"}\n{"text"', "line 2: no JSON", file="train.jsonl"),
    train(
        "no label in JSON",
        '{"text": "a", "label": null}\n',
        "line 1: the label is empty",
        'drop: [""]',
        file="train.jsonl",
    ),
    train("list in JSON", "[1]\n", "line 1: each line must be an object", file="train.jsonl"),
    train(
        "no text in JSON",
        '{"text": [1], "label": "bad"}\n',
        "line 1: column 'text' holds [1], no text",
        file="train.jsonl",
    ),
    train("half a pair", '{"text": "\\ud800", "label": "bad"}\n', "line 1: holds \\u escapes", file="train.jsonl"),
    train("NUL in JSON", '{"text": "a\\u0000", "label": "bad"}\n', "line 1: holds \\u escapes", file="train.jsonl"),
    jsonl("OOD label", '{"body": "x", "mood": 7}\n', "line 1: unknown label '7'", 'label: {drop: ["7"]}'),
    jsonl("OOD without column", '{"bdy": "x", "mood": 1}\n', "no column 'body'", "Did you mean 'bdy'?"),
    Case("data: folder for a file", ("train.csv: this is a folder, not a file",), make=folder_for_a_file),
    Case("data: link out of the folder", ("train.csv", "leads out of", "--allow-outside"), make=link_out),
    *(
        Case(
            f"data: {kind}",
            (f"odd.csv: this is a {kind}",),
            task=ODD,
            make=odd(kind),
        )
        for kind in ("pipe (FIFO)", "socket")
    ),
    Case(
        "data: device",
        ("odd.csv: this is a device",),
        {"allow-outside": "true"},
        task=ODD,
        make=odd("device"),
    ),
    Case("data: loop", ("odd.csv: cannot be",), task=ODD, make=odd("loop")),
    Case("data: data_dir of 5,000 characters", ("x... (5,000 characters): no such folder",), {"data-dir": "x" * 5000}),
    Case("data: no such data_dir", ("data_dir=nowhere: no such folder", "--data-dir"), {"data-dir": "nowhere"}),
    Case("data: empty data_dir", ("no file of it lies in sub", "looked for", "train.csv"), {"data-dir": "sub"}),
]
