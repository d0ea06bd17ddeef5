import pytest

from effft.errors import InputError
from effft.tasks.loading import missing_ood, read_split
from effft.tasks.task import known_tasks, load_task

OWN = """\
name: mood
fields: [text]
labels: [bad, good]
label_words: {bad: " No", good: " Yes"}
patterns: {minimal: "{text} Good?"}
train: train.csv
in_domain: {file: test.csv, slices: [label, [label, kind]]}
ood:
  tweets: {file: sub/tweets.jsonl, fields: {text: body}, label: {column: mood, map: {"-1": bad, "1": good}, drop: "0"}}
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "train.csv").write_text("text,label\nawful,bad\nlovely,good\n")
    (tmp_path / "test.csv").write_text("kind,text,label\na,meh,bad\nb,yes,good\n")
    (tmp_path / "sub" / "tweets.jsonl").write_text('{"body": "x", "mood": 0}\n{"body": "y", "mood": -1.0}\n')
    path = tmp_path / "mood.yaml"
    path.write_text(OWN)
    return path


def test_a_task_of_ones_own_in_ten_lines(own):
    task = load_task(str(own))
    assert len(OWN.splitlines()) <= 10
    assert (task.metric, task.ordered_label_words, task.pattern()) == ("accuracy", (" No", " Yes"), "{text} Good?")
    assert task.split_names == ("train", "in_domain", "ood/tweets")
    assert [(e.texts, e.label) for e in read_split(task, "train").examples] == [(("awful",), 0), (("lovely",), 1)]
    assert read_split(task, "in_domain").examples[0].slices == (("label", "bad"), ("kind", "a"))
    (tweet,) = read_split(task, "ood/tweets").examples
    assert (tweet.texts, tweet.label, tweet.index) == (("y",), 0, 1)
    assert missing_ood(task) == []


def test_data_dir_replaces_the_folder(own, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "train.csv").write_text("text,label\nx,good\n")
    task = load_task(str(own))
    assert read_split(task, "train", str(other)).origin == str(other / "train.csv")
    assert missing_ood(task, str(other)) == ["tweets"]
    with pytest.raises(InputError, match=r"in_domain: no file of it lies in .*other; looked for .*test.csv"):
        read_split(task, "in_domain", str(other))
    with pytest.raises(InputError, match="no such folder"):
        read_split(task, "train", str(tmp_path / "nowhere"))


def test_splits_may_stand_together(own):
    own.write_text("fields: text\nlabels: [no, yes]\nsplits: {train: a.csv, in_domain: b.csv}\n")
    task = load_task(str(own))
    assert (task.name, task.labels, task.ordered_label_words) == ("mood", ("no", "yes"), (" no", " yes"))
    with pytest.raises(InputError, match="has no patterns"):
        task.pattern()


@pytest.mark.parametrize("name", sorted(known_tasks()))
def test_the_tasks_of_this_package(name):
    task = load_task(name)
    assert task.name == name
    assert len(task.ordered_label_words) == len(task.labels)
    assert task.ood or name == "questions"
    assert all(task.pattern(p) for p in ("", *task.patterns))


@pytest.mark.parametrize("name", ["cola", "mnli", "rte", "qqp"])
def test_published_patterns_and_polarity(name):
    task = load_task(name)
    known = ["minimal", "eval-harness"] if name == "qqp" else ["minimal", "gpt-3", "eval-harness", "published"]
    assert list(task.patterns) == known
    yes = {"cola": "acceptable", "qqp": "duplicate"}.get(name, "entailment")
    assert task.label_words[yes] == " Yes"


def test_unknown_names():
    with pytest.raises(InputError, match=r"unknown task 'colla'.*Did you mean 'cola'"):
        load_task("colla")
    with pytest.raises(InputError, match="no such file"):
        load_task("nowhere/colla.yaml")
    with pytest.raises(InputError, match="Did you mean 'gpt-3'"):
        load_task("cola").pattern("gpt3")
    with pytest.raises(InputError, match="unknown split"):
        load_task("cola").split("ood/hans")


def test_rows_and_filters(own):
    own.write_text(OWN.replace("train.csv", "{file: test.csv, where: {kind: [b, c]}, rows: [1, 2]}", 1))
    assert [e.index for e in read_split(load_task(str(own)), "train").examples] == [1]


def test_bytes_reprs_are_undone(tmp_path):
    folder = tmp_path / "paws_qqp"
    folder.mkdir()
    (folder / "dev_and_test.tsv").write_text(
        "id\tsentence1\tsentence2\tlabel\n1\tb'What \\xc3\\xa9 ?'\tb\"I 'm\"\t0\n2\tplain\tb'x'\t1\n"
    )
    first, second = read_split(load_task("qqp"), "ood/paws_qqp", str(tmp_path)).examples
    assert first.texts == ("What é ?", "I 'm")
    assert second.texts == ("plain", "x")
    assert read_split(load_task("qqp"), "ood/paws_qqp", str(folder)).examples[0] == first
    assert missing_ood(load_task("qqp")) == ["paws_qqp"]
