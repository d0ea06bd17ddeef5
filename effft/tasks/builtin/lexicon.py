"""The words of the built-in tasks (words.yaml), and how hard those tasks are: which of the words are used, and where.

A pair of forms is indexed by number: `BE[plural]`, `noun[plural]`.
"""

from dataclasses import dataclass
from operator import add
from pathlib import Path
from typing import NamedTuple

import yaml


class Noun(NamedTuple):
    """The two numbers of a noun."""

    singular: str
    plural: str


class Verb(NamedTuple):
    """The four forms of a regular verb; `past` is also the participle."""

    base: str
    third: str
    past: str
    ing: str


class Lexicon(NamedTuple):
    """Open-class words to draw from."""

    nouns: tuple[Noun, ...]
    transitive: tuple[Verb, ...]
    intransitive: tuple[Verb, ...]
    adjectives: tuple[str, ...]

    def first(self, nouns: int) -> "Lexicon":
        """The first `nouns` nouns, and of the other words the same share."""
        return Lexicon._make(words[: -(-len(words) * nouns // len(self.nouns))] for words in self)

    @property
    def verbs(self) -> tuple[Verb, ...]:
        """The transitive ones first."""
        return self.transitive + self.intransitive


def _lexicon(words: dict[str, str]) -> Lexicon:
    def verbs(kind: str) -> tuple[Verb, ...]:
        stems = [(base, base.removesuffix("e")) for base in words[kind].split()]
        return tuple(Verb(base, base + "s", stem + "ed", stem + "ing") for base, stem in stems)

    nouns = tuple(Noun(noun, noun + "s") for noun in words["nouns"].split())
    return Lexicon(nouns, verbs("transitive"), verbs("intransitive"), tuple(words["adjectives"].split()))


_TABLE: dict[str, dict[str, str]] = yaml.safe_load(Path(__file__).with_name("words.yaml").read_text(encoding="utf-8"))
CORE, HELD_OUT = _lexicon(_TABLE["core"]), _lexicon(_TABLE["held_out"])
EVERY_WORD = Lexicon._make(map(add, CORE, HELD_OUT))

_CLOSED = {name: tuple(words.split()) for name, words in _TABLE["closed"].items()}
CLOSED = tuple(word for words in _CLOSED.values() for word in words)
MIDDLE_ADVERBS, END_ADVERBS, PREPOSITIONS = (
    _CLOSED[name] for name in ("middle_adverbs", "end_adverbs", "prepositions")
)
CONNECTIVES, HYPOTHETICAL, MODALS = (_CLOSED[name] for name in ("connectives", "hypothetical", "modals"))
BE, WAS, HAVE, DO = (_CLOSED[name] for name in ("be", "was", "have", "do"))
DETERMINERS, REFLEXIVES = (
    (_CLOSED[f"singular_{kind}"], _CLOSED[f"plural_{kind}"]) for kind in ("determiners", "reflexives")
)

SMALLEST_LEXICON, LARGEST_LEXICON = 8, len(CORE.nouns)

DIFFICULTY_SETTINGS: dict[str, tuple[str, ...]] = {
    "agreement": ("lexicon_size", "ood_distance"),
    "overlap": ("overlap_strength", "lexicon_size", "ood_distance"),
}
"""Built-in task -> the difficulty settings it has."""


@dataclass(frozen=True)
class Difficulty:
    """How hard a built-in task is; each setting is a key of a source in a task file and a field of `RunConfig`.

    overlap_strength: share of the not entailed in-domain pairs that a missing word gives away, 0 to 1.
    lexicon_size: nouns of the train pool and the in-domain sets (other words in proportion). ood_distance: share of
    the OOD rows, whatever their phenomenon, made of held-out words.
    """

    overlap_strength: float = 1.0
    lexicon_size: int = LARGEST_LEXICON
    ood_distance: float = 0.0

    @property
    def words(self) -> Lexicon:
        """The core words in use."""
        return CORE.first(self.lexicon_size)


AS_MADE = Difficulty()
