"""Spaces: unions of the parts', narrowed and fixed, and back and forth to Optuna."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effft.config import RunConfig
from effft.errors import InputError
from effft.search.spaces import (
    Limits,
    bounded,
    decoded,
    distributions,
    encoded,
    fields,
    first_guesses,
    narrowed,
    read_space_file,
)
from effft.strategies.search_space import Choice, PowersOfTwo, Range
from effft.strategies.strategy import NAMED, compose

LIMITS = Limits(blocks=6, labelled=24, patterns=("minimal", "long"))
LORA = bounded(compose("lora").space(256), LIMITS)


@pytest.mark.parametrize("name", [*NAMED, "lora+pbft", "adaptive+pbft", "lora+distill"])
def test_every_name_is_a_field_that_the_strategy_has(name: str) -> None:
    strategy = compose(name)
    for key in strategy.space(256):
        field = "alpha" if key == "alpha_ratio" else key
        assert field in RunConfig.model_fields
        assert field in strategy.parameters or strategy.trains


def test_a_composed_strategy_has_the_union() -> None:
    assert {"rank", "alpha_ratio", "pattern", "learning_rate"} <= set(bounded(compose("lora+pbft").space(256), LIMITS))
    assert {"layers", "pattern"} <= set(bounded(compose("adaptive+pbft").space(256), LIMITS))
    assert {"rank", "temperature", "kl_weight", "teacher_shots"} <= set(compose("lora+distill").space(256))


def test_open_ends_are_those_of_the_backbone() -> None:
    assert bounded(compose("adaptive").space(256), LIMITS)["layers"] == Range(1, 6, whole=True)
    assert bounded(compose("icl").space(256), LIMITS)["shots"] == Range(1, 24, log=True, whole=True)
    assert "layers" not in bounded(compose("adaptive").space(256), Limits(1, 24, ()))
    assert "shots" not in compose("zero_shot").space(256)


def test_a_choice_keeps_what_the_task_and_the_words_allow() -> None:
    space, limits = compose("icl").space(256), replace(LIMITS, label_scores=("sum", "mean"))
    assert bounded(space, limits)["label_score"] == Choice(("sum", "mean"))
    assert "label_score" not in bounded(space, LIMITS)
    assert "label_score" not in compose("pbft").space(256)
    assert bounded({"pattern": Choice(("a", "b"))}, limits)["pattern"] == Choice(("a", "b"))  # as narrowed by the user


@given(st.floats(1e-6, 1.0), st.floats(1, 64), st.sampled_from(["attention", "all"]))
def test_what_is_enqueued_is_allowed_and_comes_back(rate: float, rank: float, modules: str) -> None:
    params = encoded({"learning_rate": rate, "rank": rank, "lora_modules": modules, "other": 1}, LORA)
    known = distributions(LORA)
    for key, value in params.items():
        assert known[key]._contains(known[key].to_internal_repr(value))
    values = decoded(params)
    assert values["lora_modules"] == modules
    assert rank / 2 <= int(str(values["rank"])) <= rank * 2


def test_alpha_follows_the_rank() -> None:
    assert fields({"rank": 4, "alpha_ratio": 2}, rank=8)["alpha"] == 8
    assert fields({"alpha_ratio": 2}, rank=8)["alpha"] == 16


def test_the_default_is_guessed_first() -> None:
    first = first_guesses({"learning_rate": 1.5e-3, "rank": 8, "alpha_ratio": 2, "epochs": 20}, LORA)[0]
    assert first == {"learning_rate": 1.5e-3, "log2_rank": 3, "log2_alpha_ratio": 1, "epochs": 20}


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("learning_rate", "1e-5:1e-3:log", Range(1e-5, 1e-3, log=True)),
        ("learning_rate", "1e-5:1e-3", Range(1e-5, 1e-3, log=True)),
        ("rank", "4:32", PowersOfTwo(4, 32)),
        ("epochs", "5:10:linear", Range(5, 10, whole=True)),
        ("lora_modules", "query_value|all", Choice(("query_value", "all"))),
    ],
)
def test_narrowing(name: str, text: str, found: object) -> None:
    assert narrowed(name, text, LORA) == found


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("layer", "1:2", "has no 'layer'"),
        ("ranks", "1:2", "Did you mean 'rank'?"),
        ("learning_rate", "1e-3:1e-5:log", "low <= high must hold"),
        ("learning_rate", "0:1e-3:log", "above 0"),
        ("learning_rate", "a:b", "of numbers"),
        ("rank", "5:7:log2", "no power of two"),
        ("rank", "1:2:cubic", "unknown form"),
        ("epochs", "1.5:3", "whole numbers"),
        ("lora_modules", "1:2", "no order"),
        ("lora_modules", "|", "empty"),
    ],
)
def test_bad_ranges_are_sentences(name: str, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        narrowed(name, text, LORA)


def test_space_file(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("rank: 8\nlearning_rate: 1e-5:1e-3:log\nepochs: 5:40\nwarmup: 1:20.5\n")
    known = {"rank": "8", "learning_rate": "1e-5:1e-3:log", "epochs": "5:40", "warmup": "1:20.5"}
    assert read_space_file(str(path)) == known
    path.write_text("- rank")
    with pytest.raises(InputError, match="mapping"):
        read_space_file(str(path))
    with pytest.raises(InputError, match="no such file"):
        read_space_file(str(tmp_path / "no.yaml"))
