"""Rows of pre-training text, by source. A row is words with a weight for the prediction of each."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from effft.tasks.builtin import lexicon as lex
from effft.tasks.builtin.grammar import Words, pick
from effft.tiny_lm import relations, sentences
from effft.tiny_lm.vocabulary import BOS, EOS, LABEL_WORDS, LIST_QUESTIONS, PAIR_QUESTIONS, SENTENCE_QUESTIONS, question

DESCRIBED = SENTENCE_QUESTIONS[:6]
"""Questions about a correct sentence; the others ask whether and how a sentence is broken."""

FORMS = ("singular", "plural", "base", "third", "past", "ing", "adjective")


@dataclass
class TextRow:
    """Words and the weight of each in the loss. Nothing predicts the first word, so its weight is 0."""

    words: Words = field(default_factory=lambda: [BOS])
    weights: list[float] = field(default_factory=lambda: [0.0])

    def add(self, words: Words, weight: float = 1.0) -> "TextRow":
        """Append words that all have this weight."""
        self.words += words
        self.weights += [weight] * len(words)
        return self


# ---- a text and the answer to one question about it; both answers are equally frequent ---------------------------


def answered_text(rng: random.Random, name: str) -> tuple[Words, bool]:
    """A text (one sentence, two, or two lists) and the answer to the question `name` about it."""
    if name not in SENTENCE_QUESTIONS:
        return relations.listed(rng, name) if name in LIST_QUESTIONS else relations.related(rng, name)
    wanted = rng.random() < 0.5
    if name in DESCRIBED:
        while True:
            words, facts = sentences.described(rng)
            if facts[name] == wanted:
                return words, wanted
    if not wanted:
        return sentences.whole_past(rng), False
    return sentences.broken(rng, pick(rng, sentences.NEUTRAL_BREAKS) if name == "broken" else name), True


# ---- short rows -------------------------------------------------------------------------------------------------


def plain_text(rng: random.Random) -> TextRow:
    """A correct sentence, or two."""
    row = TextRow().add(sentences.plain(rng))
    return (row.add(sentences.plain(rng)) if rng.random() < 0.3 else row).add([EOS])


def repaired(rng: random.Random) -> TextRow:
    """A sentence with a slip and its repair; noticing the slip counts more than the words around it."""
    row = TextRow().add(sentences.repaired(rng)).add([EOS])
    row.weights[row.words.index("uh")] = 3.0
    return row


def marked(rng: random.Random) -> TextRow:
    """Two lists, the second marked word by word."""
    return TextRow().add(relations.marked_lists(rng))


def named(rng: random.Random, names: tuple[str, ...]) -> TextRow:
    """A text and one of the questions by its name, answered Yes or No."""
    name = pick(rng, names)
    words, answer = answered_text(rng, name)
    return TextRow().add(words, 0.3).add([question(name), "?"], 0.0).add(["Yes" if answer else "No"], 3.0)


# ---- episodes: solved examples of one question, with label words and polarity of their own -----------------------


def episode(rng: random.Random, names: tuple[str, ...], count: int, told: bool) -> TextRow:
    """`count` texts, each followed by `?` and its answer in this episode's two label words.

    The answer to the first text cannot be known and does not count. told: name the question, which otherwise only
    the answers show.
    """
    name = pick(rng, names)
    answers = rng.sample(LABEL_WORDS, 2) if rng.random() < 0.7 else ["No", "Yes"]
    if rng.random() < 0.5:
        answers.reverse()
    row = TextRow()
    for number in range(count):
        words, answer = answered_text(rng, name)
        row.add(words, 0.1).add([question(name), "?"] if told else ["?"], 0.0)
        row.add([answers[answer]], 1.0 if number else 0.0)
    return row


def _drill(rng: random.Random, kinds: int, rounds: int, ask: Callable[[int], Words], answers: list[str]) -> TextRow:
    """`rounds` questions about one of some kinds; an answer counts once its kind has been answered before."""
    row, seen = TextRow(), set[int]()
    for _ in range(rounds):
        kind = int(rng.random() * kinds)
        row.add(ask(kind), 0.0).add([answers[kind % len(answers)]], float(kind in seen))
        seen.add(kind)
    return row


def pairs(rng: random.Random) -> TextRow:
    """A few words, each followed by its own answer, again and again: what makes copying heads form."""
    known = rng.sample(relations.EVERY_FORM, rng.randint(2, 5))
    return _drill(rng, len(known), 3 * len(known), lambda kind: [known[kind]], rng.sample(LABEL_WORDS, len(known)))


def recall(rng: random.Random) -> TextRow:
    """As `pairs`, as a question: the seed of in-context learning. Two answers, or one for every word."""
    known = rng.sample(relations.EVERY_FORM, rng.randint(2, 6))
    answers = rng.sample(LABEL_WORDS, 2 if rng.random() < 0.5 else len(known))
    return _drill(rng, len(known), 3 * len(known), lambda kind: [known[kind], ".", "?"], answers)


def classes(rng: random.Random) -> TextRow:
    """Words of two or three classes; the answer is the class."""
    kinds = rng.sample(FORMS, rng.randint(2, 3))
    answers = rng.sample(LABEL_WORDS, len(kinds))
    return _drill(rng, len(kinds), 20, lambda kind: [_form(rng, kinds[kind]), ".", "?"], answers)


def _form(rng: random.Random, kind: str) -> str:
    if kind == "adjective":
        return pick(rng, lex.EVERY_WORD.adjectives)
    if kind in FORMS[:2]:
        return pick(rng, lex.EVERY_WORD.nouns)[FORMS.index(kind)]
    return pick(rng, lex.EVERY_WORD.verbs)[FORMS.index(kind) - 2]


SOURCES: dict[str, Callable[[random.Random], TextRow]] = {
    "plain": plain_text,
    "repaired": repaired,
    "marked": marked,
    "named_lists": partial(named, names=LIST_QUESTIONS),
    "named_sentence": partial(named, names=SENTENCE_QUESTIONS),
    "named_pair": partial(named, names=PAIR_QUESTIONS),
    "pairs": pairs,
    "recall": recall,
    "classes": classes,
    "told_sentences": partial(episode, names=SENTENCE_QUESTIONS, count=18, told=True),
    "told_pairs": partial(episode, names=PAIR_QUESTIONS + LIST_QUESTIONS, count=14, told=True),
    "shown_sentences": partial(episode, names=SENTENCE_QUESTIONS, count=22, told=False),
    "shown_pairs": partial(episode, names=PAIR_QUESTIONS + LIST_QUESTIONS, count=17, told=False),
}
"""Source name (as in the recipe) -> a row."""
