"""What every strategy promises, on every architecture."""

import random
from pathlib import Path

import pytest
import torch
from backbones import CONFIGS, DECODERS, save_backbone
from helpers import EXAMPLES, learner_on, small_task

from effft.config import RunConfig
from effft.errors import InputError
from effft.models.backbone import load
from effft.strategies.batch import Item
from effft.strategies.learner import Learner
from effft.strategies.parts import Contrastive
from effft.strategies.prompting import PromptEncoder
from effft.strategies.scoring import predict
from effft.strategies.strategy import NAMED, Strategy, compose
from effft.training.loop import private_randomness, train
from effft.training.pairs import Pairs
from effft.training.teacher import teach

STRATEGIES = (*NAMED, "lora+pbft", "adaptive+pbft", "bitfit+pbft", "lora+distill", "pattern+classifier", "lora+setfit")


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: save_backbone(tmp_path_factory.mktemp(kind), kind) for kind in CONFIGS}


def strategy_for(spec: str) -> Strategy:
    strategy = compose(spec)
    changes = {"shots": 2, "teacher_shots": 2, "rank": 2, "layers": 1}
    own = strategy.parameters
    return strategy.with_parameters({k: v for k, v in changes.items() if own.get(k)})


def demos_for(strategy: Strategy) -> tuple:
    return EXAMPLES[:2] if strategy.parameters.get("shots") else ()


def items_for(learner: Learner) -> list[Item]:
    strategy = learner.strategy
    if isinstance(strategy.loss, Contrastive):
        return list(Pairs(learner.items(EXAMPLES), random.Random(0)))[:8]  # one batch
    if "teacher_shots" not in strategy.parameters:
        return learner.items(EXAMPLES)
    teacher = PromptEncoder(strategy, learner.task, learner.backbone, 64, EXAMPLES[:2])
    return teach(learner, teacher, EXAMPLES[:5], EXAMPLES[5:], {0, 1})


def fit(
    learner: Learner, steps: int, seed: int = 0, rate: float = 5e-3, items: list[Item] | None = None
) -> list[float]:
    config = RunConfig(steps=steps, batch_size=8, warmup=0, schedule="constant")
    chosen = items if items is not None else items_for(learner)
    with private_randomness(seed):
        return [s.loss for s in train(learner, chosen, config, rate, random.Random(seed))]


def mean_loss(learner: Learner, items: list[Item]) -> float:
    with torch.no_grad():
        return learner.loss(learner.collate(items)).item()


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("spec", STRATEGIES)
def test_promises(folders: dict[str, Path], kind: str, spec: str) -> None:
    strategy = strategy_for(spec)
    learner = learner_on(folders[kind], strategy, demos=demos_for(strategy), dtype=torch.float64)
    items = items_for(learner)
    read = [item._replace(partner=None) for item in items]
    with torch.no_grad():
        together = learner.scores(learner.collate(read))
        alone = torch.cat([learner.scores(learner.collate([item])) for item in read])
    assert together.shape == (len(read), 2)
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-9)  # padding changes nothing
    if not strategy.trains:
        assert not learner.trainable_parameters
        return
    frozen = {n: p.clone() for n, p in learner.backbone.model.named_parameters() if not p.requires_grad}
    moving = {n: p.detach().clone() for n, p in learner.trainable_parameters.items()}
    before = mean_loss(learner, items)
    fit(learner, 1, rate=1e-3, items=items)
    assert mean_loss(learner, items) < before
    after = dict(learner.backbone.model.named_parameters())
    assert all(torch.equal(after[n], value) for n, value in frozen.items())
    assert any(not torch.equal(p, moving[n]) for n, p in learner.trainable_parameters.items())


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("spec", ["lora+pbft", "bitfit+pbft"])
def test_adapters_start_equal_to_the_backbone(folders: dict[str, Path], kind: str, spec: str) -> None:
    plain = learner_on(folders[kind], compose("zero_shot"))
    adapted = learner_on(folders[kind], strategy_for(spec))
    assert torch.equal(predict(plain, plain.items(EXAMPLES)), predict(adapted, adapted.items(EXAMPLES)))


@pytest.mark.parametrize("spec", [s for s in STRATEGIES if compose(s).trains])
def test_seeds(folders: dict[str, Path], spec: str) -> None:
    def scores(seed: int) -> torch.Tensor:
        learner = learner_on(folders["opt"], strategy_for(spec), seed)
        fit(learner, 3, seed)
        return predict(learner, learner.items(EXAMPLES))

    first, again, other = scores(0), scores(0), scores(1)
    assert torch.equal(first, again)
    draws = compose(spec).parameters.keys() & {"rank", "pooling"} or spec in ("pbft", "adaptive+pbft")
    if draws:  # new weights or dropout; the order within the only batch means nothing
        assert not torch.equal(first, other)


@pytest.mark.parametrize("kind", DECODERS)
def test_verbalizer_equals_the_plain_model(folders: dict[str, Path], kind: str) -> None:
    """Scores are the whole model's own log-probabilities of the words after the prompt."""
    learner = learner_on(folders[kind], compose("zero_shot"))
    tokenizer, model = learner.backbone.tokenizer, learner.backbone.model
    words = [tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in (" No", " Yes")]
    got = predict(learner, learner.items(EXAMPLES))
    for row, example in zip(got, EXAMPLES, strict=True):
        ids = tokenizer(f"{example.texts[0]} ?", return_tensors="pt")["input_ids"]
        with torch.no_grad():
            expected = model(input_ids=ids).logits[0, -1].log_softmax(-1)[words]
        torch.testing.assert_close(row, expected)


def test_trainable_groups(folders: dict[str, Path]) -> None:
    def moved(spec: str, kind: str = "llama", **values: object) -> dict[str, int]:
        strategy = compose(spec).with_parameters(values)
        groups = learner_on(folders[kind], strategy).groups
        return {name: trainable for name, (trainable, _) in groups.items() if trainable}

    width, labels = 32, 2
    head = width * labels + labels
    assert moved("probe") == {"head": head}
    assert set(moved("adaptive", layers=1)) == {"blocks", "head"}
    assert moved("adaptive", layers=3)["blocks"] == 3 * moved("adaptive", layers=1)["blocks"]
    assert moved("adaptive", layers="0-1") == moved("adaptive", layers=2)
    assert set(moved("adaptive", train_embeddings=True, train_final_norm=True)) == {
        "blocks", "head", "embeddings", "final_norm",
    }  # fmt: skip
    assert moved("lora", rank=2, lora_modules="query_value") == {
        "adapter": 3 * 2 * ((32 + 32) + (32 + 16)), "head": head,
    }  # fmt: skip
    assert set(moved("bitfit")) == {"adapter", "head"}  # llama has no biases of its own
    assert set(moved("bitfit", "opt")) == {"blocks", "final_norm", "head"}
    assert set(moved("lora+pbft")) == {"adapter"}  # tied LM head and embeddings stay
    assert set(moved("pbft", "gpt_neox")) == {"embeddings", "blocks", "final_norm", "lm_head"}


def test_dropout_only_where_weights_move(folders: dict[str, Path]) -> None:
    for spec, expected in {"vanilla": True, "probe": False, "lora": False, "bitfit": False}.items():
        learner = learner_on(folders["opt"], strategy_for(spec))
        with learner.training():
            assert any(m.training for m in learner.backbone.body.modules() if "Decoder" in type(m).__name__) == expected
        assert not any(m.training for m in learner.backbone.model.modules())


@pytest.mark.parametrize(
    ("spec", "values", "said"),
    [
        ("adaptive", {"layers": 9}, "has 3 blocks"),
        ("adaptive", {"layers": "1-3"}, "are 0-2"),
        ("adaptive", {"layers": "1-2"}, ""),
        ("lora", {"rank": 33}, "at most 32"),
        ("lora", {"rank": 32}, ""),
    ],
)
def test_bounds_of_the_backbone(folders: dict[str, Path], spec: str, values: dict[str, object], said: str) -> None:
    strategy = compose(spec).with_parameters(values)
    backbone = load(str(folders["opt"]))
    if not said:
        strategy.trainable.check(backbone)
        return
    with pytest.raises(InputError, match=said):
        strategy.trainable.check(backbone)


def test_distillation_reads_teacher_with_and_student_without_demonstrations(folders: dict[str, Path]) -> None:
    strategy = strategy_for("context_distillation")
    learner = learner_on(folders["opt"], strategy)
    items = items_for(learner)
    assert [item.teacher is None for item in items] == [True, True, False, False, False, False]
    assert [item.label for item in items] == [1, 0, 1, 0, 1, -1]
    icl = learner_on(folders["opt"], compose("icl").with_parameters({"shots": 2}), demos=EXAMPLES[:2])
    expected = predict(icl, icl.items(EXAMPLES[2:]))
    torch.testing.assert_close(torch.tensor([item.teacher for item in items[2:]]), expected)
    zero = learner_on(folders["opt"], compose("zero_shot"))
    assert [i.prompt.ids for i in items] == [i.prompt.ids for i in zero.items(EXAMPLES)]


def test_small_task_is_valid() -> None:
    assert small_task().ordered_label_words == (" No", " Yes")


def test_the_default_rate_falls_with_the_width_as_what_trains_asks() -> None:
    falls = {"vanilla": 4, "adaptive": 4, "pbft": 4, "lora": 2, "context_distillation": 2, "bitfit": 1}
    for name, divisor in falls.items():
        rates = {width: compose(name).default_learning_rate(width) for width in (384, 768, 3072)}
        assert rates[384] == pytest.approx(2 * rates[768])
        assert rates[3072] == pytest.approx(rates[768] / divisor)
