"""The layouts that lie on the hub load with the right values, and every strategy runs on them."""

from pathlib import Path

import pytest
import torch
import transformers

from effft.config import make_config
from effft.errors import InputError
from effft.models.backbone import load
from effft.runs.experiment import run
from effft.runs.session import Session
from effft.strategies.scoring import predict
from effft.strategies.strategy import NAMED, compose
from effft.tracking.tracker import MemoryTracker
from effft.training.microbatch import MicroBatches
from effft.training.optimizer import Optimizer
from tests.backbones import CONFIGS, save_backbone, save_small
from tests.helpers import EXAMPLES, learner_on
from tests.hub_layouts import LAYOUTS, save_layout
from tests.place import make_place

pytestmark = pytest.mark.usefixtures("cache")

IDS = torch.arange(5, 25).view(2, 10)


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_value_is_the_saved_models(tmp_path: Path, name: str) -> None:
    saved = save_layout(tmp_path / name, name)
    loaded = load(str(tmp_path / name), need_lm_head=True)
    expected = saved.state_dict()
    got = loaded.model.state_dict()
    assert got.keys() == expected.keys()
    assert [key for key in got if not torch.equal(got[key], expected[key])] == []
    inputs = {"input_ids": IDS} | ({"decoder_input_ids": IDS[:, :3]} if loaded.decoder_start else {})
    with torch.no_grad():
        assert torch.equal(loaded.model(**inputs).logits, saved(**inputs).logits)
    body = load(str(tmp_path / name))
    with torch.no_grad():
        assert torch.equal(body.hidden({"input_ids": IDS}), loaded.hidden({"input_ids": IDS}))


@pytest.mark.parametrize(
    ("kind", "model", "options"),
    [
        ("bert", "BertForMaskedLM", {}),
        ("roberta", "RobertaForMaskedLM", {}),
        ("roberta-prelayernorm", "RobertaPreLayerNormForMaskedLM", {}),
        ("xmod", "XmodForMaskedLM", {"languages": ["en_XX"], "default_language": "en_XX"}),
        ("ibert", "IBertForMaskedLM", {}),
        ("longformer", "LongformerForMaskedLM", {"attention_window": 8}),
        ("luke", "LukeForMaskedLM", {"entity_vocab_size": 5, "entity_emb_size": 8}),
        ("squeezebert", "SqueezeBertForMaskedLM", {"embedding_size": 32}),
        ("layoutlm", "LayoutLMForMaskedLM", {}),
    ],
)
def test_a_model_reads_the_tokens_that_it_is_said_to_read(
    tmp_path: Path, kind: str, model: str, options: dict[str, object]
) -> None:
    loaded = load(str(save_small(tmp_path / kind, kind, model, max_position_embeddings=40, **options)))
    assert loaded.max_positions in (39, 40)
    assert loaded.hidden({"input_ids": torch.full((1, loaded.max_positions), 5)}).isfinite().all()


@pytest.mark.parametrize(
    ("kind", "model"),
    [("convbert", "ConvBertForMaskedLM"), ("fnet", "FNetForMaskedLM"), ("mobilebert", "MobileBertForMaskedLM")],
)
def test_the_scores_of_a_text_depend_on_no_other(tmp_path: Path, kind: str, model: str) -> None:
    options = {"embedding_size": 32, "intra_bottleneck_size": 32, "true_hidden_size": 32}
    learner = learner_on(save_small(tmp_path, kind, model, **options), compose("bitfit+pbft"))
    items = learner.items(EXAMPLES)
    torch.testing.assert_close(predict(learner, items), torch.cat([predict(learner, [item]) for item in items]))
    loss = MicroBatches(learner).backward(items, Optimizer(learner, 0.0))
    alone = [learner.loss(learner.collate([item])).item() for item in items]
    assert loss == pytest.approx(sum(alone) / len(alone), rel=1e-4)


def test_a_type_whose_code_does_not_read_texts_of_any_length_is_a_sentence(tmp_path: Path) -> None:
    folder = save_small(tmp_path, "nystromformer", "NystromformerForMaskedLM", num_landmarks=8)
    with pytest.raises(InputError, match="a model of type nystromformer is not supported"):
        load(str(folder))


@pytest.mark.parametrize(
    ("kind", "model", "causal"),
    [("xlm", "XLMWithLMHeadModel", False), ("xlm", "XLMWithLMHeadModel", True),
     ("flaubert", "FlaubertWithLMHeadModel", False)],
)  # fmt: skip
def test_a_model_of_either_kind_is_what_its_configuration_says(
    tmp_path: Path, kind: str, model: str, causal: bool
) -> None:
    """Both begin with a mask to fill, which a decoder would have read as the next word."""
    sizes = {"emb_dim": 32, "n_layers": 3, "n_heads": 4, "n_langs": 1, "causal": causal}
    loaded = load(str(save_small(tmp_path / kind, kind, model, **sizes)), need_lm_head=True)
    assert (loaded.decoder, loaded.lm_head) == (causal, True)


@pytest.mark.parametrize(
    ("kind", "model", "options"),
    [
        ("xlm", "XLMWithLMHeadModel", {"emb_dim": 32, "n_layers": 3, "n_heads": 4, "n_langs": 1}),
        ("flaubert", "FlaubertWithLMHeadModel", {"emb_dim": 32, "n_layers": 3, "n_heads": 4, "n_langs": 1}),
        ("albert", "AlbertForMaskedLM", {"num_hidden_layers": 6, "num_hidden_groups": 3, "embedding_size": 16}),
    ],
)
def test_states_are_kept_only_where_a_block_can_go_on_from_them(
    tmp_path: Path, kind: str, model: str, options: dict[str, object]
) -> None:
    strategy = compose("adaptive").with_parameters({"layers": 1})
    learner = learner_on(save_small(tmp_path / kind, kind, model, **options), strategy)
    plain = learner.items(EXAMPLES)
    with torch.no_grad():
        scores = [learner.scores(learner.collate(items)) for items in (plain, learner.frozen_features(plain))]
    torch.testing.assert_close(*scores)


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path, kind: str) -> None:
    """Transformers makes one of special tokens alone, for which every text is the same."""
    for path in save_backbone(tmp_path, kind).glob("tokenizer*"):
        path.unlink()
    with pytest.raises(InputError, match=r"holds no tokenizer; save it there too|no tokenizer can be read from"):
        load(str(tmp_path))


@pytest.mark.parametrize("name", ["opt-125m", "opt-350m"])
def test_opt_reads_its_bos_in_front(tmp_path: Path, name: str) -> None:
    save_layout(tmp_path / name, name)
    tokenizer = load(str(tmp_path / name)).tokenizer
    ids = tokenizer("the cat sees dogs")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids[:1]) == ["</s>"]
    assert ids[0] == 2
    assert tokenizer.decode(ids[1:]) == "the cat sees dogs"


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYOUTS)
def test_every_strategy_runs(tmp_path: Path, name: str) -> None:
    place = make_place(tmp_path)
    save_layout(tmp_path / name, name)
    session = Session()
    base = {"task": str(place / "task.yaml"), "model": str(tmp_path / name), "per_label": 2, "max_length": 48}
    for strategy in NAMED:
        values = {**base, "strategy": strategy, "evaluation_limit": 4, "bootstrap": 0, "batch_size": 4}
        trains = strategy not in ("icl", "zero_shot")
        values |= {"shots": 2} if strategy == "icl" else {"teacher_shots": 1} if "distill" in strategy else {}
        result = run(make_config(values | ({"steps": 2} if trains else {})), MemoryTracker(), session)
        assert 0 <= result.metrics["in_domain/accuracy"] <= 1


@pytest.mark.parametrize(("name", "start"), [("t5-small", (0,)), ("bart-base", (2, 0))])
def test_what_a_decoder_reads_before_its_answer(tmp_path: Path, name: str, start: tuple[int, ...]) -> None:
    """As in training: T5's start token, BART's start token and then the <s> of every target."""
    save_layout(tmp_path / name, name)
    assert load(str(tmp_path / name), need_lm_head=True).decoder_start == start
    assert load(str(tmp_path / name)).decoder_start == ()


def test_other_encoder_decoders_are_refused(tmp_path: Path) -> None:

    transformers.ProphetNetConfig(hidden_size=32).save_pretrained(tmp_path)
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(InputError, match=r"prophetnet.* is an encoder-decoder of a type that is not supported"):
        load(str(tmp_path))
