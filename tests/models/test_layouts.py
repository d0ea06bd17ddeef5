"""The layouts that lie on the hub load with the right values, and every strategy runs on them."""

from pathlib import Path

import pytest
import torch

from effft.config import make_config
from effft.errors import InputError
from effft.models.backbone import load
from effft.runs.experiment import run
from effft.runs.session import Session
from effft.strategies.strategy import NAMED
from effft.tracking.tracker import MemoryTracker
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
    import transformers

    transformers.ProphetNetConfig(hidden_size=32).save_pretrained(tmp_path)
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(InputError, match=r"prophetnet.* is an encoder-decoder of a type that is not supported"):
        load(str(tmp_path))
