"""Adapters of peft's: what is known of each type, composition, options, and the training that some types ask for."""

import json
import random
from pathlib import Path

import pytest
import torch
import transformers
from backbones import save_backbone
from helpers import EXAMPLES, learner_on
from peft import PeftModel

from effft.config import RunConfig, make_config
from effft.errors import InputError, RunError
from effft.models.backbone import load
from effft.strategies.learner import Learner
from effft.strategies.peft_part import Peft
from effft.strategies.peft_types import TYPES, UNFIT, UNLISTED, PeftType
from effft.strategies.prompting import PromptEncoder
from effft.strategies.scoring import predict
from effft.strategies.strategy import Strategy, compose
from effft.training.loop import private_randomness, train
from effft.training.teacher import teach

DOCUMENTATION = (Path(__file__).parents[2] / "docs" / "strategies.md").read_text()
CHOSEN = '{"token_indices": [5, 6, 7, 9]}'


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    kinds = ("llama", "bert", "gpt2", "t5")
    return {kind: save_backbone(tmp_path_factory.mktemp(kind), kind) for kind in kinds}


def strategy_of(kind: str, spec: str = "peft", **values: object) -> Strategy:
    chosen = {"peft_options": CHOSEN} if kind == "trainable_tokens" else {}
    return compose(spec).with_parameters({"peft_type": kind, **chosen, **values})


def fit(learner: Learner, steps: int = 3, rate: float = 0.02) -> None:
    config = RunConfig(steps=steps, batch_size=8, warmup=0, schedule="constant")
    with private_randomness(0):
        items = learner.frozen_features(learner.items(EXAMPLES))
        list(train(learner, items, config, rate, random.Random(0)))


def scores(learner: Learner) -> torch.Tensor:
    return predict(learner, learner.items(EXAMPLES))


@pytest.mark.parametrize("kind", TYPES)
def test_facts_of_every_type(folders: dict[str, Path], tmp_path: Path, kind: str) -> None:
    """What the table says is what peft does; peft reads what was saved, and gives the same states."""
    facts, strategy = TYPES[kind], strategy_of(kind)
    learner, again = (learner_on(folders["llama"], strategy, seed) for seed in (0, 0))
    adapter = learner.backbone.adapter
    assert adapter.restorable
    assert adapter.starts_equal == facts.starts_equal
    fit(learner)
    trained = scores(learner)
    with adapter.off():
        assert (scores(learner) - trained).abs().max() > 1e-4  # it did train
    adapter.save(tmp_path, "base", None)
    again.backbone.adapter.load(tmp_path)
    again.head.load_state_dict(learner.head.state_dict())
    assert torch.equal(scores(again), trained)
    theirs = PeftModel.from_pretrained(transformers.AutoModel.from_pretrained(folders["llama"]), str(tmp_path)).eval()
    ids = {"input_ids": torch.arange(8)[None], "attention_mask": torch.ones((1, 8), dtype=torch.long)}
    with torch.no_grad():
        states = theirs(**ids).last_hidden_state[:, adapter.returned :]
        torch.testing.assert_close(states, learner.backbone.hidden(ids), rtol=1e-5, atol=1e-5)
    if facts.virtual or not facts.merges or kind == "beft":  # a llama has no biases
        with pytest.raises(RunError, match=r"cannot be merged here: (?!the model would)"):
            adapter.merge()
    else:
        adapter.merge()
        torch.testing.assert_close(scores(learner), trained, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", TYPES)
def test_linear_maps_of_the_class_conv1d(folders: dict[str, Path], kind: str) -> None:
    backbone = load(str(folders["gpt2"]))
    if TYPES[kind].conv1d:
        assert strategy_of(kind).trainable.open(backbone, torch.Generator())
        return
    with pytest.raises(InputError, match=f"peft_type={kind}: the linear maps of .* are of the class Conv1D"):
        strategy_of(kind).trainable.check(backbone)


def test_the_documentation_has_the_same_table() -> None:
    said = {True: "yes", False: "no"}
    for kind, facts in TYPES.items():
        marks = " | ".join(said[fact] for fact in (facts.starts_equal, bool(facts.merges), facts.conv1d))
        rank = ", ".join(f"`{name}`" for name in facts.rank)
        assert f"| `{kind}` | {facts.about} | {facts.rate:g} | {marks} | {rank} |" in DOCUMENTATION


@pytest.mark.parametrize("kind", [kind for kind, facts in TYPES.items() if facts.place != "tokens"])
def test_the_rate_of_vectors_alone_does_not_fall_with_the_width(folders: dict[str, Path], kind: str) -> None:
    trainable = strategy_of(kind).trainable
    assert trainable.rate_at(384) == pytest.approx(2 * trainable.rate_at(768))
    assert trainable.rate_at(3072) == pytest.approx(trainable.rate_at(768) / 4 ** TYPES[kind].width_power)
    if TYPES[kind].width_power == 0 and TYPES[kind].place in ("linear", "ia3", "norms"):
        backbone = load(str(folders["llama"]))
        assert all(max(p.shape) == p.numel() for p in trainable.open(backbone, torch.Generator()))


class Unlisted(Peft):
    """A type that the table does not have."""

    @property
    def facts(self) -> PeftType:
        return UNLISTED


@pytest.mark.parametrize("kind", ["hra", "vera", "lily"])
def test_a_type_that_nobody_listed_works(folders: dict[str, Path], kind: str) -> None:
    learner = learner_on(folders["llama"], Strategy("peft", trainable=Unlisted(kind)))
    fit(learner)
    trained, adapter = scores(learner), learner.backbone.adapter
    if kind == "lily":
        with pytest.raises(RunError, match="cannot be merged here"):
            adapter.merge()
        return
    assert adapter.restorable
    adapter.merge()
    torch.testing.assert_close(scores(learner), trained, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["unilora", "vblora", "prompt_tuning", "prefix_tuning"])
def test_the_teacher_is_the_frozen_backbone(folders: dict[str, Path], kind: str) -> None:
    """Also of a student that does not start there."""
    learner = learner_on(folders["llama"], strategy_of(kind, "peft+distill", teacher_shots=2))
    reader = PromptEncoder(learner.strategy, learner.task, learner.backbone, 64, EXAMPLES[:2])
    items = teach(learner, reader, EXAMPLES, (), {0, 1})
    icl = learner_on(folders["llama"], compose("icl").with_parameters({"shots": 2}), demos=EXAMPLES[:2])
    expected = predict(icl, icl.items(EXAMPLES[2:]))
    torch.testing.assert_close(torch.tensor([item.teacher for item in items[2:]]), expected)
    student = predict(learner, [item._replace(teacher=None) for item in items[2:]], encoder=reader)
    assert not torch.allclose(student, expected)


@pytest.mark.parametrize(("kind", "frozen"), [("ia3", 0), ("vera", 2), ("unilora", 2), ("prefix_tuning", 0)])
def test_blocks_below_the_first_adapted_one_are_computed_once(folders: dict[str, Path], kind: str, frozen: int) -> None:
    options = {"peft_options": '{"layers_to_transform": [2]}'} if frozen else {}
    learner = learner_on(folders["llama"], strategy_of(kind, **options))
    assert learner.frozen_blocks == frozen
    plain = scores(learner)
    items = learner.frozen_features(learner.items(EXAMPLES))
    torch.testing.assert_close(predict(learner, items), plain)


def test_adalora_moves_ranks_and_is_pulled_to_orthogonal_matrices(folders: dict[str, Path]) -> None:
    options = '{"target_r": 2, "init_r": 4, "orth_reg_weight": 10.0}'
    learner = learner_on(folders["llama"], strategy_of("adalora", peft_options=options))
    before = float(learner.backbone.adapter.penalty())
    fit(learner, steps=20)
    assert 0 < float(learner.backbone.adapter.penalty()) < before
    kept = [int((p != 0).sum()) for n, p in learner.trainable_parameters.items() if "lora_E" in n]
    assert sum(kept) == 2 * len(kept)
    assert max(kept) > min(kept)


def test_pairs_pull_adalora_to_orthogonal_matrices_too(folders: dict[str, Path]) -> None:
    def loss(weight: float) -> float:
        learner = learner_on(
            folders["llama"],
            compose("adalora+setfit").with_parameters({"peft_options": f'{{"orth_reg_weight": {weight}}}'}),
        )
        items = learner.items(EXAMPLES)
        return float(learner.loss(learner.collate([items[0]._replace(partner=items[1])])))

    assert loss(10.0) > loss(1.0) > loss(0.0)


def test_lora_plus_trains_b_faster_and_no_other_parameter(folders: dict[str, Path]) -> None:
    def moved(ratio: float) -> dict[str, torch.Tensor]:
        strategy = compose("lora").with_parameters({"lora_plus": ratio, "rank": 2})
        learner = learner_on(folders["llama"], strategy)
        start = {name: p.detach().clone() for name, p in learner.trainable_parameters.items()}
        fit(learner, steps=1, rate=1e-3)
        return {name: p.detach() - start[name] for name, p in learner.trainable_parameters.items()}

    plain, faster = moved(1.0), moved(16.0)
    for name, change in plain.items():
        torch.testing.assert_close(faster[name], change * (16 if "lora_B" in name else 1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "values",
    [
        *({"lora_init": start} for start in ("gaussian", "orthogonal", "pissa", "olora", "mica")),
        {"rslora": True},
        {"dora": True},
    ],
)
def test_other_loras_start_equal_and_are_read_by_peft(
    folders: dict[str, Path], tmp_path: Path, values: dict[str, object]
) -> None:
    plain = scores(learner_on(folders["llama"], compose("zero_shot")))
    learner = learner_on(folders["llama"], compose("lora+pbft").with_parameters({"rank": 4, **values}))
    torch.testing.assert_close(scores(learner), plain, rtol=1e-3, atol=1e-4)
    assert learner.strategy.trainable.shares_weights == (values.get("lora_init") is None)
    fit(learner)
    learner.backbone.adapter.save(tmp_path, "base", None)
    base = transformers.AutoModelForCausalLM.from_pretrained(folders["llama"])
    theirs = PeftModel.from_pretrained(base, str(tmp_path)).eval()
    ids = {"input_ids": torch.arange(8)[None], "attention_mask": torch.ones((1, 8), dtype=torch.long)}
    with torch.no_grad():
        answer = learner.backbone.answer_logits(ids, torch.tensor([7]))
        torch.testing.assert_close(theirs(**ids).logits[:, 7], answer, rtol=1e-4, atol=1e-4)
    trained = scores(learner)
    learner.backbone.adapter.merge()
    torch.testing.assert_close(scores(learner), trained, rtol=1e-3, atol=1e-3)


def test_names_and_settings_make_the_same_strategy() -> None:
    assert strategy_of("ia3").name == "ia3"
    assert strategy_of("ia3", "peft+pbft") == strategy_of("ia3", "ia3+pbft")
    assert strategy_of("lora").name == "peft"  # the strategy `lora` is another
    assert compose("dora").trainable == compose("lora").with_parameters({"dora": True}).trainable
    with pytest.raises(InputError, match="has the type 'ia3'"):
        strategy_of("vera", "ia3")
    with pytest.raises(InputError, match="both set the trainable"):
        compose("ia3+lora")


def test_a_file_of_peft_is_a_type_and_options(tmp_path: Path) -> None:
    path = tmp_path / "adapter_config.json"
    record = {"peft_type": "IA3", "auto_mapping": {"base_model_class": "os.system"}, "init_ia3_weights": False}
    path.write_text(json.dumps(record | {"base_model_name_or_path": "elsewhere", "inference_mode": True, "bias": None}))
    config = make_config({"strategy": "peft", "peft_config": str(path)})
    assert (config.peft_type, config.peft_options, config.peft_config) == ("ia3", '{"init_ia3_weights": false}', None)
    with pytest.raises(InputError, match="the file says both"):
        make_config({"strategy": "peft", "peft_config": str(path), "peft_type": "vera"})
    path.write_text("[1]")
    with pytest.raises(InputError, match="JSON object that names peft_type"):
        make_config({"strategy": "peft", "peft_config": str(path)})


@pytest.mark.parametrize(
    ("kind", "values", "sentence"),
    [
        ("iab", {}, "no such type. Did you mean 'ia3'"),
        *((kind, {}, "it does not fit, as") for kind in UNFIT),
        ("", {}, "needs a type"),
        ("vera", {"peft_options": '{"d_inital": 1}'}, "no option 'd_inital'.*Did you mean 'd_initial'"),
        ("lora", {"peft_options": '{"megatron_core": "os"}'}, "'megatron_core' is not taken"),
        ("lora", {"peft_options": '{"auto_mapping": {}}'}, "'auto_mapping' is not taken"),
        ("prompt_tuning", {"peft_options": '{"tokenizer_name_or_path": "x"}'}, "is not taken"),
        ("vera", {"peft_options": '{"r": "many"}'}, "r='many': must be a number; peft's own is 256"),
        ("lora", {"peft_options": '{"lora_alpha": NaN}'}, "lora_alpha=nan: must be a number"),
        ("lora", {"peft_options": '{"target_modules": "("}'}, "peft refuses it .*unterminated.* --peft-options"),
        ("prefix_tuning", {"peft_options": '{"num_virtual_tokens": 0}'}, "a whole number from 1 to 127"),
        ("prompt_tuning", {"peft_options": '{"num_virtual_tokens": 1.5}'}, "a whole number from 1 to 127"),
        ("miss", {"peft_options": '{"r": 64}'}, "peft refuses it .* must be less than or equal to in_features"),
        ("ia3", {"rank": 4}, "the type has no rank"),
        ("vera", {"rank": 4, "peft_options": '{"r": 4}'}, "its rank is among --peft-options"),
        ("ia3", {"lora_modules": "all"}, "ia3 goes to modules of its own"),
        ("trainable_tokens", {"peft_options": None}, "say which"),
    ],
)
def test_what_does_not_go_together_is_a_sentence(
    folders: dict[str, Path], kind: str, values: dict[str, object], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        learner_on(folders["llama"], strategy_of(kind, **values))


def test_an_encoder_decoder_takes_no_virtual_tokens(folders: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="virtual tokens go before the text"):
        learner_on(folders["t5"], strategy_of("prompt_tuning"))
    learner = learner_on(folders["t5"], strategy_of("ia3", "peft+pbft"))
    fit(learner)
    assert learner.backbone.adapter.restorable
