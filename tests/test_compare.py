"""Which runs a comparison makes, what it says about them, and that one failure does not stop the others."""

import csv
import io
from dataclasses import replace
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

import effft.runs.experiment
import effft.runs.plan
from effft.cli.app import app
from effft.cli.compare import configs_of
from effft.cli.exit_codes import run_command_line
from effft.cli.tables import csv_text, headers, markdown, parent_metrics, rich_table, texts
from effft.config import RunConfig, make_config
from effft.errors import InputError, RunError
from effft.runs.compare import Outcome, grid, reference, result_warnings, run_plans, summarise
from effft.runs.experiment import ProgressCallback, Result
from effft.tracking.tracker import MemoryTracker, Tracker


def result(strategy: str, seed: int = 0, score: float = 0.5, ood: float = 0.2, primary: str = "mcc") -> Result:
    metrics = {}
    for split, value in (("in_domain", score), ("ood/far", ood)):
        metrics |= {f"{split}/{primary}": value, f"{split}/majority": 0.6, f"{split}/chance": 0.5}
    metrics |= {
        "resources/trainable_parameters": 10.0,
        "resources/total_parameters": 1000.0,
        "resources/peak_memory_bytes": 2e6 + seed,
        "resources/train_seconds": 1.0 + seed,
        "resources/evaluation_seconds": 4.0,
    }
    config = make_config({"strategy": strategy, "seed": seed})
    return Result(config, f"{strategy} {seed}", metrics, {}, primary, ("far",), ())


def outcome(*args: object, **kwargs: object) -> Outcome:
    found = result(*args, **kwargs)  # type: ignore[arg-type]
    return Outcome(found.config, found)


def names(configs: list[RunConfig]) -> list[tuple[str, int, int]]:
    return [(c.strategy, c.seed, c.data_seed) for c in configs]


def test_every_strategy_meets_every_draw() -> None:
    configs = grid(["vanilla", "lora"], ["16", "32"], [3, 4], [0, 1], {"epochs": "2"})
    assert len(configs) == 16
    assert len(set(configs)) == 16
    assert {c.epochs for c in configs} == {2}
    draws = {s: {(c.per_label, c.data_seed) for c in configs if c.strategy == s} for s in ("vanilla", "lora")}
    assert draws["vanilla"] == draws["lora"]


def test_runs_that_would_repeat_are_left_out() -> None:
    assert names(grid(["icl"], ["8"], [0, 1], [5, 6], {})) == [("icl", 0, 5), ("icl", 0, 6)]
    assert names(grid(["zero_shot"], ["8"], [0, 1], [5, 6], {})) == [("zero_shot", 0, 5)]
    assert len(grid(["zero_shot"], ["8"], [0, 1], [5, 6], {"shots": "4"})) == 2


def test_zero_shot_stays_so_beside_icl() -> None:
    icl, zero = grid(["icl", "zero_shot"], ["8"], [0], [0], {"shots": "4"})
    assert (icl.shots, zero.shots) == (4, None)
    assert [c.shots for c in grid(["pbft", "zero_shot"], ["8"], [0], [0], {"shots": "4"})] == [4, 4]


def test_part_parameters_go_where_they_belong() -> None:
    lora, vanilla, both = grid(["lora", "vanilla", "lora+pbft"], ["8"], [0], [0], {"rank": "2", "pattern": ""})
    assert (lora.rank, vanilla.rank, both.rank) == (2, None, 2)


def test_a_parameter_that_nobody_has_is_refused() -> None:
    with pytest.raises(InputError, match=r"none of the strategies compared .lora, icl. has the parameter 'layers'"):
        grid(["lora", "icl"], ["8"], [0], [0], {"layers": "1"})


def test_seeds_count_from_the_seed_given() -> None:
    configs = configs_of("lora,lora", 2, 2, "8, 8", seed="10", data_seed="5", task="overlap", rank=None)
    assert names(configs) == [("lora", 10, 5), ("lora", 11, 5), ("lora", 10, 6), ("lora", 11, 6)]
    assert configs[0].task == "overlap"


def test_rows_have_mean_spread_gap_and_cost() -> None:
    (row,) = summarise([outcome("lora", 0, 0.4, 0.1), outcome("lora", 1, 0.6, 0.3)])
    assert str(row.in_domain) == "0.500 ± 0.141"
    assert str(row.ood["far"]) == "0.200 ± 0.141"
    assert str(row.gap) == "0.300 ± 0.000"
    assert (row.runs, row.failed, row.trainable_share, row.peak_bytes) == (2, 0, 0.01, 2e6 + 0.5)
    assert (row.train_seconds, row.evaluation_seconds) == (1.5, 4.0)
    assert row.remarks == ()


def test_one_run_has_no_spread() -> None:
    (row,) = summarise([outcome("lora")])
    assert str(row.in_domain) == "0.500"


@pytest.mark.parametrize(
    ("primary", "score", "ood", "remarks"),
    [
        ("mcc", 0.0, 0.1, ("in domain at chance",)),
        ("mcc", 0.3, -0.1, ("ood/far below chance",)),
        ("accuracy", 0.55, 0.7, ("in domain below majority",)),
        ("accuracy", 0.61, 0.5, ("ood/far at chance",)),
        ("balanced_accuracy", 0.55, 0.51, ()),
    ],
)
def test_what_is_not_above_the_references_is_said(
    primary: str, score: float, ood: float, remarks: tuple[str, ...]
) -> None:
    (row,) = summarise([outcome("lora", 0, score, ood, primary)])
    assert row.remarks == remarks


def test_references_by_metric() -> None:
    assert reference("accuracy", 0.7, 0.5) == (0.7, 0.5)
    assert reference("mcc", 0.7, 0.5) == (0.0, 0.0)
    assert reference("balanced_accuracy", 0.7, 0.5) == (0.5, 0.5)
    assert reference("macro_f1", 0.5, 0.5)[0] == pytest.approx(1 / 3)


def test_equal_numbers_from_different_seeds_are_a_fault() -> None:
    (sentence,) = result_warnings([outcome("lora", 0), outcome("lora", 1), outcome("vanilla", 0)])
    assert sentence.startswith("lora at 32 per label gave identical numbers for seed·data_seed 0·0 and 1·0")
    assert result_warnings([outcome("icl", 0), outcome("icl", 1)]) == []
    assert result_warnings([outcome("lora", 0, 0.5), outcome("lora", 1, 0.51)]) == []


def fail(config: RunConfig) -> Outcome:
    return Outcome(config, None, "lora: RunError: the loss is nan.")


def test_tables_hold_everything() -> None:
    outcomes = [outcome("lora+pbft", 0, 0.4), outcome("lora+pbft", 1, 0.6), outcome("vanilla", 0)]
    outcomes.append(fail(make_config({"strategy": "vanilla", "seed": 1})))
    rows = summarise(outcomes)
    heads, lines = headers(rows, "mcc"), texts(rows, outcomes)
    assert heads[3:6] == ["in domain mcc", "ood/far", "gap"]
    assert {len(line) for line in lines} == {len(heads)}
    assert [line[0] for line in lines] == ["lora+pbft", "vanilla", "majority", "chance"]
    assert lines[1][-1] == "1 FAILED"
    assert rich_table(heads, lines).row_count == 4
    page = markdown(heads, lines, ["FAILED x"])
    assert page.startswith("| strategy | per label |")
    assert page.endswith("- FAILED x\n")
    records = list(csv.DictReader(io.StringIO(csv_text(outcomes))))
    assert [r["failure"] for r in records] == ["", "", "", "lora: RunError: the loss is nan."]
    assert records[1]["in_domain/mcc"] == "0.6"
    metrics = parent_metrics(rows, "mcc")
    assert metrics["lora-pbft/32/in_domain/mcc"] == 0.5
    assert metrics["lora-pbft/32/in_domain/mcc_sd"] == pytest.approx(0.1414, abs=1e-4)
    assert metrics["vanilla/32/failed"] == 1.0


def test_a_strategy_that_always_fails_has_a_row() -> None:
    outcomes = [fail(make_config({"strategy": "lora"}))]
    rows = summarise(outcomes)
    assert rows[0].remarks == ("FAILED",)
    assert texts(rows, outcomes)[0][3] == "-"
    assert parent_metrics(rows, "") == {"lora/32/failed": 1.0}


def plan(config: RunConfig, session: object = None) -> SimpleNamespace:
    if config.rank == 7:
        raise InputError("rank=7 cannot be.")
    return SimpleNamespace(
        config=config,
        name=f"{config.strategy} {config.seed}",
        tags={"strategy": config.strategy},
        task=SimpleNamespace(name=config.task),
        experiment="effft/x",
    )


def execute(plan: SimpleNamespace, tracker: Tracker, watch: ProgressCallback) -> Result:
    watch("train", 1, 1)
    if plan.config.strategy == "pbft":
        raise RunError("the loss is not finite.")
    if plan.config.strategy == "probe":
        raise KeyboardInterrupt
    return replace(result(plan.config.strategy, plan.config.seed, 0.5 + plan.config.seed / 100), tables={"x": {}})


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch) -> list[MemoryTracker]:
    """The experiment and the keeper, faked; the parents that were opened."""
    opened: list[MemoryTracker] = []

    def open_tracker(experiment: str, name: str, tags: dict[str, str], uri: str, no_tracking: bool) -> MemoryTracker:
        opened.append(MemoryTracker(name=name, labels=dict(tags)))
        return opened[-1]

    monkeypatch.setattr("effft.cli.tracking.open_tracker", open_tracker)
    monkeypatch.setattr(effft.runs.plan, "prepare", plan)
    monkeypatch.setattr(effft.runs.experiment, "execute", execute)
    return opened


def test_a_failing_run_does_not_stop_the_others(faked: list[MemoryTracker]) -> None:
    parent = MemoryTracker()
    plans = [plan(c) for c in grid(["lora", "pbft", "vanilla"], ["8"], [0], [0], {})]
    outcomes = list(run_plans(plans, parent, lambda *_: None, lambda *_: None))  # type: ignore[arg-type]
    assert [bool(o.failure) for o in outcomes] == [False, True, False]
    assert outcomes[1].failure == "pbft 0: RunError: the loss is not finite."
    assert [child.status for child in parent.children] == ["FINISHED", "FAILED", "FINISHED"]
    assert outcomes[0].result is not None
    assert outcomes[0].result.tables == {}


def test_the_command_prints_and_keeps_the_table(faked: list[MemoryTracker]) -> None:
    done = CliRunner().invoke(app, ["compare", "--strategies", "lora,vanilla", "--seeds", "2"])
    assert done.exit_code == 0, done.output
    assert "0.505 ± 0.007" in done.output
    assert "majority" in done.output
    (parent,) = faked
    assert parent.status == "FINISHED"
    assert [child.name for child in parent.children] == ["lora 0", "vanilla 0", "lora 1", "vanilla 1"]
    assert parent.labels["strategies"] == "lora,vanilla"
    assert {"comparison.md", "comparison.csv"} <= set(parent.texts)
    assert parent.latest["lora/32/in_domain/mcc"] == 0.505


def test_failures_are_listed_and_the_exit_code_is_1(
    faked: list[MemoryTracker], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command_line(["compare", "--strategies", "lora,pbft", "--seeds", "1"]) == 1
    out = capsys.readouterr().out
    assert "FAILED pbft 0: RunError: the loss is not finite." in out
    assert faked[0].status == "FAILED"
    assert "lora" in faked[0].texts["comparison.csv"]


def test_what_was_measured_survives_ctrl_c(faked: list[MemoryTracker], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["compare", "--strategies", "lora,probe,vanilla", "--seeds", "1"]) == 130
    assert "0.500" in capsys.readouterr().out
    assert faked[0].status == "KILLED"
    assert [child.status for child in faked[0].children] == ["FINISHED", "KILLED"]
    assert "comparison.csv" in faked[0].texts


def test_everything_is_checked_before_anything_runs(
    faked: list[MemoryTracker], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command_line(["compare", "--strategies", "vanilla,lora", "--rank", "7"]) == 2
    assert capsys.readouterr().err == "effft: lora at 32 per label: rank=7 cannot be.\n"
    assert faked == []
