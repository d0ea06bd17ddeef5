"""The task `agreement`: is the sentence acceptable? CoLA's shape, in a grammar where the answer is known.

Every unacceptable sentence has exactly one fault, of the kind its `phenomenon` names; the acceptable ones of the same
phenomenon are built alike. Inside a phenomenon no single word tells the label. A maker draws the same random numbers
whatever `good` is, so that two calls from one state give a minimal pair.
"""

import random

from effft.tasks.builtin import lexicon as lex
from effft.tasks.builtin.grammar import Words, middle, noun_phrase, past_clause, pick, predicate, prepositional
from effft.tasks.builtin.sampling import BuiltinRow, balanced, by_name, part_of

LABELS = ("unacceptable", "acceptable")


def _present(plural: bool) -> int:
    """Index of the present form that agrees with a subject of this number (base or third person)."""
    return 0 if plural else 1


def subject_verb(rng: random.Random, words: lex.Lexicon, good: bool) -> Words:
    """The author laughs / *The author laugh."""
    plural = rng.random() < 0.5
    return [*noun_phrase(rng, words, plural), *middle(rng), *predicate(rng, words, _present(plural == good))]


def auxiliary(rng: random.Random, words: lex.Lexicon, good: bool) -> Words:
    """The author is happy, has laughed, does not laugh / *The author are happy, ..."""
    plural = rng.random() < 0.5
    shown = plural == good
    subject = noun_phrase(rng, words, plural)
    kind = rng.random()
    if kind < 0.3:
        return [*subject, pick(rng, (lex.BE, lex.WAS))[shown], pick(rng, words.adjectives)]
    if kind < 0.55:
        return [*subject, pick(rng, (lex.BE, lex.WAS))[shown], *predicate(rng, words, 3)]
    if kind < 0.8:
        return [*subject, lex.HAVE[shown], *predicate(rng, words, 2)]
    return [*subject, lex.DO[shown], "not", *predicate(rng, words, 0)]


def determiner(rng: random.Random, words: lex.Lexicon, good: bool) -> Words:
    """These authors laughed / *These author laughed."""
    plural = rng.random() < 0.5
    phrase = [pick(rng, lex.DETERMINERS[plural]), *noun_phrase(rng, words, plural == good)[1:]]
    if rng.random() < 0.5:
        return [*phrase, *middle(rng), *predicate(rng, words, 2)]
    verb = pick(rng, words.transitive).past
    return [*noun_phrase(rng, words, rng.random() < 0.5), verb, *phrase]


def coordination(rng: random.Random, words: lex.Lexicon, good: bool) -> Words:
    """The author and the judge laugh / *... laughs; with the `and` in the object, the subject is singular."""
    first, second = noun_phrase(rng, words, False), noun_phrase(rng, words, False)
    if rng.random() < 0.5:
        return [*first, "and", *second, *predicate(rng, words, _present(good))]
    verb = pick(rng, words.transitive)[_present(not good)]
    return [*noun_phrase(rng, words, False), verb, *first, "and", *second]


def verb_form(rng: random.Random, words: lex.Lexicon, good: bool) -> Words:
    """The author will laugh, is laughing, has laughed / *The author will laughing, ..."""
    plural = rng.random() < 0.5
    right, helper = pick(rng, ((0, pick(rng, lex.MODALS)), (2, lex.HAVE[plural]), (3, lex.BE[plural])))
    wrong = pick(rng, tuple(form for form in (0, 2, 3) if form != right))
    return [*noun_phrase(rng, words, plural), helper, *predicate(rng, words, right if good else wrong)]


def attractor_prepositional(rng: random.Random, words: lex.Lexicon, good: bool) -> Words:
    """The author near the judges laughs / *... laugh: a noun of the other number stands between."""
    plural = rng.random() < 0.5
    subject = [*noun_phrase(rng, words, plural), *prepositional(rng, words, not plural)]
    return [*subject, *predicate(rng, words, _present(plural == good))]


def attractor_relative(rng: random.Random, words: lex.Lexicon, good: bool) -> Words:
    """The author that admired the judges laughs / *... laugh."""
    plural = rng.random() < 0.5
    inner = [pick(rng, words.transitive).past, "the", pick(rng, words.nouns)[not plural]]
    return [*noun_phrase(rng, words, plural), "that", *inner, *predicate(rng, words, _present(plural == good))]


def reflexive(rng: random.Random, words: lex.Lexicon, good: bool) -> Words:
    """The authors admired themselves / *The authors admired himself."""
    plural = rng.random() < 0.5
    tail = [pick(rng, lex.END_ADVERBS)] if rng.random() < 0.3 else []
    verb = pick(rng, words.transitive).past
    return [*noun_phrase(rng, words, plural), *middle(rng), verb, pick(rng, lex.REFLEXIVES[plural == good]), *tail]


def inversion(rng: random.Random, words: lex.Lexicon, good: bool) -> Words:
    """Near the authors is the judge / *Near the authors are the judge: the subject follows the verb."""
    plural = rng.random() < 0.5
    place = [pick(rng, lex.PREPOSITIONS), *noun_phrase(rng, words, not plural)]
    return [*place, pick(rng, (lex.BE, lex.WAS))[plural == good], *noun_phrase(rng, words, plural)]


def existential(rng: random.Random, words: lex.Lexicon, good: bool) -> Words:
    """There is this author near the judge / *There are this author near the judge."""
    plural = rng.random() < 0.5
    phrase = [pick(rng, lex.DETERMINERS[plural]), *noun_phrase(rng, words, plural)[1:]]
    return ["there", pick(rng, (lex.BE, lex.WAS))[plural == good], *phrase, *prepositional(rng, words, plural)]


IN_DOMAIN = by_name(subject_verb, auxiliary, determiner, coordination, verb_form)


def held_out_words(rng: random.Random, _words: lex.Lexicon, good: bool) -> Words:
    """An in-domain phenomenon, all its open-class words from the held-out lexicon."""
    return pick(rng, tuple(IN_DOMAIN.values()))(rng, lex.HELD_OUT, good)


def longer(rng: random.Random, words: lex.Lexicon, good: bool) -> Words:
    """An in-domain phenomenon in one clause, an acceptable past clause with adjectives before or after it."""
    clause = pick(rng, tuple(IN_DOMAIN.values()))(rng, words, good)
    other = past_clause(rng, words, adjective=0.8)
    first, second = (clause, other) if rng.random() < 0.5 else (other, clause)
    # Not `and`: it could join the nouns on its two sides.
    return [*first, pick(rng, lex.CONNECTIVES[:3]), *second]


OOD = by_name(held_out_words, longer, attractor_prepositional, attractor_relative, reflexive, inversion, existential)


def rows(part: str, ood: bool, size: int, rng: random.Random, difficulty: lex.Difficulty) -> list[BuiltinRow]:
    """Rows with `sentence`, `label`, `phenomenon`; every sentence belongs to `part`."""
    makers = OOD if ood else IN_DOMAIN
    core, far = difficulty.words, difficulty.ood_distance if ood else 0.0

    def make(phenomenon: str, label: str) -> BuiltinRow | None:
        words = lex.HELD_OUT if far and rng.random() < far else core
        sentence = " ".join([*makers[phenomenon](rng, words, label == "acceptable"), "."])
        if part_of(sentence) != part:
            return None
        return {"sentence": sentence, "label": label, "phenomenon": phenomenon}

    return balanced("agreement", tuple(makers), LABELS, size, rng, make, ("sentence",))
