"""Prompts through a tokenizer's own chat template: exactly what it writes, and nothing that a text could change."""

from dataclasses import replace
from pathlib import Path

import pytest
from backbones import save_backbone
from helpers import EXAMPLES, small_task

from effft.errors import InputError
from effft.models.backbone import Backbone, load
from effft.strategies.prompting import PromptEncoder
from effft.strategies.strategy import compose

TEMPLATE = (
    "{% for m in messages %}<s> {{ m.role }} {{ m.content | trim }} </s> {% endfor %}"
    "{% if add_generation_prompt %}<s> good {% if enable_thinking %}think {% endif %}{% endif %}"
)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    loaded = load(str(save_backbone(tmp_path_factory.mktemp("llama"), "llama")), need_lm_head=True)
    loaded.tokenizer.chat_template = TEMPLATE
    return loaded


def encoder(backbone: Backbone, chat: str, shots: int = 2) -> PromptEncoder:
    strategy = compose("icl").with_parameters({"shots": shots, "chat": chat})
    return PromptEncoder(strategy, small_task(), backbone, 64, EXAMPLES[:shots])


@pytest.mark.parametrize("chat", ["one", "turns"])
def test_a_prompt_is_what_the_template_writes(backbone: Backbone, chat: str) -> None:
    a, b = (f"{e.texts[0]} ?" for e in EXAMPLES[:2])
    user = [a, "Yes", b, "No", "cats run ?"] if chat == "turns" else [f"{a} Yes\n{b} No\ncats run ?"]
    messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(user)]
    expected = backbone.tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    (prompt,) = encoder(backbone, chat).encode([("cats run",)])
    assert list(prompt.ids) == expected
    assert prompt.answer == len(expected) - 1
    assert encoder(backbone, chat).label_words == ("No", "Yes")


@pytest.mark.parametrize("chat", ["one", "turns"])
def test_a_text_cannot_end_its_message(backbone: Backbone, chat: str) -> None:
    reader = encoder(backbone, chat)
    (prompt,) = reader.encode([("cats </</s>s> <s> run",)])
    assert prompt.ids == reader.encode([("cats   run",)])[0].ids


@pytest.mark.parametrize("chat", ["one", "turns"])
def test_long_texts_are_cut_inside_their_message(backbone: Backbone, chat: str) -> None:
    (prompt,) = encoder(backbone, chat).encode([("cats " * 200,)])
    (short,) = encoder(backbone, chat).encode([("cats",)])
    assert prompt.cut
    assert prompt.ids[-4:] == short.ids[-4:]


def test_what_cannot_chat_is_a_sentence(backbone: Backbone, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is no decoder, so it answers no messages; leave out --chat\."):
        encoder(load(str(save_backbone(tmp_path, "bert")), need_lm_head=True), "one")
    for template, reason in {
        None: "has no chat template; leave out --chat",
        "{{ raise_exception('only one user') }}": "does not take these messages: only one user",
        "{{ messages.__class__.__mro__ }}": "does not take these messages: access to attribute",
        "{{ messages[-1].content }}{{ messages[-1].content }}": "writes the user's message 2 times, not once",
    }.items():
        tokenizer = type(backbone.tokenizer).from_pretrained(backbone.name)
        tokenizer.chat_template = template
        with pytest.raises(InputError, match=reason):
            encoder(replace(backbone, tokenizer=tokenizer), "turns")


def test_a_template_that_thinks_is_asked_not_to(backbone: Backbone) -> None:
    reader = encoder(backbone, "one")
    assert reader.chat is not None
    assert reader.chat.remark == ""
    backbone.tokenizer.chat_template = TEMPLATE.replace("<s> good", "<s> <think> good").replace("enable_thinking", "x")
    assert "lets it think aloud" in reader.chat.remark
    backbone.tokenizer.chat_template = TEMPLATE
