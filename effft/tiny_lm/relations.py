"""Two sentences, or two lists of words, with known relations.

None of the relations is entailment, and none is "every word of the second occurs in the first" (what the built-in task
`overlap` rewards in domain). The first sentence of a `copy` pair is bare; `overlap` has no identical pairs.
"""

import random

from effft.tasks.builtin.grammar import Words, pick, the
from effft.tasks.builtin.lexicon import END_ADVERBS, EVERY_WORD, PREPOSITIONS
from effft.tiny_lm.sentences import ours


def related(rng: random.Random, relation: str) -> tuple[Words, bool]:
    """Two sentences and whether `relation` holds between them; both answers are equally frequent."""
    wanted = rng.random() < 0.5
    while True:
        first, second, holds = _pair(rng, relation, wanted)
        if holds == wanted and ours(second) and ours(first):
            return first + second, wanted


def _pair(rng: random.Random, relation: str, wanted: bool) -> tuple[Words, Words, bool]:
    agent, verb, patient = _parts(rng)
    others = _parts(rng, agent, verb, patient)
    same = _kept_parts(rng, relation, wanted)
    parts = [part if kept else other for part, other, kept in zip((agent, verb, patient), others, same, strict=True)]
    denied, bare = relation == "denied" and wanted, relation == "copy"
    second = _deny(*parts) if denied else ["the", parts[0], parts[1], "the", parts[2], "."]
    first = ["the", agent, verb, "the", patient, "."] if bare else _dressed(rng, agent, verb, patient)
    facts = {
        "copy": all(same) and bare,
        "same_subject": same[0],
        "same_verb": same[1],
        "same_object": same[2],
        "share": any(same),
        "mostly_new": sum(same) < 2,
        "shorter": len(second) < len(first),
        "denied": denied,
    }
    return first, second, facts[relation]


def _kept_parts(rng: random.Random, relation: str, wanted: bool) -> tuple[bool, bool, bool]:
    """Whether the second sentence keeps the first one's agent, verb and patient."""
    if relation in ("copy", "denied") and wanted:
        return (True, True, True)
    if relation == "copy":
        return pick(rng, ((True, True, False), (True, False, True), (False, True, True), (False, False, False)))
    if relation == "share" and not wanted:
        return (False, False, False)
    return (rng.random() < 0.5, rng.random() < 0.5, rng.random() < 0.5)


def _parts(rng: random.Random, *known: str) -> tuple[str, str, str]:
    """Agent, verb and patient that are none of the known ones."""
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

EVERY_FORM = tuple(form for word in EVERY_WORD.nouns + EVERY_WORD.transitive + EVERY_WORD.intransitive for form in word)


def marked_lists(rng: random.Random, longest: int = 8) -> Words:
    """`w1 w2 w3 . w2 seen w9 fresh .`: each word of the second list is followed by whether the first has it."""
    first = rng.sample(EVERY_FORM, rng.randint(2, longest))
    words = [*first, "."]
    for _ in range(rng.randint(2, longest)):
        word = pick(rng, first) if rng.random() < 0.5 else pick(rng, EVERY_FORM)
        words += [word, "seen" if word in first else "fresh"]
    return [*words, "."]


def listed(rng: random.Random, relation: str) -> tuple[Words, bool]:
    """Two lists of words and whether `relation` holds between them; both answers are equally frequent."""
    wanted = rng.random() < 0.5
    first = rng.sample(EVERY_FORM, rng.randint(2, 6))
    second = [word for word in rng.sample(EVERY_FORM, 12) if word not in first][: rng.randint(1, 5)]
    if wanted:
        place = len(second) - 1 if relation == "last_is_in" else int(rng.random() * len(second))
        second[place] = pick(rng, first)
    return [*first, ".", *second, "."], wanted
