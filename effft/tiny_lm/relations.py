"""Two sentences, or two lists of words, with known relations.

None of the relations is entailment, and none is "every word of the second occurs in the first" (what the built-in task
`overlap` rewards in domain). The first sentence of a `copy` pair is bare; `overlap` has no identical pairs.
"""

import random

from effft.tasks.builtin import lexicon as lex
from effft.tasks.builtin.grammar import Words, pick, the
from effft.tasks.builtin.overlap import Fact, new_fact, say
from effft.tiny_lm.sentences import ours


def related(rng: random.Random, relation: str) -> tuple[Words, bool]:
    """Two sentences and whether `relation` holds between them; both answers are equally frequent."""
    wanted = rng.random() < 0.5
    while True:
        first, second, holds = _pair(rng, relation, wanted)
        if holds == wanted and ours(second) and ours(first):
            return first + second, wanted


def _pair(rng: random.Random, relation: str, wanted: bool) -> tuple[Words, Words, bool]:
    fact = new_fact(rng, lex.EVERY_WORD)
    other = new_fact(rng, lex.EVERY_WORD, fact)
    same = _kept_parts(rng, relation, wanted)
    told = Fact(*(part if kept else new for part, new, kept in zip(fact, other, same, strict=True)))
    denied, bare = relation == "denied" and wanted, relation == "copy"
    second = [*(_deny(told) if denied else say(told)), "."]
    first = [*(say(fact) if bare else _dressed(rng, fact)), "."]
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


def _dressed(rng: random.Random, fact: Fact) -> Words:
    phrase = [*the(rng, lex.EVERY_WORD, fact.agent, 0.3), fact.verb, *the(rng, lex.EVERY_WORD, fact.patient, 0.3)]
    chance = rng.random()
    if chance < 0.25:
        phrase.append(pick(rng, lex.END_ADVERBS))
    elif chance < 0.5:
        phrase += [pick(rng, lex.PREPOSITIONS), "the", new_fact(rng, lex.EVERY_WORD, fact).agent]
    return phrase


def _deny(fact: Fact) -> Words:
    base = next(forms.base for forms in lex.EVERY_WORD.transitive if forms.past == fact.verb)
    return ["the", fact.agent, "did", "not", base, "the", fact.patient]


# ---- lists of words -------------------------------------------------------------------------------------------

EVERY_FORM = tuple(form for word in lex.EVERY_WORD.nouns + lex.EVERY_WORD.verbs for form in word)


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
