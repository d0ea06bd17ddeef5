"""The shipped weights are those of the shipped recipe and vocabulary, and small."""

import json

import pytest
import torch

from effft.models.files import BUILT_IN
from effft.tiny_lm.recipe import read_recipe
from effft.tiny_lm.train import make_model
from effft.tiny_lm.vocabulary import words

FOLDER = BUILT_IN["tiny-lm"]
LARGEST = 8 * 2**20


def test_the_folder_is_small_and_of_this_recipe() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= LARGEST
    said = json.loads((FOLDER / "pretraining.json").read_text(encoding="utf-8"))
    recipe = read_recipe()
    assert (said["recipe"], said["steps"]) == (recipe.digest, recipe.steps)


def test_it_loads_with_the_library_alone_and_knows_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(FOLDER), AutoModelForCausalLM.from_pretrained(FOLDER)
    assert [word for word, _ in sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1])] == words()
    assert model.config.max_position_embeddings >= 512
    random = make_model(read_recipe().model, 0)
    assert {name: p.shape for name, p in model.named_parameters()} == {
        name: p.shape for name, p in random.named_parameters()
    }


def test_it_finds_grammatical_sentences_likelier() -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(FOLDER), AutoModelForCausalLM.from_pretrained(FOLDER)

    def loss(text: str) -> float:
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.no_grad():
            return float(model(ids, labels=ids).loss)

    assert loss("the author laughs .") < loss("the author laugh .")
    assert loss("these authors are happy .") < loss("these authors is happy .")
