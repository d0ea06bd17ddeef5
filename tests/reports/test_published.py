"""The typed table against the runs it was typed from, and what stands beside ours."""

import csv
from collections import defaultdict
from pathlib import Path
from statistics import fmean

import pytest
from mlflow import MlflowClient
from runs import log

from effft.reports.published import FILE, STRATEGIES, published
from effft.reports.report import build
from effft.strategies.strategy import compose
from effft.tasks.task import load_task
from effft.tracking.reading import RunReader

KEY = ("task", "ood", "strategy", "model", "per_label", "rank")


def test_every_row_is_the_mean_of_its_distinct_runs(shared: Path) -> None:
    results: dict[tuple[str, ...], list[tuple[float, float]]] = defaultdict(list)
    for path in sorted((shared / "published").glob("*.csv")):
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                numbers = float(row["in_domain_accuracy"]), float(row["ood_accuracy"])
                results[tuple(row[k] for k in KEY)].append(numbers)
    with FILE.open(newline="") as file:
        typed = {tuple(row[k] for k in KEY): row for row in csv.DictReader(file)}
    assert set(typed) == set(results)
    for key, found in results.items():
        row, distinct = typed[key], sorted(set(found))
        assert (int(row["runs"]), int(row["distinct_runs"])) == (len(found), len(distinct)), key
        for place, name in enumerate(("in_domain_accuracy", "ood_accuracy")):
            mean = fmean(pair[place] for pair in distinct)
            assert float(row[name]) == pytest.approx(mean, abs=5.1e-5), (key, name)  # typed with four digits


def test_names_are_ours() -> None:
    for row in published():
        assert row.ood in (*load_task(row.task).ood, "mnli_mismatched")
        compose(STRATEGIES[row.strategy])


def beside(client: MlflowClient, strategy: str, task: str = "cola", **other: object) -> str:
    home = client.get_experiment_by_name(f"effft/{task}")
    place = str(home.experiment_id if home else client.create_experiment(f"effft/{task}"))
    for seed in (0, 1):
        log(client, place, strategy, seed, task=task, **{"backbone": "facebook/opt-125m", "per_label": 32, **other})
    text = build(RunReader(client), task).files["report.md"]
    return text.partition("## Beside published results")[2].partition("\n## ")[0]


def test_what_matches_stands_beside_with_what_differs(client: MlflowClient) -> None:
    text = beside(client, "vanilla", settings={"resolved.learning_rate": "0.00005", "resolved.epochs": "20"})
    row = next(
        line for line in text.splitlines() if line.startswith("| vanilla / vanilla | 32 | 10 (2) | 0.568 | 0.675")
    )
    assert row.endswith("| cola\\_ood | 0.567 | - | learning rate 0.00005, epochs 20 |")
    assert "learning rate 1e-5" in text
    assert "arXiv 2405.13181" in text


@pytest.mark.parametrize(
    "other", [{"per_label": 8}, {"backbone": "facebook/opt-1.3b"}, {"task": "rte"}, {"strategy": "bitfit"}]
)
def test_what_does_not_match_is_not_beside(client: MlflowClient, other: dict[str, object]) -> None:
    strategy = str(other.pop("strategy", "vanilla"))
    assert beside(client, strategy, str(other.pop("task", "cola")), **other) == ""


@pytest.mark.slow
def test_a_rank_or_a_depth_stands_beside_its_own(client: MlflowClient) -> None:
    text = beside(client, "lora", rank="4")
    assert "| lora r4 / lora | 32 |" in text
    assert "r8" not in text
    text = beside(client, "adaptive", settings={"resolved.layers": "2"})
    assert "adaptive\\_top2 / adaptive" in text
    assert "adaptive\\_top1" not in text
