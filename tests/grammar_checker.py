"""Labels derived again from the words alone, by a parser that knows nothing of how the sentences were made.

Used by the tests. It shares with the generator only the lexicon's word forms.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from effft.tasks.builtin import lexicon as lex


class Fact(NamedTuple):
    """Who did what to whom, by word forms as written; `patient` is '' without an object."""

    agent: str
    verb: str
    patient: str


class NounPhrase(NamedTuple):
    """Nouns of a noun phrase and its number. heads: who is said to act (two when coordinated)."""

    heads: tuple[str, ...]
    plural: bool


NUMBER = {form: number for noun in lex.EVERY_WORD.nouns for number, form in enumerate(noun)}
VERBS: dict[str, set[int]] = {}
for _verb in lex.EVERY_WORD.transitive + lex.EVERY_WORD.intransitive:
    for _place, _form in enumerate(_verb):
        VERBS.setdefault(_form, set()).add(_place)
SINGULAR_HELPERS = {"is", "was", "has", "does"}
PLURAL_HELPERS = {"are", "were", "have", "do"}
NEEDS = {"has": 2, "have": 2, "does": 0, "do": 0, "did": 0} | dict.fromkeys(lex.MODALS, 0)
ADJECTIVES = set(lex.EVERY_WORD.adjectives)
DETERMINERS = {"the": None} | dict.fromkeys(lex.DETERMINERS[False], False) | dict.fromkeys(lex.DETERMINERS[True], True)


@dataclass
class Reading:
    """What one sentence says (`facts`, those it asserts) and how many faults it has."""

    words: list[str]
    at: int = 0
    faults: int = 0
    facts: list[Fact] = field(default_factory=list)

    def _peek(self, ahead: int = 0) -> str:
        place = self.at + ahead
        return self.words[place] if place < len(self.words) else "."

    def _take(self) -> str:
        self.at += 1
        return self.words[self.at - 1]

    def _expect(self, word: str) -> None:
        if self._peek() != word:
            raise ValueError(f"{word!r} expected at word {self.at} of {' '.join(self.words)!r}.")
        self.at += 1

    # ---- grammar ----

    def sentence(self) -> "Reading":
        """Parse the whole sentence.

        Raises:
            ValueError: the words are no sentence of this grammar.
        """
        asserted = True
        if self._peek() in (*lex.CONNECTIVES, *lex.HYPOTHETICAL):
            asserted = self._take() not in lex.HYPOTHETICAL
        self._clause(asserted)
        while self._peek() in (*lex.CONNECTIVES, ","):
            self._take()
            self._clause(asserted)
        self._expect(".")
        if self.at != len(self.words):
            raise ValueError(f"words after the full stop in {' '.join(self.words)!r}.")
        return self

    def _clause(self, asserted: bool) -> None:
        if self._peek() == "there":
            self._take()
            helper = self._take()
            self._agree(helper, self._noun_phrase(asserted).plural)
            return
        if self._peek() in lex.PREPOSITIONS:
            self._take()
            self._simple_phrase()
            helper = self._take()
            self._agree(helper, self._simple_phrase().plural)
            return
        self._predicate(self._noun_phrase(asserted), asserted)
        if self._peek() in lex.PREPOSITIONS:
            self._take()
            self._simple_phrase()

    def _simple_phrase(self) -> NounPhrase:
        determiner = self._take()
        if determiner not in DETERMINERS:
            raise ValueError(f"determiner expected, not {determiner!r}, in {' '.join(self.words)!r}.")
        while self._peek() in ADJECTIVES:
            self._take()
        noun = self._take()
        plural, wanted = bool(NUMBER[noun]), DETERMINERS[determiner]
        self.faults += wanted is not None and wanted != plural
        return NounPhrase((noun,), plural)

    def _noun_phrase(self, asserted: bool) -> NounPhrase:
        phrase = self._simple_phrase()
        if self._peek() == "and" and self._continues_phrase():
            self._take()
            other = self._simple_phrase()
            return NounPhrase(phrase.heads + other.heads, True)
        if self._peek() in lex.PREPOSITIONS:
            self._take()
            self._simple_phrase()
        if self._peek() == "that" and self._peek(1) in VERBS:
            self._take()
            verb, patient = self._take(), self._simple_phrase()
            if asserted:
                self.facts.append(Fact(phrase.heads[0], verb, patient.heads[0]))
        return phrase

    def _continues_phrase(self) -> bool:
        """Whether `and` joins nouns: what follows its second noun phrase is not that phrase's own verb.

        For a subject the next word is the verb of both, so the first phrase must not have had a verb before it.
        """
        return not self._verb_before() or not self._verb_after(1)

    def _verb_before(self) -> bool:
        start = max((i for i, w in enumerate(self.words[: self.at]) if w in (*lex.CONNECTIVES, ",")), default=-1)
        return any(
            w in VERBS or w in NEEDS or w in SINGULAR_HELPERS | PLURAL_HELPERS for w in self.words[start + 1 : self.at]
        )

    def _verb_after(self, ahead: int) -> bool:
        place = ahead
        while self._peek(place) in DETERMINERS or self._peek(place) in ADJECTIVES or self._peek(place) in NUMBER:
            place += 1
        while self._peek(place) in lex.MIDDLE_ADVERBS:
            place += 1
        word = self._peek(place)
        return word in VERBS or word in NEEDS or word in SINGULAR_HELPERS | PLURAL_HELPERS

    def _agree(self, helper: str, plural: bool) -> None:
        self.faults += helper in (SINGULAR_HELPERS if plural else PLURAL_HELPERS)

    def _predicate(self, subject: NounPhrase, asserted: bool) -> None:
        while self._peek() in lex.MIDDLE_ADVERBS:
            self._take()
        helper = self._peek()
        form: int | None = None
        if helper in NEEDS or helper in SINGULAR_HELPERS | PLURAL_HELPERS:
            self._take()
            self._agree(helper, subject.plural)
            if self._peek() == "not":
                self._take()
            if self._peek() in ADJECTIVES:
                self._take()
                return self._tail()
            form = NEEDS.get(helper, 3)
        self._verb(subject, form, asserted)

    def _verb(self, subject: NounPhrase, form: int | None, asserted: bool) -> None:
        verb = self._take()
        if verb not in VERBS:
            raise ValueError(f"verb expected, not {verb!r}, in {' '.join(self.words)!r}.")
        if self._peek() == "by":
            self._take()
            agent = self._simple_phrase()
            if asserted:
                self.facts.append(Fact(agent.heads[0], verb, subject.heads[0]))
            return self._tail()
        if form is None:
            self.faults += 2 not in VERBS[verb] and (1 if not subject.plural else 0) not in VERBS[verb]
        else:
            self.faults += form not in VERBS[verb]
        patients: tuple[str, ...] = ("",)
        if self._peek() in DETERMINERS:
            patients = self._objects()
        elif self._peek() in ("himself", "herself", "themselves"):
            self.faults += (self._take() == "themselves") != subject.plural
        if asserted:
            self.facts += [Fact(agent, verb, patient) for agent in subject.heads for patient in patients]
        self._tail()

    def _objects(self) -> tuple[str, ...]:
        first = self._simple_phrase()
        if self._peek() == "and" and not self._verb_after(1):
            self._take()
            return first.heads + self._simple_phrase().heads
        return first.heads

    def _tail(self) -> None:
        while self._peek() in lex.END_ADVERBS:
            self._take()


def agreement_label(sentence: str) -> str:
    """`acceptable` or `unacceptable`; more than one fault is a ValueError, as is a sentence outside the grammar."""
    faults = Reading(sentence.split()).sentence().faults
    if faults > 1:
        raise ValueError(f"{faults} faults in {sentence!r}.")
    return "unacceptable" if faults else "acceptable"


def overlap_label(premise: str, hypothesis: str) -> str:
    """`entailment` when the premise asserts the hypothesis's one fact."""
    (said,) = Reading(hypothesis.split()).sentence().facts
    told = Reading(premise.split()).sentence().facts
    return "entailment" if said in told else "non_entailment"


def overlaps(premise: str, hypothesis: str) -> bool:
    """Whether every word of the hypothesis occurs in the premise: the heuristic."""
    return set(hypothesis.split()) <= set(premise.split())
