"""What a run says of CoLA and HANS equals scikit-learn on the raw files, read here without effft."""

import csv
import gzip
import io
from collections import defaultdict
from pathlib import Path

import pytest
from backbones import save_backbone
from sklearn import metrics

from effft.config import make_config
from effft.evaluation.metric_keys import MetricKey
from effft.runs.experiment import Result, run
from effft.runs.session import Session
from effft.tracking.tracker import MemoryTracker

pytestmark = pytest.mark.slow
EQUAL = {"rel": 0, "abs": 1e-12}


def raw(path: Path, columns: list[str] | None = None) -> list[dict[str, str]]:
    """The rows of a tab-separated file without quotes."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    return list(csv.DictReader(io.StringIO(text, newline="\n"), columns, delimiter="\t", quoting=csv.QUOTE_NONE))


def go(folder: Path, data: Path, **values: object) -> Result:
    model = save_backbone(folder / "llama", "llama", positions=128)
    base = {"model": str(model), "data_dir": str(data), "per_label": 8, "epochs": 1, "bootstrap": 0, "max_length": 48}
    return run(make_config({**base, **values}), MemoryTracker(), Session(keep=False))


def compared(result: Result, split: str, gold: dict[int, str]) -> tuple[list[str], list[str]]:
    """Labels of the raw file and answers of the run, and the four figures of both."""
    table = result.tables[split]
    rows = [int(str(row)) for row in table["row"]]
    assert rows == list(gold)  # every example of the file, in its order
    labels, answers = list(gold.values()), [str(answer) for answer in table["answer"]]
    told = {name: result.metrics[f"{split}/{name}"] for name in ("accuracy", "balanced_accuracy", "mcc", "macro_f1")}
    assert told == pytest.approx(
        {
            "accuracy": metrics.accuracy_score(labels, answers),
            "balanced_accuracy": metrics.balanced_accuracy_score(labels, answers),
            "mcc": metrics.matthews_corrcoef(labels, answers),
            "macro_f1": metrics.f1_score(labels, answers, average="macro"),
        },
        **EQUAL,
    )
    assert len(set(answers)) == 2  # else most figures would be equal for nothing
    return labels, answers


def test_cola(shared: Path, tmp_path: Path) -> None:
    result = go(tmp_path, shared / "data", task="cola", strategy="lora")
    for split, name in (("in_domain", "in_domain_dev"), ("ood/cola_ood", "out_of_domain_dev")):
        rows = raw(shared / "data" / "cola" / f"{name}.tsv", ["source", "label", "mark", "sentence"])
        gold = {i: ("unacceptable", "acceptable")[int(row["label"])] for i, row in enumerate(rows)}
        labels, answers = compared(result, split, gold)
        assert [row["sentence"].strip() for row in rows] == result.tables[split]["sentence"]
        for source in {row["source"] for row in rows}:
            own = [i for i, row in enumerate(rows) if row["source"] == source]
            expected = metrics.accuracy_score([labels[i] for i in own], [answers[i] for i in own])
            key = str(MetricKey(split, "accuracy", (("source", source),)))
            assert result.metrics[key] == pytest.approx(expected, **EQUAL)
    gap = result.metrics["in_domain/mcc"] - result.metrics["ood/cola_ood/mcc"]
    assert result.metrics["ood/cola_ood/gap"] == pytest.approx(gap, **EQUAL)


def test_mnli_and_hans(shared: Path, tmp_path: Path) -> None:
    model = str(shared / "models" / "stories260K")
    result = go(tmp_path, shared / "data", task="mnli", strategy="probe", epochs=30, model=model)
    dev = raw(shared / "data" / "mnli" / "dev_matched.tsv.gz")
    two = {"entailment": "entailment", "contradiction": "not_entailment", "0": "entailment", "2": "not_entailment"}
    key = "gold_label" if "gold_label" in dev[0] else "label"
    compared(result, "in_domain", {i: two[row[key]] for i, row in enumerate(dev) if row[key] in two})
    rows = raw(shared / "data" / "hans" / "heuristics_evaluation_set.txt.gz")
    gold = {i: row["gold_label"].replace("non-entailment", "not_entailment") for i, row in enumerate(rows)}
    labels, answers = compared(result, "ood/hans", gold)
    slices: dict[str, list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        pairs = (("label", labels[i]), ("heuristic", row["heuristic"]), ("subcase", row["subcase"]))
        slices[str(MetricKey("ood/hans", "accuracy", pairs[:2]))].append(i)
        slices[str(MetricKey("ood/hans", "accuracy", pairs))].append(i)
    assert len(slices) == 36
    for key, own in slices.items():
        expected = metrics.accuracy_score([labels[i] for i in own], [answers[i] for i in own])
        assert result.metrics[key] == pytest.approx(expected, **EQUAL)
