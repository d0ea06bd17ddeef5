"""Which runs a comparison makes, what it says about them, and that one failure does not stop the others."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

import effft.runs.experiment
import effft.runs.plan
from effft.cli.app import app
from effft.cli.compare import configs_of
from effft.cli.exit_codes import run_command_line
from effft.config import RunConfig, make_config
from effft.errors import InputError, RunError
from effft.runs.compare import grid, run_plans
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
    return Result(config, f"{strategy} {seed}", metrics, primary, ("far",), ())


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
        opened.append(MemoryTracker(name=name, tag_values=dict(tags)))
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
    assert parent.tag_values["strategies"] == "lora,vanilla"
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
