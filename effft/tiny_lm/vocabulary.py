"""Every word `tiny-lm` knows, and its tokenizer."""

import hashlib
from pathlib import Path
from typing import Any

import yaml

from effft.tasks.builtin import lexicon

BOS, EOS, PAD, UNKNOWN = "<s>", "</s>", "<pad>", "<unk>"

_TABLE: dict[str, str] = yaml.safe_load(Path(__file__).with_name("words.yaml").read_text(encoding="utf-8"))
CLOSED, LABEL_WORDS, SENTENCE_QUESTIONS, PAIR_QUESTIONS, LIST_QUESTIONS = (
    tuple(_TABLE[kind].split())
    for kind in ("closed", "label_words", "sentence_questions", "pair_questions", "list_questions")
)


def question(name: str) -> str:
    """The token that names a question."""
    return f"ask_{name}"


def words() -> list[str]:
    """The vocabulary in id order, special tokens first."""
    every = lexicon.EVERY_WORD
    questions = [question(name) for name in SENTENCE_QUESTIONS + PAIR_QUESTIONS + LIST_QUESTIONS]
    forms = [form for word in every.nouns + every.verbs for form in word]
    special = [PAD, BOS, EOS, UNKNOWN]
    return list(
        dict.fromkeys([*special, *CLOSED, *lexicon.CLOSED, *LABEL_WORDS, *questions, *forms, *every.adjectives])
    )


def identifiers() -> dict[str, int]:
    """Word -> id."""
    return {word: number for number, word in enumerate(words())}


def digest() -> str:
    """16 hex digits of SHA-256 over the words in their order: other words, another checkpoint."""
    return hashlib.sha256("\n".join(words()).encode()).hexdigest()[:16]


def build_tokenizer(positions: int) -> Any:
    """A transformers tokenizer: words split at white space and punctuation, `<s>` before every text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    known = identifiers()
    inner = Tokenizer(models.WordLevel(known, unk_token=UNKNOWN))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, known[BOS])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        unk_token=UNKNOWN,
        padding_side="right",
        model_max_length=positions,
        clean_up_tokenization_spaces=False,
    )
