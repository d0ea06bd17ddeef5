"""Two sentences, or two lists of words, with known relations.

None of the relations is entailment, and none is "every word of the second occurs in the first" (what the built-in task
`overlap` rewards in domain). The first sentence of a `copy` pair is bare; `overlap` has no identical pairs.
"""

import random
from typing import NamedTuple

from effft.tasks.builtin.grammar import Words, pick, the
from effft.tasks.builtin.lexicon import END_ADVERBS, EVERY_WORD, PREPOSITIONS
from effft.tiny_lm.sentences import ours


class Pair(NamedTuple):
    """Two texts and what is true of them: relation -> bool."""

    first: Words
    second: Words
    facts: dict[str, bool]


def related(rng: random.Random, relation: str) -> Pair:
    """Two sentences; both answers to `relation` are equally frequent."""
    wanted = rng.random() < 0.5
    while True:
        pair = _pair(rng, relation, wanted)
        if pair.facts[relation] == wanted and ours(pair.second) and ours(pair.first):
            return pair


def _pair(rng: random.Random, relation: str, wanted: bool) -> Pair:
    agent, verb, patient = _parts(rng)
    other_agent, other_verb, other_patient = _parts(rng, agent, verb, patient)
    keep = _keep(rng, relation, wanted)
    said = (
        agent if keep[0] else other_agent,
        verb if keep[1] else other_verb,
        patient if keep[2] else other_patient,
    )
    denied = relation == "denied" and wanted
    second = _deny(*said) if denied else ["the", said[0], said[1], "the", said[2], "."]
    bare = relation == "copy"
    first = ["the", agent, verb, "the", patient, "."] if bare else _dressed(rng, agent, verb, patient)
    kept = sum(keep)
    facts = {
        "copy": kept == 3 and bare,
        "same_subject": keep[0],
        "same_verb": keep[1],
        "same_object": keep[2],
        "share": kept > 0,
        "mostly_new": kept < 2,
        "shorter": len(second) < len(first),
        "denied": denied,
    }
    return Pair(first, second, facts)


def _keep(rng: random.Random, relation: str, wanted: bool) -> tuple[bool, bool, bool]:
    if relation in ("copy", "denied"):
        if wanted or relation == "denied":
            return (True, True, True) if wanted else (rng.random() < 0.5, rng.random() < 0.5, rng.random() < 0.5)
        return pick(rng, ((True, True, False), (True, False, True), (False, True, True), (False, False, False)))
    if relation == "share" and not wanted:
        return (False, False, False)
    return (rng.random() < 0.5, rng.random() < 0.5, rng.random() < 0.5)


def _parts(rng: random.Random, *known: str) -> tuple[str, str, str]:
    lemmas = {word.removesuffix("s") for word in known}
    nouns: Words = []
    while len(nouns) < 2:
        noun = pick(rng, EVERY_WORD.nouns)
        if noun.singular not in lemmas:
            lemmas.add(noun.singular)
            nouns.append(noun[rng.random() < 0.5])
    while (verb := pick(rng, EVERY_WORD.transitive).past) in known:
        pass
    return nouns[0], verb, nouns[1]


def _dressed(rng: random.Random, agent: str, verb: str, patient: str) -> Words:
    phrase = [*the(rng, EVERY_WORD, agent, 0.3), verb, *the(rng, EVERY_WORD, patient, 0.3)]
    chance = rng.random()
    if chance < 0.25:
        phrase.append(pick(rng, END_ADVERBS))
    elif chance < 0.5:
        phrase += [pick(rng, PREPOSITIONS), "the", _parts(rng, agent, verb, patient)[0]]
    return [*phrase, "."]


def _deny(agent: str, verb: str, patient: str) -> Words:
    base = next(forms.base for forms in EVERY_WORD.transitive if forms.past == verb)
    return ["the", agent, "did", "not", base, "the", patient, "."]


# ---- lists of words -------------------------------------------------------------------------------------------

EVERY_FORM = tuple(
    form
    for group in (EVERY_WORD.nouns, EVERY_WORD.transitive, EVERY_WORD.intransitive)
    for word in group
    for form in word
)


def marked_lists(rng: random.Random, longest: int = 8) -> Words:
    """`w1 w2 w3 . w2 seen w9 fresh .`: each word of the second list is followed by whether the first has it."""
    first = rng.sample(EVERY_FORM, rng.randint(2, longest))
    words = [*first, "."]
    for _ in range(rng.randint(2, longest)):
        word = pick(rng, first) if rng.random() < 0.5 else pick(rng, EVERY_FORM)
        words += [word, "seen" if word in first else "fresh"]
    return [*words, "."]


def listed(rng: random.Random, relation: str) -> Pair:
    """Two lists of words; both answers to `relation` are equally frequent."""
    wanted = rng.random() < 0.5
    first = rng.sample(EVERY_FORM, rng.randint(2, 6))
    second = [word for word in rng.sample(EVERY_FORM, 12) if word not in first][: rng.randint(1, 5)]
    if wanted:
        place = len(second) - 1 if relation == "last_is_in" else int(rng.random() * len(second))
        second[place] = pick(rng, first)
    return Pair([*first, "."], [*second, "."], {relation: wanted})
