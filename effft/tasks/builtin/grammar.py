"""Phrases and clauses, as lists of words. Every function draws from the generator it is given and nothing else.

Number is a bool everywhere: False singular, True plural, so that `noun[plural]` is the form.
"""

import random
from collections.abc import Sequence
from typing import TypeVar

from effft.tasks.builtin import lexicon as lex

T = TypeVar("T")
Words = list[str]


def pick(rng: random.Random, items: Sequence[T]) -> T:
    """One of `items`; twice as fast as `rng.choice`."""
    return items[int(rng.random() * len(items))]


def noun_phrase(rng: random.Random, words: lex.Lexicon, plural: bool, adjective: float = 0.25) -> Words:
    """`the (adjective) noun`; `adjective` is the chance of one."""
    return the(rng, words, pick(rng, words.nouns)[plural], adjective)


def the(rng: random.Random, words: lex.Lexicon, noun: str, adjective: float = 0.25) -> Words:
    """`the (adjective) noun` around a given noun form."""
    if rng.random() < adjective:
        return ["the", pick(rng, words.adjectives), noun]
    return ["the", noun]


def prepositional(rng: random.Random, words: lex.Lexicon, plural: bool) -> Words:
    """`near the noun`."""
    return [pick(rng, lex.PREPOSITIONS), "the", pick(rng, words.nouns)[plural]]


def predicate(rng: random.Random, words: lex.Lexicon, form: int, adverb: float = 0.3) -> Words:
    """A verb in one of its four forms (index into Verb), with an object where it takes one, perhaps an adverb."""
    if rng.random() < 0.5:
        phrase = [pick(rng, words.intransitive)[form]]
    else:
        phrase = [pick(rng, words.transitive)[form], *noun_phrase(rng, words, rng.random() < 0.5)]
    if rng.random() < adverb:
        phrase.append(pick(rng, lex.END_ADVERBS))
    return phrase


def middle(rng: random.Random, chance: float = 0.25) -> Words:
    """Perhaps an adverb between subject and verb."""
    return [pick(rng, lex.MIDDLE_ADVERBS)] if rng.random() < chance else []


def past_clause(rng: random.Random, words: lex.Lexicon, adjective: float = 0.25) -> Words:
    """A clause in the past tense: nothing in it shows agreement."""
    return [*noun_phrase(rng, words, rng.random() < 0.5, adjective), *middle(rng, 0.15), *predicate(rng, words, 2)]
