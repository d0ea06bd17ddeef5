"""Estimates against what runs measure; the same code counts, so counts are exact."""

import csv
import random
import shutil
from pathlib import Path

import pytest
from backbones import CONFIGS, WORDS, save_backbone, save_small
from click.testing import CliRunner
from helpers import learner_on

from effft.cli.app import app
from effft.config import make_config
from effft.errors import InputError
from effft.profiling.meta_memory import MetaMemory
from effft.runs.estimate import Estimate, Skeletons, estimate
from effft.strategies.strategy import compose

TASK = """
name: dogs
fields: [text]
labels: [without, with_dog]
metric: mcc
label_words: {without: " No", with_dog: " Yes"}
patterns: {minimal: "{text} ?", question: "{text} Question : dog ?"}
splits:
  train: {file: train.csv}
  in_domain: {file: test.csv}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dogs")
    (folder / "task.yaml").write_text(TASK)
    rng = random.Random(0)
    for name, size in (("train", 80), ("test", 30)):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            out = csv.writer(file)
            out.writerow(["text", "label"])
            for row in range(size):
                words = [rng.choice(WORDS[4:14]) for _ in range(rng.randint(3, 9))]
                out.writerow([" ".join([*words, str(row)]), ("without", "with_dog")[row % 2]])
    for kind in CONFIGS:
        save_backbone(folder / kind, kind)
    return folder


def asked(place: Path, strategy: str, model: str, **values: object) -> dict[str, object]:
    base = {"task": str(place / "task.yaml"), "model": str(place / model), "per_label": 8, "strategy": strategy}
    return base | values


def estimated(place: Path, strategy: str, model: str, **values: object) -> Estimate:
    return estimate(make_config(asked(place, strategy, model, **values)), Skeletons())


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("spec", ["vanilla", "lora+pbft"])
@pytest.mark.slow
def test_counts_are_those_of_the_learner(place: Path, kind: str, spec: str) -> None:
    said = estimated(place, spec, kind, epochs=1, evaluation_limit=4)
    sizes = learner_on(place / kind, compose(spec)).groups.values()
    assert (said.trainable, said.total) == (sum(moved for moved, _ in sizes), sum(total for _, total in sizes))
    assert said.optimizer == 8 * said.trainable
    assert said.train_flops > said.evaluation_flops > 0
    assert said.peak > said.weights + said.gradients + said.optimizer + said.activations


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_bytes_follow_from_the_precision(place: Path, precision: str) -> None:
    said = estimated(place, "bitfit", "opt", precision=precision)
    size = 4 if precision == "fp32" else 2
    head = 2 * 24 + 2  # the classifier, fp32, on OPT's projected width
    backbone, biases = said.total - head, said.trainable - head
    remainders = 0 if precision == "fp32" else 2 * biases
    assert said.weights == size * backbone + 4 * head + remainders - 4 * head  # the head is no weight of the backbone
    assert said.gradients == size * biases + 4 * head


@pytest.mark.slow
def test_work_grows_with_epochs_and_rows_and_moving_parameters(place: Path) -> None:
    one, two = (estimated(place, "lora", "llama", epochs=n) for n in (1, 2))
    assert two.train_flops == pytest.approx(2 * one.train_flops)
    assert two.peak == one.peak
    part = estimated(place, "lora", "llama", epochs=1, evaluation_limit=8)
    assert part.evaluation_flops < one.evaluation_flops
    every = {spec: estimated(place, spec, "llama", epochs=20) for spec in ("vanilla", "adaptive", "probe")}
    assert every["vanilla"].train_flops > every["adaptive"].train_flops > every["probe"].train_flops > 0
    assert every["vanilla"].gradients > every["adaptive"].gradients > every["probe"].gradients


@pytest.mark.slow
def test_soups_and_ensembles_train_and_answer_as_often_as_they_say(place: Path) -> None:
    plain, soup = (estimated(place, "vanilla", "llama", **values) for values in ({}, {"soup": 3}))
    both = estimated(place, "vanilla", "llama", soup=3, ensemble=2, interpolation="folds")
    assert (soup.train_flops, soup.evaluation_flops) == (3 * plain.train_flops, plain.evaluation_flops)
    assert (both.train_flops, both.evaluation_flops) == (21 * plain.train_flops, 2 * plain.evaluation_flops)
    assert plain.peak < soup.peak < both.peak


def test_operations_are_two_a_weight_and_token(place: Path) -> None:
    """Forward 2 a weight of a linear map, backward 4 where it moves (Kaplan et al. 2020, arXiv 2001.08361)."""
    said = estimated(place, "vanilla", "llama", epochs=1, batch_size=16)
    blocks = 3 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48)
    forward = 2 * blocks
    tokens = said.train_flops / (3 * forward)
    assert 16 * 4 < tokens < 16 * 14  # prompts of 5 to 11 tokens, attention and padding on top


@pytest.mark.parametrize(
    ("strategy", "shots", "name"),
    [("icl", {"shots": 6}, "evaluation_flops"), ("context_distillation", {"teacher_shots": 6}, "train_flops")],
)
def test_all_patterns_cost_what_each_does(place: Path, strategy: str, shots: dict[str, object], name: str) -> None:
    """Every pattern has a start of its own with its demonstrations, which is read once."""
    one, other, both = (
        getattr(estimated(place, strategy, "llama", pattern=pattern, epochs=1, **shots), name)
        for pattern in ("minimal", "question", "all")
    )
    assert both == pytest.approx(one + other, rel=0.1)


V3 = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 32, "norm_rel_ebd": "layer_norm"}


@pytest.mark.parametrize(
    ("kind", "model", "options"),
    [
        ("deberta-v2", "DebertaV2ForMaskedLM", V3),
        ("mpnet", "MPNetForMaskedLM", {}),
        ("roformer", "RoFormerForMaskedLM", {}),
        ("bloom", "BloomForCausalLM", {"n_layer": 3, "n_head": 4}),
    ],
)
def test_models_that_look_at_the_values_of_a_mask(
    place: Path, tmp_path: Path, kind: str, model: str, options: dict[str, object]
) -> None:
    folder = save_small(tmp_path / kind, kind, model, **options)
    for spec in ("vanilla", "lora+pbft"):
        said = estimated(place, spec, str(folder), epochs=1)
        sizes = learner_on(folder, compose(spec)).groups.values()
        assert (said.trainable, said.total) == (sum(moved for moved, _ in sizes), sum(total for _, total in sizes))
        assert said.train_flops > said.evaluation_flops / 10 > 0


@pytest.mark.parametrize(
    ("kind", "model", "options"),
    [
        ("longformer", "LongformerForMaskedLM", {"attention_window": 8}),
        ("deberta", "DebertaForMaskedLM", {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}),
    ],
)
def test_a_type_whose_code_looks_at_values_has_no_estimate(
    place: Path, tmp_path: Path, kind: str, model: str, options: dict[str, object]
) -> None:
    folder = save_small(tmp_path / kind, kind, model, **options)
    with pytest.raises(InputError, match=r"no estimate can be made of its type .*`effft run` tells what it takes"):
        estimated(place, "vanilla", str(folder), epochs=1)


def test_no_weights_are_needed(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place, tmp_path / "place")
    (tmp_path / "place" / "bert" / "model.safetensors").write_bytes(b"")
    assert estimated(tmp_path / "place", "pbft", "bert").trainable > 0


def test_live_counts_what_is_alive_at_once() -> None:
    import torch

    weight = torch.ones(1000, device="meta")
    with MetaMemory([weight]) as live:
        a = weight.view(10, 100) + 1
        del a
        b = weight * 2
        c = b + 1
    assert live.peak == 8000
    assert live.now == 8000
    del b, c
    assert live.now == 0


@pytest.mark.slow
def test_the_command(place: Path) -> None:
    words = ["estimate", "--task", str(place / "task.yaml"), "--model", str(place / "gpt2"), "--per-label", "8"]
    words += ["--strategies", "vanilla,lora,icl", "--epochs", "1"]
    few = ["--shots", "2", "--rank", "4"]
    shown = CliRunner().invoke(app, [*words, *few], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    assert all(name in shown.output for name in ("vanilla", "lora", "icl"))
    wrong = CliRunner().invoke(app, [*words, "--rank", "0"])
    assert isinstance(wrong.exception, InputError)


@pytest.mark.parametrize(("kind", "least", "most"), [("llama", 1.0, 1.6), ("bert", 3.0, 5.0)])
@pytest.mark.slow
def test_label_words_of_several_tokens_cost_what_is_read_for_them(
    place: Path, kind: str, least: float, most: float
) -> None:
    """A decoder reads one token more a prompt; an encoder three sequences: 'not ?', '? good', '? bad'."""
    short, long = (estimated(place, "pbft", kind, label_words=w, epochs=1) for w in ("good,bad", "not good,not bad"))
    for name in ("evaluation_flops", "train_flops"):
        assert least < getattr(long, name) / getattr(short, name) < most
