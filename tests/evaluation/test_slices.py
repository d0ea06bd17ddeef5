"""Every value of a dimension is a slice of its own, and no slice is taken for the whole set."""

from pathlib import Path

from effft.config import make_config
from effft.runs.experiment import run
from effft.runs.session import Session
from effft.tracking.tracker import MemoryTracker

TASK = """
fields: [text]
labels: ["0", "1"]
train: train.csv
in_domain: train.csv
ood: {topics: {file: topics.csv, slices: [topic, face]}}
"""
TOPICS = ("films & tv", "films_tv", "films + tv", "", " ", "_", "..", "a/b", "slice", "macro_f1", "x" * 300, "x" * 301)
FACES = ("\N{GRINNING FACE}", "\N{CRYING FACE}", "accuracy")


def test_kind_1_names_that_look_alike_stay_apart(tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text(TASK)
    rows = [f"{text},{number % 2}" for number, text in enumerate("author judge doctor actor artist banker".split())]
    (tmp_path / "train.csv").write_text("\n".join(["text,label", *rows]))
    counts = {topic: number + 1 for number, topic in enumerate(TOPICS)}
    lines = [
        f"the {word},{number % 2},{topic},{FACES[number % 3]}"
        for topic, count in counts.items()
        for number, word in enumerate(["laughs", "judge", "today", "old"] * count)
    ]
    (tmp_path / "topics.csv").write_text("\n".join(["text,label,topic,face", *lines]), encoding="utf-8")
    values = {"strategy": "probe", "task": str(tmp_path / "task.yaml"), "per_label": 1, "epochs": 1, "bootstrap": 0}
    metrics = run(make_config(values), MemoryTracker(), Session(keep=False)).metrics
    start = "ood/topics/slice/"
    sizes = {key: value for key, value in metrics.items() if key.startswith(start) and key.endswith("/examples")}
    topics = sorted(value for key, value in sizes.items() if key.startswith(f"{start}topic"))
    blank = 4 * (counts[""] + counts[" "])
    assert topics == sorted([*(4 * count for topic, count in counts.items() if topic.strip()), blank])
    assert len([key for key in sizes if key.startswith(f"{start}face")]) == len(FACES)
    assert metrics["ood/topics/examples"] == len(lines)
    accuracies = {key: metrics[key.replace("/examples", "/accuracy")] * size for key, size in sizes.items()}
    worst = min(metrics[key.replace("/examples", "/accuracy")] for key in sizes)
    assert metrics["ood/topics/worst_slice_accuracy"] == worst
    assert metrics["in_domain/worst_slice_accuracy"] <= metrics["in_domain/accuracy"]  # no slices: of the two labels
    whole = sum(value for key, value in accuracies.items() if key.startswith(f"{start}face"))
    assert abs(metrics["ood/topics/accuracy"] * len(lines) - whole) < 1e-6


def test_the_worst_slice_chooses_the_epoch_and_is_what_a_search_maximizes(tmp_path: Path) -> None:
    from place import make_place

    from effft.search.jobs import TrainingJob, measure

    place = make_place(tmp_path, "llama")
    values = {"strategy": "vanilla", "task": str(place / "task.yaml"), "model": str(place / "llama"), "per_label": 8}
    values |= {"epochs": 4, "bootstrap": 0, "metric": "worst_slice_accuracy", "selection": "validation"}
    tracker = MemoryTracker()
    found = run(make_config(values), tracker, Session(keep=False))
    courses = [v["train/validation_worst_slice_accuracy"] for _, v in tracker.history if "train/validation_mcc" in v]
    assert found.primary == "worst_slice_accuracy"
    assert found.metrics["validation/worst_slice_accuracy"] == max(courses)
    assert measure(TrainingJob(make_config(values), (0, 2, 0)), Session()).failure == ""
