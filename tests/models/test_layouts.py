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

IDS = torch.arange(5, 25).view(2, 10)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_value_is_the_saved_models(tmp_path: Path, name: str) -> None:
    saved = save_layout(tmp_path / name, name)
    loaded = load(str(tmp_path / name), need_lm_head=True)
    expected = saved.state_dict()
    got = loaded.model.state_dict()
    assert got.keys() == expected.keys()
    assert [key for key in got if not torch.equal(got[key], expected[key])] == []
    with torch.no_grad():
        assert torch.equal(loaded.model(input_ids=IDS).logits, saved(input_ids=IDS).logits)
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


def test_t5_is_refused(tmp_path: Path) -> None:
    import transformers

    transformers.T5Config(d_model=32, num_layers=1).save_pretrained(tmp_path)
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(InputError, match=r"t5.* is an encoder-decoder; take a decoder or an encoder"):
        load(str(tmp_path))
