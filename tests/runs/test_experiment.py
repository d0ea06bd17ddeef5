"""Whole runs on a tiny backbone and a task of the user's own, with everything a run promises to tell."""

from pathlib import Path

import pytest
import torch
from backbones import save_backbone

from effft.config import make_config
from effft.errors import InputError, RunError
from effft.evaluation.metric_keys import from_table
from effft.runs.experiment import Result, run
from effft.runs.plan import prepare
from effft.runs.session import Session
from effft.strategies.strategy import NAMED
from effft.tracking.tracker import METRICS_TABLE, MemoryTracker

KINDS = ("llama", "bert")


SESSION = Session()


def go(
    place: Path, strategy: str, model: str = "llama", session: Session = SESSION, **values: object
) -> tuple[Result, MemoryTracker]:
    tracker = MemoryTracker()
    base = {"task": str(place / "task.yaml"), "model": str(place / model), "per_label": 8, "epochs": 2}
    small = {"shots": 4} if strategy == "icl" else {"teacher_shots": 4} if "distill" in strategy else {}
    config = make_config({**base, **small, "strategy": strategy, "bootstrap": 50, **values})
    return run(config, tracker, session), tracker


def numbers(result: Result) -> dict[str, float]:
    """What must not depend on the clock."""
    clock = ("seconds", "per_second", "memory_mb", "matmul_share")
    return {key: value for key, value in result.metrics.items() if not key.endswith(clock)}


@pytest.mark.parametrize(
    ("strategy", "values"),
    [("context_distillation", {}), ("vanilla+pet", {"unlabelled": 40}), ("pbft", {"shots": 2, "batch_size": 5})],
)
def test_the_steps_that_are_told_are_those_taken(place: Path, strategy: str, values: dict[str, object]) -> None:
    """Unlabelled texts are learned from too, and examples that stand in every prompt are not."""
    _, tracker = go(place, strategy, session=Session(), **values)
    assert tracker.parameters["steps"] == max(step for step, _ in tracker.history)


@pytest.mark.parametrize(("selection", "told"), [("last", True), ("validation", False)])
def test_patience_without_validation_is_told(place: Path, selection: str, told: bool) -> None:
    files = {"task": str(place / "task.yaml"), "model": str(place / "llama"), "per_label": 8}
    plan = prepare(make_config({**files, "strategy": "lora", "patience": 1, "selection": selection}), SESSION)
    assert any(note.startswith("patience: without meaning") for note in plan.notes) == told


@pytest.mark.slow
def test_every_strategy_tells_the_same(place: Path) -> None:
    keys, params, history = set(), set(), set()
    for strategy in (*NAMED, "lora+pbft"):
        result, tracker = go(place, strategy)
        keys.add(frozenset(tracker.latest))
        params.add(frozenset(k for k in tracker.parameters if k in ("learning_rate", "per_label")))
        history.add(frozenset(k for _, values in tracker.history for k in values if k.startswith("train/")))
        assert {"in_domain/mcc", "in_domain/mcc_low", "ood/far/accuracy", "ood/far/gap"} <= set(result.metrics)
        assert result.metrics["ood/far/slice/label.with_dog/length.short/accuracy"] <= 1
        assert {d["context"] for d in tracker.datasets} == {"train", "validation", "in_domain", "ood/far"}
        assert len(tracker.tables["predictions/ood_far"]["answer"]) == 40
        assert "train" in tracker.texts["draw.txt"]
    assert len(keys) == 1
    assert len(params) == 1
    assert len(history) == 1


@pytest.mark.parametrize("strategy", NAMED)
def test_same_arguments_same_numbers(place: Path, strategy: str) -> None:
    first, again = (go(place, strategy, session=Session())[0] for _ in range(2))
    assert numbers(first) == numbers(again)
    assert first.tables == again.tables


@pytest.mark.parametrize("strategy", ["probe", "adaptive"])
@pytest.mark.slow
def test_a_session_changes_no_number(place: Path, strategy: str) -> None:
    """Kept states of earlier runs (other rates, other seeds) leave a run as it is alone."""
    config = make_config(
        {"task": str(place / "task.yaml"), "model": str(place / "llama"), "per_label": 8, "epochs": 2,
         "strategy": strategy, "bootstrap": 50, "selection": "validation",
         **({"head_solver": "gradient"} if strategy == "probe" else {})}
    )  # fmt: skip
    alone = run(config, MemoryTracker(), Session(keep=False))
    shared = Session()
    for seed, rate in ((5, 1e-3), (6, 1e-2)):
        run(config.model_copy(update={"seed": seed, "learning_rate": rate}), MemoryTracker(), shared)
    computed = shared.feature_cache.computed
    together = run(config, MemoryTracker(), shared)
    assert numbers(together) == numbers(alone)  # the operations too, though kept states are not computed again
    assert shared.feature_cache.computed == computed == 4  # training, validation, and the two evaluation sets


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("strategy", ["lora", "lora+pbft", "probe"])
@pytest.mark.slow
def test_shared_weights_change_no_number(place: Path, strategy: str, precision: str) -> None:
    """Runs of one process share the weights that none of them moves, in bf16 one rounded copy."""
    config = make_config(
        {"task": str(place / "task.yaml"), "model": str(place / "llama"), "per_label": 8, "epochs": 2,
         "strategy": strategy, "bootstrap": 0, "precision": precision}
    )  # fmt: skip
    alone, session = run(config, MemoryTracker(), Session(keep=False)), Session()
    before = {n: w.clone() for n, w in session.loaded_backbone(config, "pbft" in strategy).model.named_parameters()}
    run(config.model_copy(update={"seed": 5, "learning_rate": 1e-2}), MemoryTracker(), session)
    together = run(config, MemoryTracker(), session)
    assert {k: v for k, v in numbers(together).items() if "flops" not in k} == {
        k: v for k, v in numbers(alone).items() if "flops" not in k
    }
    for name, weight in session.loaded_backbone(config, "pbft" in strategy).model.named_parameters():
        assert torch.equal(weight, before[name])


@pytest.mark.parametrize("strategy", ["vanilla", "lora", "bitfit"])
@pytest.mark.slow
def test_other_seeds_other_numbers(place: Path, strategy: str) -> None:
    first, tracker = go(place, strategy)
    assert go(place, strategy, seed=1)[0].tables != first.tables
    other, other_tracker = go(place, strategy, data_seed=1)
    assert other.tables != first.tables
    assert other_tracker.texts["draw.txt"] != tracker.texts["draw.txt"]


def test_an_order_has_a_seed_of_its_own_where_it_is_asked_for(place: Path) -> None:
    results = [go(place, "lora", per_label=16, order_seed=order)[0].tables for order in (None, 1, 1, 2)]
    assert results[1] == results[2]
    assert len([table for place, table in enumerate(results) if table not in results[:place]]) == 3


def test_a_run_learns(place: Path) -> None:
    result, _ = go(place, "vanilla", per_label=25, epochs=30)
    assert result.metrics["in_domain/mcc"] > 0.5


@pytest.mark.slow
def test_an_encoder_does_it_too(place: Path) -> None:
    for strategy in ("pbft", "lora", "icl"):
        result, _ = go(place, strategy, "bert")
        assert 0 <= result.metrics["in_domain/accuracy"] <= 1


def test_the_best_epoch_is_kept(place: Path) -> None:
    result, tracker = go(place, "vanilla", selection="validation", epochs=6, per_label=16)
    key = "train/validation_mcc"
    seen = [values[key] for _, values in tracker.history if key in values]
    assert len(seen) == 6
    assert result.metrics["validation/mcc"] == max(seen)


def test_final_scores_are_few_and_stand_at_step_0(place: Path) -> None:
    result, tracker = go(place, "lora", selection="validation")
    assert 20 <= len(tracker.latest) <= 35
    steps = {key: step for step, values in tracker.history for key in values}
    assert all((step > 0) == key.startswith("train/") for key, step in steps.items())
    assert [sum("in_domain/mcc" in values for _, values in tracker.history)] == [1]
    assert not [key for key in tracker.latest if "slice" in key or key.endswith(("_low", "_high", "/examples"))]
    table = tracker.tables[METRICS_TABLE]
    assert from_table(list(table), zip(*table.values(), strict=True)) == result.metrics
    assert tracker.parameters["rank"] == 8
    assert not [key for key in tracker.parameters if key.startswith("resolved")]


def test_patience_stops(place: Path) -> None:
    _, tracker = go(
        place, "probe", head_solver="gradient", selection="validation", epochs=50, patience=2, learning_rate=1e-9
    )
    assert sum("train/loss" in values for _, values in tracker.history) == 3


def test_limited_evaluation(place: Path) -> None:
    result, _ = go(place, "probe", evaluation_limit=10)
    assert result.metrics["in_domain/examples"] == 10


def test_texts_are_cut_and_said(place: Path) -> None:
    result, _ = go(place, "pbft", max_length=8)
    assert any("lost their end" in note for note in result.notes)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_is_a_sentence(place: Path) -> None:
    save_backbone(place / "broken", "llama", std=2e18)  # attention overflows
    tracker = MemoryTracker()
    config = {"task": str(place / "task.yaml"), "model": str(place / "broken"), "per_label": 8, "strategy": "vanilla"}
    with pytest.raises(RunError, match=r"the loss is nan at step 1 .*nothing was updated yet, so try --precision"):
        run(make_config({**config, "head_start": "random"}), tracker, Session())
    with pytest.raises(RunError, match=r"states .* are not finite; nothing was updated yet, so try --precision"):
        run(make_config({**config, "head_start": "probe"}), tracker, Session())


def test_prompts_longer_than_the_model_are_refused(place: Path) -> None:
    save_backbone(place / "short", "llama", positions=24)
    config = make_config(
        {"task": str(place / "task.yaml"), "model": str(place / "short"), "per_label": 8, "strategy": "icl", "shots": 8}
    )
    with pytest.raises(InputError, match=r"reads 24 at most; lower --shots"):
        prepare(config, Session())


@pytest.mark.parametrize(("strategy", "remedy"), [("zero_shot", "take another --pattern, or a"), ("lora", "take a")])
def test_where_nothing_is_shown_fewer_shots_are_no_remedy(place: Path, strategy: str, remedy: str) -> None:
    short = str(save_backbone(place / "shorter", "llama", positions=8))
    config = make_config({"task": str(place / "task.yaml"), "model": short, "per_label": 2, "strategy": strategy})
    with pytest.raises(InputError, match=f"reads 8 at most; {remedy} --model that reads more"):
        prepare(config, Session())


@pytest.mark.parametrize("values", [{}, {"pattern": "all"}, {"shots": 2}])
def test_the_steps_that_are_recorded_are_those_that_are_made(place: Path, values: dict[str, object]) -> None:
    _, tracker = go(place, "pattern+setfit", per_label=3, epochs=1, batch_size=8, **values)
    assert tracker.parameters["steps"] == max(step for step, values in tracker.history if "train/loss" in values)


def test_a_teacher_without_a_text_to_answer_is_told(place: Path) -> None:
    values = {"task": str(place / "task.yaml"), "model": str(place / "llama"), "strategy": "context_distillation"}
    for shots, told in ((8, True), (7, False)):
        plan = prepare(make_config({**values, "per_label": 4, "teacher_shots": shots, "unlabelled": 0}), Session())
        assert any("the student learns from the labels alone" in note for note in plan.notes) == told
