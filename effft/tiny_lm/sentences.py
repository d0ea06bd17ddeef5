"""Sentences of the pre-training text: correct ones with known properties, broken ones, and repaired ones.

What the evaluated tasks ask is never labelled here. Broken sentences are past-tense clauses broken in ways that cannot
touch agreement or verb form; faults of agreement occur only in running text, followed by `uh` and the right word.
No sentence belongs to a part of the built-in tasks (see effft.tasks.builtin.sampling).
"""

import random
from collections.abc import Callable

from effft.tasks.builtin import agreement
from effft.tasks.builtin import lexicon as lex
from effft.tasks.builtin.grammar import Words, middle, noun_phrase, past_clause, pick, predicate, prepositional
from effft.tasks.builtin.sampling import part_of

NEUTRAL_BREAKS = ("repeated", "gap", "mixed", "alien")
OURS = "pretraining"
OPTIONAL = frozenset((*lex.END_ADVERBS, *lex.MIDDLE_ADVERBS, *lex.EVERY_WORD.adjectives))
"""Words whose loss leaves a sentence correct."""


def ours(words: Words) -> bool:
    """Whether the sentence (words with the full stop) may be used in pre-training."""
    return part_of(" ".join(words)) == OURS


def until_ours(make: Callable[[], Words]) -> Words:
    """Draw until a sentence belongs to pre-training (one in three does)."""
    while not ours(words := [*make(), "."]):
        pass
    return words


# ---- sentences with known properties --------------------------------------------------------------------------


def described(rng: random.Random) -> tuple[Words, dict[str, bool]]:
    """A correct sentence of one clause, with the answers to the sentence questions: question -> bool."""
    while True:
        words, facts = _clause(rng)
        if ours(words):
            return words, facts


def _clause(rng: random.Random) -> tuple[Words, dict[str, bool]]:
    plural, past, negated = rng.random() < 0.5, rng.random() < 0.5, rng.random() < 0.4
    subject = noun_phrase(rng, lex.EVERY_WORD, plural, 0.4)
    if negated:
        helper, form = ("did", 0) if past else (pick(rng, (*lex.MODALS, ("does", "do")[plural])), 0)
        verb = [helper, "not", *predicate(rng, lex.EVERY_WORD, form, 0.4)]
    else:
        form = 2 if past else (0 if plural else 1)
        verb = [*middle(rng, 0.15), *predicate(rng, lex.EVERY_WORD, form, 0.4)]
    facts = {
        "plural": plural,
        "past": past,
        "negated": negated,
        "object": "the" in verb,
        "adverb": verb[-1] in lex.END_ADVERBS,
        "adjective": len(subject) == 3,
    }
    return [*subject, *verb, "."], facts


def broken(rng: random.Random, kind: str) -> Words:
    """A past-tense sentence broken in one way: nothing in it could show agreement or a wrong verb form."""
    while True:
        whole = _long_past(rng)
        words = _break(rng, whole, kind)
        if words != whole and ours([*words, "."]):
            return [*words, "."]


def _break(rng: random.Random, whole: Words, kind: str) -> Words:
    words = list(whole)
    place = int(rng.random() * len(words))
    if kind == "repeated":
        words.insert(place, words[place])
    elif kind == "gap":
        del words[place if words[place] not in OPTIONAL else 0]
    elif kind == "mixed":
        place = min(place, len(words) - 2)
        words[place], words[place + 1] = words[place + 1], words[place]
    else:
        words[place] = _alien(rng, words[place])
    return words


def _alien(rng: random.Random, word: str) -> str:
    """A word of another category, never a verb form that could pass for agreement."""
    if word in ("the", *lex.PREPOSITIONS, *lex.END_ADVERBS, *lex.MIDDLE_ADVERBS):
        return pick(rng, (pick(rng, lex.EVERY_WORD.nouns)[0], pick(rng, lex.EVERY_WORD.transitive).past))
    return pick(rng, ("the", pick(rng, lex.PREPOSITIONS), pick(rng, lex.MIDDLE_ADVERBS), "that", "by"))


def whole_past(rng: random.Random) -> Words:
    """The unbroken counterpart of `broken`."""
    return until_ours(lambda: _long_past(rng))


def _long_past(rng: random.Random) -> Words:
    """A past-tense clause, sometimes with a prepositional phrase."""
    words = past_clause(rng, lex.EVERY_WORD)
    return words + prepositional(rng, lex.EVERY_WORD, rng.random() < 0.5) if rng.random() < 0.3 else words


# ---- running text ---------------------------------------------------------------------------------------------


def plain(rng: random.Random) -> Words:
    """A correct sentence of any construction. Agreement across a noun of the other number never shows."""
    return until_ours(lambda: pick(rng, PLAIN)(rng))


def _agreeing(rng: random.Random) -> Words:
    return pick(rng, tuple(agreement.IN_DOMAIN.values()))(rng, lex.EVERY_WORD, True)


def _present(rng: random.Random, plural: bool) -> Words:
    """A predicate that shows the number, in one of the ways English has."""
    kind = rng.random()
    if kind < 0.4:
        return predicate(rng, lex.EVERY_WORD, 0 if plural else 1)
    if kind < 0.6:
        return [pick(rng, (lex.BE, lex.WAS))[plural], pick(rng, lex.EVERY_WORD.adjectives)]
    if kind < 0.8:
        return [lex.BE[plural], *predicate(rng, lex.EVERY_WORD, 3)]
    return [lex.HAVE[plural], *predicate(rng, lex.EVERY_WORD, 2)]


def _near(rng: random.Random) -> Words:
    plural = rng.random() < 0.5
    subject = noun_phrase(rng, lex.EVERY_WORD, plural)
    return [*subject, *prepositional(rng, lex.EVERY_WORD, plural), *_present(rng, plural)]


def _relative(rng: random.Random) -> Words:
    plural = rng.random() < 0.5
    inner = [pick(rng, lex.EVERY_WORD.transitive).past, *noun_phrase(rng, lex.EVERY_WORD, rng.random() < 0.5)]
    return [*noun_phrase(rng, lex.EVERY_WORD, plural), "that", *inner, *predicate(rng, lex.EVERY_WORD, 2)]


def _reflexive(rng: random.Random) -> Words:
    plural = rng.random() < 0.5
    verb = pick(rng, lex.EVERY_WORD.transitive).past
    return [*noun_phrase(rng, lex.EVERY_WORD, plural), verb, pick(rng, lex.REFLEXIVES[plural])]


def _existential(rng: random.Random) -> Words:
    plural = rng.random() < 0.5
    phrase = [pick(rng, lex.DETERMINERS[plural]), *noun_phrase(rng, lex.EVERY_WORD, plural)[1:]]
    return ["there", pick(rng, (lex.BE, lex.WAS))[plural], *phrase]


def _passive(rng: random.Random) -> Words:
    plural = rng.random() < 0.5
    verb = pick(rng, lex.EVERY_WORD.transitive).past
    agent = noun_phrase(rng, lex.EVERY_WORD, rng.random() < 0.5)
    return [*noun_phrase(rng, lex.EVERY_WORD, plural), lex.WAS[plural], verb, "by", *agent]


def _joined(rng: random.Random) -> Words:
    return [*past_clause(rng, lex.EVERY_WORD), pick(rng, lex.CONNECTIVES), *past_clause(rng, lex.EVERY_WORD)]


def _opened(rng: random.Random) -> Words:
    opening = pick(rng, (*lex.CONNECTIVES[:3], *lex.HYPOTHETICAL))
    return [opening, *past_clause(rng, lex.EVERY_WORD), ",", *past_clause(rng, lex.EVERY_WORD)]


PLAIN: tuple[Callable[[random.Random], Words], ...] = (
    _agreeing, _agreeing, _agreeing, _agreeing, _agreeing, _near, _relative, _reflexive, _existential, _passive,
    _joined, _opened,
)  # fmt: skip


LATEST_REPAIR = 4  # Words between a slip and `uh`, at most; never as late as the full stop.


def repaired(rng: random.Random) -> Words:
    """A sentence with a slip, `uh` some words later, and the sentence taken up again where it went wrong.

    `the author laugh uh laughs today .`, `the author laugh today uh laughs today .`
    """
    while True:
        slipped, right = _slip(rng)
        place = next((i for i, (a, b) in enumerate(zip(slipped, right, strict=False)) if a != b), -1)
        if place >= 0 and ours([*right, "."]) and ours([*slipped, "."]):
            break
    noticed = min(place + 1 + int(rng.random() * LATEST_REPAIR), len(slipped))
    return [*slipped[:noticed], "uh", *right[place:], "."]


def _slip(rng: random.Random) -> tuple[Words, Words]:
    """A sentence with one fault, and the right one."""
    if rng.random() < 0.35:
        right = past_clause(rng, lex.EVERY_WORD)
        return _break(rng, right, pick(rng, NEUTRAL_BREAKS)), right
    maker = pick(rng, tuple(agreement.IN_DOMAIN.values()))
    state = rng.getstate()
    right = maker(rng, lex.EVERY_WORD, True)
    rng.setstate(state)
    return maker(rng, lex.EVERY_WORD, False), right
