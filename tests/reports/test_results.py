"""The table of results: what stands in a row, what is said of it, and that every form of it holds the same."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from runs import InMemory, stored

from effft.cli.output import print_results
from effft.config import make_config
from effft.evaluation.metrics import four_metrics
from effft.evaluation.statistics import uninformed_scores
from effft.reports.csv_files import outcomes_csv
from effft.reports.data import as_frame, select_runs
from effft.reports.groups import GAP, group_runs, with_variants
from effft.reports.measures import measures
from effft.reports.report import build
from effft.reports.results import COSTS, outcomes_table
from effft.reports.warnings import find_missing
from effft.runs.compare import Outcome
from effft.runs.experiment import Result
from effft.tracking.mlflow_tracker import MlflowTracker
from effft.tracking.reading import StoredRun


def outcome(strategy: str, seed: int = 0, score: float = 0.5, ood: float = 0.2, primary: str = "mcc") -> Outcome:
    metrics = {
        "resources/trainable_parameters": 10.0,
        "resources/total_parameters": 1000.0,
        "resources/peak_memory_mb": 2.0 + seed,
        "resources/train_seconds": 1.0 + seed,
        "resources/evaluation_seconds": 4.0,
    }
    for split, value in (("in_domain", score), ("ood/far", ood)):
        metrics |= {f"{split}/{primary}": value, f"{split}/majority": 0.6, f"{split}/chance": 0.5}
    config = make_config({"strategy": strategy, "seed": seed, "per_label": 32})
    return Outcome(config, Result(config, f"{strategy} {seed}", metrics, primary, ("far",), ()))


def failure(strategy: str, seed: int = 0) -> Outcome:
    config = make_config({"strategy": strategy, "seed": seed, "per_label": 32})
    return Outcome(config, None, f"{strategy} {seed}: RunError: the loss is nan.")


def test_a_row_has_means_spreads_gap_and_costs() -> None:
    (row,) = outcomes_table([outcome("lora", 0, 0.4, 0.1), outcome("lora", 1, 0.6, 0.3)]).rows
    in_domain, gap = row.group.score("in_domain"), row.group.score(GAP)
    assert in_domain is not None
    assert gap is not None
    assert (in_domain.mean, in_domain.sd) == (0.5, pytest.approx(0.1414, abs=1e-4))
    assert (in_domain.low, in_domain.high) == (pytest.approx(0.5 - 12.7062 * 0.1, abs=1e-4), 1.0)  # Student's t
    assert str(row.group.score("ood/far")).startswith("0.200 ± 0.141")
    assert (gap.mean, gap.sd) == (pytest.approx(0.3), pytest.approx(0, abs=1e-9))
    assert (len(row.group.runs), row.failed) == (2, 0)
    assert [row.group.median(key) for key in COSTS.values()] == [0.01, 2.5, 1.5, 4.0]


def test_draws_of_demonstrations_are_a_spread() -> None:
    first, second = outcome("icl", 0, 0.4), outcome("icl", 0, 0.6)
    config = second.config.model_copy(update={"demo_seed": 1})
    (row,) = outcomes_table([first, replace(second, config=config)]).rows
    in_domain = row.group.score("in_domain")
    assert in_domain is not None
    assert (len(row.group.runs), in_domain.mean, in_domain.sd) == (2, 0.5, pytest.approx(0.1414, abs=1e-4))


def test_stored_runs_differ_in_demo_seed_as_in_seeds_and_say_what_they_read() -> None:
    three = ("none", 0, 0.1), ("none", 1, 0.3), ("none", 1, 0.2)
    runs = [
        StoredRun(
            run_id=str(place), name="", status="FINISHED", started=place,
            tags={"strategy": "icl", "backbone": "m", "per_label": "8", "seed": "0", "data_seed": "0"},
            params={"calibration": how, "demo_seed": str(seed)}, given={"demo_seed": str(seed)},
            metrics={"in_domain/mcc": score},
        )
        for place, (how, seed, score) in enumerate([*three, ("batch", 0, 1.0)])
    ]  # fmt: skip
    plain, batch = group_runs(with_variants(as_frame(runs)), ["in_domain/mcc"])
    assert (plain.variant, batch.variant) == ("icl [calibration=none]", "icl [calibration=batch] transductive")
    assert sorted(plain.values("in_domain/mcc")) == [0.1, 0.2]
    assert plain.repeats == 1


def test_a_setting_that_only_some_runs_have_is_named_where_it_is() -> None:
    runs = [
        StoredRun(
            run_id=str(place), name="", status="FINISHED", started=place,
            tags={"strategy": "vanilla", "backbone": "m", "per_label": "8", "seed": "0", "data_seed": "0"},
            params=params, given={}, metrics={"in_domain/mcc": 0.5},
        )
        for place, params in enumerate([{"epochs": "20"}, {"epochs": "20", "soup": "3"}])
    ]  # fmt: skip
    names = {group.variant for group in group_runs(with_variants(as_frame(runs)), ["in_domain/mcc"])}
    assert names == {"vanilla", "vanilla [soup=3]"}


def test_a_single_run_has_no_spread() -> None:
    (row,) = outcomes_table([outcome("lora")]).rows
    assert str(row.group.score("in_domain")) == "0.500"


@pytest.mark.parametrize(
    ("primary", "score", "ood", "remarks"),
    [
        ("mcc", 0.0, 0.1, ("in domain at chance",)),
        ("mcc", 0.3, -0.1, ("ood/far below chance",)),
        ("accuracy", 0.55, 0.7, ("in domain below majority",)),
        ("accuracy", 0.6, 0.7, ("in domain at majority",)),
        ("accuracy", 0.61, 0.5, ("ood/far at chance",)),
        ("balanced_accuracy", 0.55, 0.51, ()),
    ],
)
def test_scores_that_need_no_knowledge_are_remarked(
    primary: str, score: float, ood: float, remarks: tuple[str, ...]
) -> None:
    (row,) = outcomes_table([outcome("lora", 0, score, ood, primary)]).rows
    assert row.remarks == remarks


def test_an_interval_that_holds_chance_is_at_chance() -> None:
    (row,) = outcomes_table([outcome("lora", 0, -0.1, 0.3), outcome("lora", 1, 0.3, 0.301)]).rows
    assert row.remarks == ("in domain at chance",)


def test_uninformed_scores_by_metric() -> None:
    assert uninformed_scores("accuracy", 0.7, 0.5, 2) == (0.7, 0.5)
    assert uninformed_scores("mcc", 0.7, 0.5, 2) == (0.0, 0.0)
    assert uninformed_scores("balanced_accuracy", 0.7, 0.5, 2) == (0.5, 0.5)
    assert uninformed_scores("macro_f1", 0.5, 0.5, 2)[0] == pytest.approx(1 / 3)
    for labels in ([0, 0, 0, 1], [0, 0, 2, 2], [1, 1, 1]):  # of four
        truth = np.array(labels)
        most = np.bincount(truth).argmax()
        scored = four_metrics(truth, np.full(len(truth), most), 4)
        for name in ("accuracy", "balanced_accuracy", "macro_f1"):
            known = uninformed_scores(name, np.bincount(truth).max() / len(truth), 1 / 4, len(set(labels)))
            assert known == (pytest.approx(scored[name]), 1 / 4)


def test_identical_results_count_once_and_are_named() -> None:
    table = outcomes_table([outcome("lora", 0), outcome("lora", 1), outcome("vanilla", 0)])
    assert table.warnings[0].startswith("lora at 32 per label on tiny-lm: 1 run has exactly the results")
    assert [len(row.group.runs) for row in table.rows] == [1, 1]
    assert outcomes_table([outcome("icl", 0), outcome("icl", 1)]).warnings == ()
    assert outcomes_table([outcome("lora", 0, 0.5), outcome("lora", 1, 0.51)]).warnings == ()


def test_every_form_of_the_table_holds_everything() -> None:
    outcomes = [outcome("lora+pbft", 0, 0.4), outcome("lora+pbft", 1, 0.6), outcome("vanilla", 0, 0.7)]
    outcomes.append(failure("vanilla", 1))
    table = outcomes_table(outcomes)
    block = table.block()
    assert block.heads[3:6] == ("in domain mcc", "ood/far", "gap")
    assert {len(row) for row in block.rows} == {len(block.heads)}
    assert [row[0] for row in block.rows] == ["vanilla", "lora+pbft", "majority", "chance"], "best first"
    assert block.rows[0][-1] == "1 FAILED"
    text = table.markdown()
    assert text.startswith("| strategy | per label |")
    assert text.endswith("- FAILED vanilla 1: RunError: the loss is nan.\n")
    found = json.loads(json.dumps(table.json(), allow_nan=False))
    assert found["rows"][1]["in_domain"]["mean"] == 0.5
    assert found["rows"][1]["ood"]["far"]["count"] == 2
    assert found["chance"] == {"in_domain": 0.0, "ood/far": 0.0}
    assert table.metrics()["lora-pbft/32/in_domain/mcc"] == 0.5
    assert table.metrics()["lora-pbft/32/in_domain/mcc_sd"] == pytest.approx(0.1414, abs=1e-4)
    assert table.metrics()["vanilla/32/failed"] == 1.0
    records = list(csv.DictReader(io.StringIO(outcomes_csv(outcomes))))
    assert [r["failure"] for r in records] == ["", "", "", "vanilla 1: RunError: the loss is nan."]
    assert records[1]["in_domain/mcc"] == "0.6"


@pytest.mark.parametrize("width", [80, 200])
def test_the_table_is_readable_at_the_width_of_the_terminal(width: int) -> None:
    out = io.StringIO()
    outcomes = [
        outcome(name, seed, score)
        for name in ("context_distillation", "lora+pbft")
        for seed, score in ((0, 0.1), (1, -0.2))
    ]
    print_results(outcomes_table(outcomes), Console(file=out, width=width))
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    assert max(map(len, lines)) <= width
    assert any(line.startswith("context_distillation ") and "± 0.212" in line and line.endswith("s") for line in lines)
    assert "context_distillation at 32 per label: in domain at chance." in lines
    assert ("evaluation" in out.getvalue()) == (width == 200)


def test_a_strategy_that_always_fails_has_a_row() -> None:
    table = outcomes_table([failure("lora")])
    assert table.rows[0].remarks == ("FAILED",)
    assert table.block().rows[0][3] == "-"
    assert table.metrics() == {"lora/32/failed": 1.0}


def test_a_line_of_a_run_says_how_many_rows_it_drew() -> None:
    amounts = {"32 rows": {"rows": "32"}, "all rows": {"rows": "all"}, "8": {"per_label": "8"}}
    runs = [
        replace(run := stored("lora", seed), tags={**run.tags, "per_label": "", **amount})
        for seed, amount in enumerate(amounts.values())
    ]
    lines = csv.DictReader(io.StringIO(build(InMemory(runs), "dogs").files["runs.csv"]))
    assert [line["per_label"] for line in lines] == list(amounts)


def test_mlflow_takes_the_numbers_of_a_row_of_any_name(tracking_uri: str) -> None:
    names = [
        "lora label_words Yes,No on ~/m",
        "lora label_words Yes;No on ~/m",
        "lora on facebook/opt " + 60 * "äb(c) ",
    ]
    table = outcomes_table([replace(outcome("lora", n), variant=name) for n, name in enumerate(names)])
    tracker = MlflowTracker.open("e", "n", {}, tracking_uri)
    tracker.metrics(table.metrics())
    tracker.close()
    assert not tracker.unsent
    assert sum(key.endswith("in_domain/mcc") for key in table.metrics()) == 3
    assert (
        "lora-pbft on facebook/opt/32/failed"
        in outcomes_table([replace(outcome("lora+pbft"), variant="lora+pbft on facebook/opt")]).metrics()
    )


def test_a_line_of_a_comparison_tells_draws_of_demonstrations_and_orders_apart() -> None:
    made = [outcome("icl"), outcome("icl"), outcome("vanilla")]
    others: list[dict[str, int]] = [{"demo_seed": 0}, {"demo_seed": 1}, {"order_seed": 2}]
    made = [replace(o, config=o.config.model_copy(update=own)) for o, own in zip(made, others, strict=True)]
    lines = list(csv.DictReader(io.StringIO(outcomes_csv(made))))
    assert [(line["demo_seed"], line["order_seed"]) for line in lines] == [("0", ""), ("1", ""), ("", "2")]
    assert "demo_seed" not in outcomes_csv([outcome("icl")])


def test_an_interval_ends_where_its_metric_does() -> None:
    names = ("micro_f1", "subset_accuracy", "worst_slice_accuracy", "mean_absolute_error", "brier", "calibration_error")
    runs = [stored("lora", s, **{f"in_domain__{n}": v for n in names}) for s, v in ((0, 1.0), (1, 0.95), (2, 0.99))]
    runs += [stored("vanilla", s, **{f"in_domain__{n}": v for n in names}) for s, v in ((0, 0.0), (1, 0.05), (2, 0.01))]
    for group in select_runs(as_frame(runs), "dogs").groups:
        for name in names:
            stat = group.stat(f"in_domain/{name}")
            assert stat is not None
            assert stat.interval[0] >= 0
            assert stat.interval[1] <= 1 or name in ("mean_absolute_error", "brier")


def test_what_is_better_does_not_depend_on_the_name_of_a_set() -> None:
    values = {"ood__glossary__accuracy": 0.5, "ood__glossary__mcc": 0.5, "ood__glossary__brier": 0.5, "forgetting": 0.1}
    lower = {m.key: m.lower for m in measures(select_runs(as_frame([stored("lora", 0, **values)]), "dogs"))}
    assert [lower[key.replace("__", "/")] for key in values] == [False, False, True, True]


def test_seeds_of_orders_are_not_missing_where_nothing_is_ordered() -> None:
    runs = [replace(stored("vanilla", 0), given={"order_seed": str(order)}) for order in (0, 1)]
    data = select_runs(as_frame([*runs, stored("probe", 0)]), "dogs")
    assert find_missing(data) == []
