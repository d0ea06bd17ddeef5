"""Prompts of tokenizers that say nothing of offsets."""

from dataclasses import replace
from pathlib import Path

from backbones import save_backbone
from helpers import small_task
from transformers import CanineTokenizer

from effft.models.backbone import load
from effft.strategies.prompting import PromptEncoder
from effft.strategies.strategy import compose


def test_kind_7_a_slow_tokenizer_cuts_texts(tmp_path: Path) -> None:
    backbone = replace(load(str(save_backbone(tmp_path, "bert"))), tokenizer=CanineTokenizer())
    encoder = PromptEncoder(compose("probe"), small_task(), backbone, 20)
    long, short = encoder.encode([("a dog " * 300,), ("a dog",)])
    assert (len(long.ids), long.cut, short.cut) == (20, True, False)
    assert encoder.tokenizer.decode(long.ids, skip_special_tokens=True) == ("a dog " * 300)[:18]
