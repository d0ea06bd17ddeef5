"""The task `overlap`: does the premise entail the hypothesis? MNLI's shape in domain, HANS's out of domain.

In domain a hypothesis is entailed exactly when all its words occur in the premise; in the trap constructions every
word of every hypothesis occurs in the premise, so that word overlap tells nothing there.

The hypothesis is drawn first, then a premise around it.
"""

import random
from typing import NamedTuple

from effft.tasks.builtin import lexicon as lex
from effft.tasks.builtin.grammar import Words, pick, the
from effft.tasks.builtin.sampling import BuiltinRow, balanced, by_name, part_of

LABELS = ("non_entailment", "entailment")


class Fact(NamedTuple):
    """Who did what to whom; `patient` is '' for an intransitive verb."""

    agent: str
    verb: str
    patient: str

    @property
    def reversed(self) -> "Fact":
        """The same with agent and patient exchanged."""
        return Fact(self.patient, self.verb, self.agent)


def say(fact: Fact) -> Words:
    """The plain sentence of a fact, without its full stop."""
    agent, verb, patient = fact
    return ["the", agent, verb, "the", patient] if patient else ["the", agent, verb]


def new_nouns(rng: random.Random, words: lex.Lexicon, count: int, *known: Fact) -> Words:
    """`count` nouns, in numbers drawn for them, no two of one lemma and none of a lemma in the known facts."""
    lemmas = {noun.removesuffix("s") for fact in known for noun in (fact.agent, fact.patient)}
    found: Words = []
    while len(found) < count:
        noun = pick(rng, words.nouns)
        if noun.singular not in lemmas:
            lemmas.add(noun.singular)
            found.append(noun[rng.random() < 0.5])
    return found


def _verb(rng: random.Random, words: lex.Lexicon, *taken: str, transitive: bool = True) -> str:
    """A past form that is none of `taken`."""
    pool = words.transitive if transitive else words.intransitive
    while (verb := pick(rng, pool).past) in taken:
        pass
    return verb


def _fact(rng: random.Random, words: lex.Lexicon, intransitive: float = 0.0) -> Fact:
    if rng.random() < intransitive:
        return Fact(new_nouns(rng, words, 1)[0], _verb(rng, words, transitive=False), "")
    return new_fact(rng, words)


def _dressed(rng: random.Random, words: lex.Lexicon, fact: Fact, adjective: float = 0.3) -> Words:
    """The fact with adjectives and an adverb that no hypothesis repeats."""
    phrase = [*the(rng, words, fact.agent, adjective), fact.verb]
    if fact.patient:
        phrase += the(rng, words, fact.patient, adjective)
    return [*phrase, pick(rng, lex.END_ADVERBS)] if rng.random() < 0.3 else phrase


def new_fact(rng: random.Random, words: lex.Lexicon, *known: Fact) -> Fact:
    """A fact that shares no word with `known`."""
    agent, patient = new_nouns(rng, words, 2, *known)
    return Fact(agent, _verb(rng, words, *(fact.verb for fact in known)), patient)


def _altered(rng: random.Random, words: lex.Lexicon, fact: Fact) -> Fact:
    """The fact with one of its words replaced."""
    place = int(rng.random() * (3 if fact.patient else 2))
    if place == 1:
        return fact._replace(verb=_verb(rng, words, fact.verb, transitive=bool(fact.patient)))
    noun = new_nouns(rng, words, 1, fact)[0]
    return fact._replace(agent=noun) if place == 0 else fact._replace(patient=noun)


def _in_order(rng: random.Random, first: Words, joint: str, second: Words) -> Words:
    return [*first, joint, *second] if rng.random() < 0.5 else [*second, joint, *first]


# ---- in-domain: (rng, words, the true fact, the hypothesis) -> premise -------------------------------------------


def modifier(rng: random.Random, words: lex.Lexicon, fact: Fact, _said: Fact) -> Words:
    """The old author admired the judge today -> The author admired the judge."""
    while len(premise := _dressed(rng, words, fact, 0.5)) == len(say(fact)):
        pass
    return premise


def conjoined_subject(rng: random.Random, words: lex.Lexicon, fact: Fact, said: Fact) -> Words:
    """The author and the judge admired the actor -> The judge admired the actor."""
    other = new_nouns(rng, words, 1, fact, said)[0]
    subject = _in_order(rng, the(rng, words, fact.agent), "and", the(rng, words, other))
    return [*subject, fact.verb, *the(rng, words, fact.patient)]


def conjoined_object(rng: random.Random, words: lex.Lexicon, fact: Fact, said: Fact) -> Words:
    """The author admired the judge and the actor -> The author admired the actor."""
    other = new_nouns(rng, words, 1, fact, said)[0]
    objects = _in_order(rng, the(rng, words, fact.patient), "and", the(rng, words, other))
    return [*the(rng, words, fact.agent), fact.verb, *objects]


def two_clauses(rng: random.Random, words: lex.Lexicon, fact: Fact, said: Fact) -> Words:
    """The author laughed because the judge admired the actor -> The author laughed."""
    other = new_fact(rng, words, fact, said)
    clauses = (_dressed(rng, words, fact, 0.15), _dressed(rng, words, other, 0.15))
    return _in_order(rng, clauses[0], pick(rng, lex.CONNECTIVES), clauses[1])


def prepositional(rng: random.Random, words: lex.Lexicon, fact: Fact, said: Fact) -> Words:
    """The author admired the judge near the actor -> The author admired the judge."""
    place = new_nouns(rng, words, 1, fact, said)[0]
    return [*_dressed(rng, words, fact), pick(rng, lex.PREPOSITIONS), "the", place]


def longer(rng: random.Random, words: lex.Lexicon, fact: Fact, said: Fact) -> Words:
    """Three clauses with adjectives; the hypothesis tells one of them."""
    second = new_fact(rng, words, fact, said)
    third = new_fact(rng, words, fact, said, second)
    clauses = [_dressed(rng, words, told, 0.6) for told in (fact, second, third)]
    rng.shuffle(clauses)
    first, *rest = clauses
    return first + [word for clause in rest for word in (pick(rng, lex.CONNECTIVES), *clause)]


# ---- traps: (rng, words, hypothesis, good) -> premise ------------------------------------------------------------


def swap(rng: random.Random, words: lex.Lexicon, said: Fact, good: bool) -> Words:
    """The old author admired the judge -/-> The judge admired the author."""
    while len(premise := _dressed(rng, words, said if good else said.reversed, 0.5)) == len(say(said)):
        pass
    return premise


def passive(rng: random.Random, words: lex.Lexicon, said: Fact, good: bool) -> Words:
    """The judge was admired by the author -> The author admired the judge; -/-> The judge admired the author."""
    fact = said if good else said.reversed
    helper = "were" if fact.patient.endswith("s") else "was"
    return [*the(rng, words, fact.patient, 0.6), helper, fact.verb, "by", *the(rng, words, fact.agent, 0.6)]


def prepositional_subject(rng: random.Random, words: lex.Lexicon, said: Fact, good: bool) -> Words:
    """The author near the judge admired the actor -> The author admired the actor; -/-> The judge ..."""
    other = new_nouns(rng, words, 1, said)[0]
    agent, place = (said.agent, other) if good else (other, said.agent)
    return [
        *the(rng, words, agent),
        pick(rng, lex.PREPOSITIONS),
        "the",
        place,
        said.verb,
        *the(rng, words, said.patient),
    ]


def relative_clause(rng: random.Random, words: lex.Lexicon, said: Fact, good: bool) -> Words:
    """The author that admired the judge helped the actor -/-> The judge helped the actor."""
    other, verb = new_nouns(rng, words, 1, said)[0], _verb(rng, words, said.verb)
    agent, inner, outer = other, (verb, said.agent), (said.verb, said.patient)
    if good:
        agent, inner = said.agent, (verb, other)
        if rng.random() < 0.5:
            inner, outer = outer, inner
    phrase = [*the(rng, words, agent), "that", inner[0], *the(rng, words, inner[1])]
    return [*phrase, outer[0], *the(rng, words, outer[1])]


def recombined(rng: random.Random, words: lex.Lexicon, said: Fact, good: bool) -> Words:
    """The author admired the judge while the actor helped the baker -/-> The author admired the baker."""
    fact, other = said, new_fact(rng, words, said)
    if not good:
        shared = {"patient": other.patient} if rng.random() < 0.5 else {"agent": other.agent}
        fact, other = said._replace(**shared), other._replace(**{key: getattr(said, key) for key in shared})
    return _in_order(rng, _dressed(rng, words, fact), pick(rng, lex.CONNECTIVES), _dressed(rng, words, other))


def hypothetical(rng: random.Random, words: lex.Lexicon, said: Fact, good: bool) -> Words:
    """Because the author laughed , the judge waited -> The author laughed; -/-> after `if` or `unless`."""
    opening = pick(rng, lex.CONNECTIVES[:3] if good else lex.HYPOTHETICAL)
    clauses = (_dressed(rng, words, said, 0.15), _dressed(rng, words, new_fact(rng, words, said), 0.15))
    return [opening, *_in_order(rng, clauses[0], ",", clauses[1])]


TELLINGS = by_name(modifier, conjoined_subject, conjoined_object, two_clauses, prepositional, longer)
TRAPS = by_name(swap, passive, prepositional_subject, relative_clause, recombined, hypothetical)
IN_DOMAIN = tuple(TELLINGS)[:-1]
OOD = ("held_out_words", "longer", *TRAPS)
INTRANSITIVE = {"two_clauses": 0.3, "hypothetical": 0.3}
"""Chance of an intransitive hypothesis, where a construction can tell one."""

PREMISES = 20  # Premises drawn around one hypothesis before another is drawn.


def rows(part: str, ood: bool, size: int, rng: random.Random, difficulty: lex.Difficulty) -> list[BuiltinRow]:
    """Rows with `premise`, `hypothesis`, `label`, `construction`, `heuristic`; both texts belong to `part`.

    `heuristic` says whether word overlap tells the label (`holds`) or is full although nothing is entailed, or under
    both labels (`fails`).
    """
    core, far = difficulty.words, difficulty.ood_distance if ood else 0.0
    weak = 0.0 if ood else 1 - difficulty.overlap_strength

    def make(construction: str, label: str) -> BuiltinRow | None:
        words, inner = (lex.HELD_OUT if far and rng.random() < far else core), construction
        if construction == "held_out_words":
            words, inner = lex.HELD_OUT, pick(rng, IN_DOMAIN)
        entailed = label == "entailment"
        fails = bool(weak) and not entailed and rng.random() < weak
        said = _fact(rng, words, 0.0 if fails else INTRANSITIVE.get(inner, 0.0))
        hypothesis = " ".join([*say(said), "."])
        if part_of(hypothesis) != part:
            return None
        for _ in range(PREMISES):
            if inner in TRAPS:
                told = TRAPS[inner](rng, words, said, entailed)
            else:  # where the shortcut fails, the roles are exchanged
                fact = said if entailed else said.reversed if fails else _altered(rng, words, said)
                told = TELLINGS[inner](rng, words, fact, said)
            premise = " ".join([*told, "."])
            if part_of(premise) == part:
                break
        else:
            return None
        heuristic = "fails" if fails or construction in TRAPS else "holds"
        texts = {"premise": premise, "hypothesis": hypothesis}
        return texts | {"label": label, "construction": construction, "heuristic": heuristic}

    return balanced("overlap", OOD if ood else IN_DOMAIN, LABELS, size, rng, make, ("premise", "hypothesis"))
