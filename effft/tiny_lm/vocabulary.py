"""Every word `tiny-lm` knows, and its tokenizer."""

import hashlib
from pathlib import Path
from typing import Any

from effft.tasks.builtin import lexicon

BOS, EOS, PAD, UNKNOWN = "<s>", "</s>", "<pad>", "<unk>"

_ANSWERS = (
    "Yes No True False Good Bad Right Wrong One Two Left Up Down Red Blue Green Black White North South East West "
    "Hot Cold Day Night Sun Moon"
)
LABEL_WORDS = tuple(_ANSWERS.split())
"""What questions are answered with; episodes draw their own pair, in either polarity."""

SENTENCE_QUESTIONS = (
    "plural",
    "past",
    "negated",
    "object",
    "adverb",
    "adjective",
    "broken",
    "repeated",
    "gap",
    "mixed",
)
PAIR_QUESTIONS = ("copy", "same_subject", "same_verb", "same_object", "share", "mostly_new", "shorter", "denied")
LIST_QUESTIONS = ("lists_share", "last_is_in")

CLOSED = (
    "the . , ? that by not there did uh seen fresh",
    " ".join(lexicon.MIDDLE_ADVERBS + lexicon.END_ADVERBS + lexicon.PREPOSITIONS),
    " ".join(lexicon.CONNECTIVES + lexicon.HYPOTHETICAL + lexicon.MODALS),
    " ".join(lexicon.SINGULAR_DETERMINERS + lexicon.PLURAL_DETERMINERS),
    " ".join(lexicon.BE + lexicon.WAS + lexicon.HAVE + lexicon.DO),
    " ".join(word for forms in lexicon.REFLEXIVES for word in forms),
)


def question(name: str) -> str:
    """The token that names a question."""
    return f"ask_{name}"


def words() -> list[str]:
    """The vocabulary in id order, special tokens first."""
    every = lexicon.EVERY_WORD
    found = [PAD, BOS, EOS, UNKNOWN, *" ".join(CLOSED).split(), *LABEL_WORDS]
    found += [question(name) for name in SENTENCE_QUESTIONS + PAIR_QUESTIONS + LIST_QUESTIONS]
    for group in (every.nouns, every.transitive, every.intransitive):
        found += [form for word in group for form in word]
    return list(dict.fromkeys([*found, *every.adjectives]))


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


def save_tokenizer(folder: Path, positions: int) -> None:
    """Write the tokenizer's files into `folder`."""
    build_tokenizer(positions).save_pretrained(folder)
