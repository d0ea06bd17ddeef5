"""A task made of a file alone: what is found, what is asked for, and that its YAML gives the same run."""

import csv
import gzip
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from backbones import WORDS, save_backbone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from place import write_rows

from effft.api import adapt
from effft.config import make_config
from effft.data.examples import UNLABELLED
from effft.data.files import FORMATS
from effft.errors import InputError
from effft.runs.experiment import run
from effft.runs.plan import prepare
from effft.runs.session import Session
from effft.spellings import DATA_FILE
from effft.tasks.from_data import as_yaml, task_from_data, task_name
from effft.tasks.loading import content_digest, read_split
from effft.tasks.task import Task, load_task, propose_words
from effft.tracking.tracker import MemoryTracker

LONG = "a rather long text with number"


def write(path: Path, columns: dict[str, list[str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(columns)
        out.writerows(zip(*columns.values(), strict=True))
    return path


def made(data: Path | str, **values: object) -> Task:
    return task_from_data(make_config({"data": str(data), "test": str(data), **values}))


def texts(count: int) -> list[str]:
    return [f"{LONG} {number}" for number in range(count)]


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        (("text", "label"), (("text",), "label")),
        (("id", "Review", "Stars"), (("Review",), "Stars")),
        (("hypothesis", "premise", "label"), (("premise", "hypothesis"), "label")),
        (("writing", "mood"), (("writing",), "mood")),  # by what they hold
    ],
)
def test_columns_are_found(tmp_path: Path, columns: tuple[str, ...], found: tuple[tuple[str, ...], str]) -> None:
    values = {name: texts(6) if name in found[0] else [str(n) for n in range(6)] for name in columns}
    values[found[1]] = ["good", "bad"] * 3
    task = made(write(tmp_path / "a.csv", values))
    assert task.labels == ("bad", "good")
    columns_read = tuple(column for f in task.fields for column in task.train.sources[0].fields.get(f, (f,)))
    assert (columns_read, task.train.sources[0].label.column) == (found[0], (found[1],))
    example = read_split(task, "train").examples[0]
    assert (example.texts, example.label) == ((f"{LONG} 0",) * len(found[0]), 1)


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet", "csv.gz"])
def test_every_format_gives_the_same_examples(tmp_path: Path, ending: str) -> None:
    rows = [{"text": f"{LONG} {n}", "label": n % 3} for n in range(12)]
    path = tmp_path / f"rows.{ending}"
    if ending == "parquet":
        import pandas as pd

        pd.DataFrame(rows).to_parquet(path)
    else:
        mark = "\t" if ending == "tsv" else ","
        lines = ["text,label".replace(",", mark)] + [f"{row['text']}{mark}{row['label']}" for row in rows]
        lines = [json.dumps(row) for row in rows] if ending == "jsonl" else lines
        content = ("\n".join(lines) + "\n").encode()
        path.write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
    task = made(path)
    assert (task.name, task.labels) == ("rows", ("0", "1", "2"))
    assert [(e.texts[0], e.label) for e in read_split(task, "train").examples] == [
        (row["text"], row["label"]) for row in rows
    ]


def test_the_formats_are_those_of_the_reader() -> None:
    assert all(DATA_FILE.fullmatch(f"x{suffix}{zipped}") for suffix in FORMATS for zipped in ("", ".gz"))


CHARACTERS = st.characters(exclude_categories=("Cs",), exclude_characters="\0")
LABEL = st.text(CHARACTERS, min_size=1, max_size=12).map(str.strip).filter(bool)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(labels=st.lists(LABEL, min_size=2, max_size=12, unique=True), column=LABEL, label=LABEL)
def test_the_yaml_is_the_same_task(tmp_path: Path, labels: list[str], column: str, label: str) -> None:
    """Whatever labels and columns are called: braces, emoji, `no`, numbers, with line ends and control characters."""
    if column == label or "," in column or label in labels:
        return
    rows = 2 * len(labels)
    data = write(tmp_path / "rows.csv", {column: texts(rows), label: labels * 2, f"{column}{label}n": ["1"] * rows})
    task = made(data, text=column, label=label, ood=str(data))
    (tmp_path / "task.yaml").write_text(as_yaml(task, tmp_path), encoding="utf-8")
    again = load_task(str(tmp_path / "task.yaml"))
    assert again.model_dump() == task.model_dump()
    assert set(again.labels) == set(labels)
    assert content_digest(again) == content_digest(task)
    assert task.pattern().count("{") >= 1


@pytest.mark.parametrize("columns", [{"text": texts(6)}, {"title": texts(6), "description": texts(7)[1:]}])
@pytest.mark.parametrize("labels", [["good", "bad"], ["1", "2"]])
@pytest.mark.parametrize("label", ["", "named"])
def test_a_file_that_begins_with_a_row_is_refused(
    tmp_path: Path, columns: dict[str, list[str]], labels: list[str], label: str
) -> None:
    """It would teach without its first row, and the pattern would ask with a label."""
    rows = columns | {"label": labels * 3}
    assert len(read_split(made(write(tmp_path / "a.csv", rows)), "train")) == 6
    bare = tmp_path / "bare.csv"
    bare.write_text("".join((tmp_path / "a.csv").read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(InputError, match=r"bare.csv: it begins with a row \('(good|1)' is a label\)"):
        made(bare, label=label and labels[0], text=label and f"{LONG} 0")


@pytest.mark.parametrize(
    ("ending", "quoting", "said"),
    [("tsv", csv.QUOTE_MINIMAL, 3), ("txt", csv.QUOTE_ALL, 6), ("tsv", csv.QUOTE_NONE, 0), ("csv", csv.QUOTE_ALL, 0)],
)
def test_quotes_that_enclose_texts_where_they_are_text_are_told(
    tmp_path: Path, ending: str, quoting: int, said: int
) -> None:
    path = tmp_path / f"rows.{ending}"
    rows = [(f'they said "{text}"' if n % 2 else text, "ab"[n % 2]) for n, text in enumerate(texts(6))]
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter="," if ending == "csv" else "\t", quoting=quoting, quotechar=None if
                   quoting == csv.QUOTE_NONE else '"').writerows([("text", "label"), *rows])  # fmt: skip
    told = [note for note in made(path, test="").notes if "texts in quotes" in note]
    assert [note.split()[0] for note in told] == [str(said)] * bool(said)


def test_labels_of_a_sorted_file_are_found(tmp_path: Path) -> None:
    """The first rows all have one label, which told that another column has the labels."""
    columns = {"words": texts(6000), "mood": ["bad"] * 3000 + ["good"] * 3000, "n": ["x"] * 6000}
    assert made(write(tmp_path / "a.csv", columns)).labels == ("bad", "good")
    columns["n"] = ["x", "y"] * 3000
    with pytest.raises(InputError, match="'mood' and 'n' could all be the label"):
        made(write(tmp_path / "b.csv", columns))


@pytest.mark.parametrize("mark", [";", "|", "\t"])
def test_another_delimiter_is_told(tmp_path: Path, mark: str) -> None:
    good = write(tmp_path / "good.csv", {"text": texts(6), "label": ["x", "y"] * 3})
    (bad := tmp_path / "bad.csv").write_text(good.read_text().replace(",", mark))
    for values in ({"data": bad}, {"data": bad, "text": "text"}, {"data": good, "test": str(bad)}):
        with pytest.raises(InputError, match=re.escape(f"It looks delimited by {mark!r}")):
            made(**values)


def test_rows_of_objects_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = zip(texts(6), ["x", "y"] * 3, strict=True)
    path.write_text("".join(json.dumps({"data": {"text": t}, "meta": {"label": x}}) + "\n" for t, x in rows))
    with pytest.raises(InputError, match="Objects stand in 'data' and 'meta'; write their values as keys of the row"):
        made(path)


@given(labels=st.lists(LABEL, min_size=2, max_size=12, unique=True))
def test_each_label_gets_a_word_of_its_own(labels: list[str]) -> None:
    words = propose_words(labels)
    assert list(words) == labels
    assert len(set(words.values())) == len(labels)
    assert all(word.startswith(" ") and word.strip() for word in words.values())


def test_words_are_the_names_read_aloud() -> None:
    names = ["very_good", "👍", "❤️", "3", "c++"]
    assert list(propose_words(names).values()) == [" very good", " thumbs up sign", " heavy black heart", " 3", " c++"]
    assert propose_words(["a_b", "a b", "c"]) == {"a_b": " a_b", "a b": " a b", "c": " c"}


@pytest.mark.slow
def test_150_labels_of_any_name(tmp_path: Path, tracking_uri: str) -> None:
    """Emoji, spaces, braces, the same beginning, numbers: trained, logged, saved, and scored as words."""
    odd = ["👍", "{x}", "a/b", "=1", "probability", "no", "1.50", "ä b"]
    labels = [*odd, *(f"{a} {b}" for a in WORDS[:13] for b in WORDS[:11])][:150]
    save_backbone(tmp_path / "llama", "llama")
    data = write(tmp_path / "rows.csv", {"text": texts(300), "label": labels * 2})
    base = {"model": "llama", "per_label": 1, "bootstrap": 0, "evaluation_limit": 150}
    made = adapt("probe", data, test=data, epochs=1, tracking_uri=tracking_uri, log_model=True, **base)
    assert set(made.labels) == set(labels)
    assert made.predict_proba(texts(2)).shape == (2, 150)
    with pytest.raises(InputError, match="is unknown to the vocabulary"):
        adapt("zero_shot", data, test=data, no_tracking=True, **base)
    words = [f"{a} {b}" for a in WORDS[:15] for b in WORDS[:10]]
    known = write(tmp_path / "known.csv", {"text": texts(300), "label": words * 2})
    shown = adapt("zero_shot", known, test=known, no_tracking=True, **base)
    assert len(np.unique(shown.predict_proba(texts(1)))) > 100


def test_a_file_runs_as_its_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics, predictions and the digest of the task are equal, also where YAML and data lie in other folders."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for number, name in enumerate(("train", "test")):
        write_rows(tmp_path / "data" / f"{name}.csv", 40, number, 6)
    save_backbone(tmp_path / "llama", "llama")
    base = {"model": "llama", "per_label": 4, "epochs": 1, "strategy": "probe", "bootstrap": 20}
    data = {"data": "data/train.csv", "test": "data/test.csv"}
    for place in ("data", "."):
        yaml = as_yaml(task_from_data(make_config(data)), (tmp_path / place).resolve())
        (tmp_path / place / "task.yaml").write_text(yaml)
    results = []
    for values in (data, {"task": "data/train.csv", "test": "data/test.csv"}, {"task": "data/task.yaml"}):
        tracker = MemoryTracker()
        result = run(make_config({**base, **values}), tracker, Session(keep=False))
        results.append((result.metrics["in_domain/accuracy"], result.tables, tracker.tag_values["task_digest"]))
    elsewhere = run(make_config({**base, "task": "task.yaml"}), MemoryTracker(), Session(keep=False))
    assert results[0] == results[1] == results[2]
    assert elsewhere.tables == results[0][1]


def test_rows_without_a_label_are_left_out_and_told(tmp_path: Path) -> None:
    task = made(write(tmp_path / "a.csv", {"text": texts(6), "label": ["x", "y", "", "x", "y", ""]}))
    assert len(read_split(task, "train")) == 4
    assert "2 rows" in task.notes[1]


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_a_label_that_is_nan_is_none(tmp_path: Path, ending: str) -> None:
    path, columns = tmp_path / f"a.{ending}", {"text": texts(6), "label": [1.0, 2.0, float("nan")] * 2}
    if ending == "parquet":
        pq.write_table(pa.table(columns), path)  # pandas would write null
    else:
        rows = [{"text": text, "label": label} for text, label in zip(*columns.values(), strict=True)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = made(path, test="")
    assert task.labels == ("1", "2")
    assert len(read_split(task, "unlabelled")) == 2


def test_labels_that_are_numbers_are_in_their_order(tmp_path: Path) -> None:
    task = made(write(tmp_path / "a.csv", {"text": texts(24), "label": [str(n % 12) for n in range(24)]}))
    assert task.labels == tuple(map(str, range(12)))


def test_files_of_other_folders_and_of_the_usual_columns(tmp_path: Path) -> None:
    data = write(tmp_path / "a.csv", {"body": texts(4), "stars": ["1", "2"] * 2})
    (tmp_path / "far").mkdir()
    other = write(tmp_path / "far" / "a.csv", {"text": texts(2), "label": ["2", "1"]})
    task = made(data, ood=f"{data},{other}")
    assert set(task.ood) == {"a", "a-2"}
    assert [e.label for e in read_split(task, "ood/a-2").examples] == [1, 0]


def test_names(tmp_path: Path) -> None:
    assert task_name("x/my reviews (2).csv.gz") == "my-reviews--2"
    assert task_name("hf://datasets/owner/Data.set@main:train") == "Data.set"
    assert task_name("cola") == "cola"
    assert task_name("👍.csv") == "data"
    for file, name in {
        "trec/Train.csv.gz": "trec",
        "trec/../imdb/test.tsv": "imdb",
        "trec/trained.csv": "trained",
    }.items():
        assert task_name(f"{tmp_path}/{file}") == name


def test_data_is_the_task() -> None:
    assert make_config({"task": "a.csv", "text": "x"}) == make_config(
        {"task": "agreement", "data": "a.csv", "text": "x"}
    )
    assert make_config({"data": "owner/set"}).task == "hf://datasets/owner/set"
    assert make_config({"data": "set"}).data == "hf://datasets/set"
    with pytest.raises(InputError, match="give one of the two"):
        make_config({"task": "cola", "data": "a.csv"})
    with pytest.raises(InputError, match="label=x: it belongs to --data"):
        make_config({"label": "x"})


def test_files_without_labels(tmp_path: Path) -> None:
    """An OOD file may have none; rows of --data without a label are kept as unlabelled texts, also in the YAML."""
    data = write(tmp_path / "a.csv", {"text": texts(6), "label": ["x", "y", "", "x", "y", ""]})
    blank = write(tmp_path / "b.csv", {"text": texts(3), "n": ["1"] * 3})
    task = made(data, ood=str(blank))
    assert [example.label for example in read_split(task, "ood/b").examples] == [UNLABELLED] * 3
    assert [example.texts[0] for example in read_split(task, "unlabelled").examples] == [f"{LONG} 2", f"{LONG} 5"]
    (tmp_path / "task.yaml").write_text(as_yaml(task, tmp_path))
    assert load_task(str(tmp_path / "task.yaml")).model_dump() == task.model_dump()
    assert "label: none" in (tmp_path / "task.yaml").read_text()


def test_other_files_that_lack_labels_say_so(tmp_path: Path) -> None:
    data = write(tmp_path / "a.csv", {"text": texts(6), "label": ["x", "y"] * 3})
    half = write(tmp_path / "half.csv", {"text": texts(4), "label": ["x", "", "y", ""]})
    none = write(tmp_path / "none.csv", {"text": texts(3), "label": [""] * 3})
    task = made(data, test=str(half), ood=f"{half},{none}")
    assert sum("2 rows of" in note and "lack a label and are left out" in note for note in task.notes) == 2
    assert [e.label for e in read_split(task, "in_domain").examples] == [0, 1]
    assert [e.label for e in read_split(task, "ood/none").examples] == [UNLABELLED] * 3
    with pytest.raises(InputError, match=r"none.csv: no row has a label in column 'label'"):
        made(data, test=str(none))


def test_rows_that_lack_one_of_several_labels_are_left_out_and_every_split_can_be_read(tmp_path: Path) -> None:
    flags = {"a": ["1", "0", "1", "0", "1", "0"], "b": ["0", "1", "1", "0", "", ""]}
    task = made(write(tmp_path / "a.csv", {"text": texts(6), **flags}), label="a,b", test="")
    assert {name: len(read_split(task, name)) for name in task.split_names} == {"train": 4}
    assert any("2 rows" in note and "left out" in note for note in task.notes)


def test_a_distilled_student_reads_the_unlabelled_texts_of_the_task(tmp_path: Path) -> None:
    for number, name in enumerate(("train", "test")):
        write_rows(tmp_path / f"{name}.csv", 40, number, 6)
    more = write(tmp_path / "more.csv", {"text": [f"old dogs see the cat {word}" for word in WORDS]})
    save_backbone(tmp_path / "llama", "llama")
    values = {"data": str(tmp_path / "train.csv"), "test": str(tmp_path / "test.csv")}
    yaml = as_yaml(task_from_data(make_config(values)), tmp_path)
    yaml = yaml.replace("' with dog'", "' dog'").replace("' without'", "' cat'")
    (tmp_path / "task.yaml").write_text(f"{yaml}unlabelled: {more.name}\n")
    base = {"task": str(tmp_path / "task.yaml"), "model": str(tmp_path / "llama"), "per_label": 2, "teacher_shots": 2}
    config = make_config({**base, "strategy": "context_distillation", "unlabelled": 10, "epochs": 1, "bootstrap": 0})
    plan = prepare(config, Session())
    assert len(plan.unlabelled) == 10
    assert {example.texts[0].rpartition(" ")[0] for example in plan.unlabelled} == {"old dogs see the cat"}
    assert run(config, MemoryTracker(), Session()).metrics["in_domain/examples"] == 40


@pytest.mark.parametrize(
    ("column", "values", "order", "found"),
    [
        ("stars", "1 2 10", "", ("1", "2", "10")),
        ("stars", "1 5", "", None),  # two labels have no order to measure
        ("topic", "1 2 3", "", None),
        ("topic", "low medium high", "low,medium,high", ("low", "medium", "high")),
    ],
)
def test_an_order_of_labels_is_found_or_given(
    tmp_path: Path, column: str, values: str, order: str, found: tuple[str, ...] | None
) -> None:
    labels = values.split() * 4
    data = write(tmp_path / "a.csv", {"text": texts(len(labels)), column: labels})
    task = made(data, ordinal=order, test="")
    assert (task.labels if task.ordinal else None) == found
    assert ("quadratic_kappa" in task.metrics) == ("ordinal: true" in as_yaml(task, tmp_path)) == (found is not None)
    for wrong in (f"{order},{order}" if order else "1,2,3,4,5", "high"):
        with pytest.raises(InputError, match="every label once"):
            made(data, ordinal=wrong)


@pytest.mark.parametrize("odd", ["a", [["a"], ["b"]]])
def test_a_label_column_that_holds_some_lists_holds_lists(tmp_path: Path, odd: object) -> None:
    path = tmp_path / "rows.jsonl"
    labels = [["a"], ["b"], odd, ["a", "b"]] * 3
    path.write_text(
        "".join(json.dumps({"text": t, "labels": s}) + "\n" for t, s in zip(texts(12), labels, strict=True))
    )
    with pytest.raises(InputError, match=r"line 3: column 'labels' holds .* no list of labels; write"):
        made(path, test="")


@pytest.mark.parametrize("odd", ["half a pair \ud83d", "NUL \0"])
@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_label_in_a_list_that_no_file_can_hold_is_refused(tmp_path: Path, ending: str, odd: str) -> None:
    columns = {"text": texts(12), "tags": [json.dumps(tags) for tags in [["a"], ["b"], ["a", odd]] * 4]}
    path = tmp_path / f"rows.{ending}"
    if ending == "csv":
        write(path, columns)
    else:
        rows = zip(*columns.values(), strict=True)
        path.write_text("".join(f'{{"text": "{text}", "tags": {tags}}}\n' for text, tags in rows))
    with pytest.raises(InputError, match=r"label '(half a pair|NUL) .* is no text"):
        made(path, test="")


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("columns", [False, True])
def test_several_labels_are_found_or_named(tmp_path: Path, ending: str, columns: bool) -> None:
    sets = [["b"], [], ["a", "b"], ["a"]] * 3
    own = [{"a": int("a" in s), "b": int("b" in s)} if columns else {"tags": s} for s in sets]
    rows = [{"text": text} | values for text, values in zip(texts(12), own, strict=True)]
    path = tmp_path / f"rows.{ending}"
    if ending == "parquet":
        import pandas as pd

        pd.DataFrame(rows).to_parquet(path)
    elif ending == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        shown = {name: [str(row[name]) for row in rows] for name in rows[0]}  # lists as Python writes them
        write(path, shown)
    if columns:
        with pytest.raises(InputError, match="or several that are 1 or 0: --label a,b"):
            made(path)
    task = made(path, label="a,b" if columns else "", test="")
    assert (task.labels, task.multi_label, task.metrics[0]) == (("a", "b"), True, "macro_f1")
    examples = read_split(task, "train").examples
    assert [list(map(str, task.named(e.label))) for e in examples] == sets
    (tmp_path / "task.yaml").write_text(as_yaml(task, tmp_path))
    assert read_split(load_task(str(tmp_path / "task.yaml")), "train").digest == read_split(task, "train").digest
