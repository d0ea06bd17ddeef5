"""The words of the built-in tasks: regular English, so that form tells number and tense.

`CORE` is what the train pool and the in-domain sets are made of; `HELD_OUT` occurs in OOD slices (and in
pre-training text) only.
"""

from dataclasses import dataclass
from typing import NamedTuple


class Noun(NamedTuple):
    """The two numbers of a noun: `noun[plural]`."""

    singular: str
    plural: str


class Verb(NamedTuple):
    """The four forms of a regular verb; `past` is also the participle."""

    base: str
    third: str
    past: str
    ing: str


@dataclass(frozen=True)
class Lexicon:
    """Open-class words to draw from."""

    nouns: tuple[Noun, ...]
    transitive: tuple[Verb, ...]
    intransitive: tuple[Verb, ...]
    adjectives: tuple[str, ...]

    def __add__(self, other: "Lexicon") -> "Lexicon":
        return Lexicon(
            self.nouns + other.nouns,
            self.transitive + other.transitive,
            self.intransitive + other.intransitive,
            self.adjectives + other.adjectives,
        )

    def first(self, nouns: int) -> "Lexicon":
        """The first `nouns` nouns, and of the other words the same share."""

        def cut(count: int) -> int:
            return -(-count * nouns // len(self.nouns))

        return Lexicon(
            self.nouns[:nouns],
            self.transitive[: cut(len(self.transitive))],
            self.intransitive[: cut(len(self.intransitive))],
            self.adjectives[: cut(len(self.adjectives))],
        )


def _nouns(words: str) -> tuple[Noun, ...]:
    return tuple(Noun(word, word + "s") for word in words.split())


def _verbs(words: str) -> tuple[Verb, ...]:
    return tuple(_verb(word) for word in words.split())


def _verb(base: str) -> Verb:
    stem = base.removesuffix("e")
    return Verb(base, base + "s", stem + "ed", stem + "ing")


CORE = Lexicon(
    nouns=_nouns(
        "author doctor judge actor lawyer artist banker teacher student senator manager tourist "
        "writer singer dancer farmer pilot baker sailor painter"
    ),
    transitive=_verbs(
        "admire help follow call thank visit trust blame praise like fear join remember greet warn support"
    ),
    intransitive=_verbs("laugh smile wait work talk walk listen shout arrive cough"),
    adjectives=("old", "young", "happy", "tall", "quiet", "famous", "busy", "clever", "kind", "rich"),
)

HELD_OUT = Lexicon(
    nouns=_nouns("scientist athlete president professor driver waiter poet guard clerk chef"),
    transitive=_verbs("avoid mention accuse invite paint attack"),
    intransitive=_verbs("yawn wander complain whisper"),
    adjectives=("proud", "calm", "brave", "honest", "polite"),
)

EVERY_WORD = CORE + HELD_OUT

MIDDLE_ADVERBS = ("often", "usually", "really", "sometimes")
"""Stand between subject and verb."""

END_ADVERBS = ("today", "again", "here", "outside", "together")
"""Stand at the end of a clause."""

PREPOSITIONS = ("near", "behind", "beside", "with")

CONNECTIVES = ("because", "while", "although", "and")
"""Join two clauses that both hold."""

HYPOTHETICAL = ("if", "unless")
"""Open a clause that need not hold; what follows the comma need not hold either."""

SINGULAR_DETERMINERS = ("this", "that", "every", "each")
PLURAL_DETERMINERS = ("these", "those", "many", "several")
DETERMINERS = (SINGULAR_DETERMINERS, PLURAL_DETERMINERS)
"""`DETERMINERS[plural]`; `the` goes with both numbers."""

BE, WAS, HAVE, DO = ("is", "are"), ("was", "were"), ("has", "have"), ("does", "do")
"""Auxiliaries with number: `BE[plural]`."""

MODALS = ("will", "can", "must")
"""Auxiliaries without number, before a base form (`did` too, before `not`)."""

REFLEXIVES = (("himself", "herself"), ("themselves",))
"""`REFLEXIVES[plural]`."""
